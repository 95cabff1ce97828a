//! Lock waits between `consume`, grants, schedulers and the worker, and the results after the wait.

use tokio::task::JoinSet;

use super::calls::call;
use super::rows::{self, DUE, NEW, Rows, process};

#[tokio::test]
async fn a_locked_balance_delays_neither_worker_nor_other_renewals() {
    let rows = Rows::start().await;
    rows.subscribe("held", "w", "words 100, images 5", DUE).await;
    rows.subscribe("free", "v", "words 100", DUE).await;
    let mut product = rows.connect().await;
    sqlx::raw_sql("BEGIN").execute(&mut product).await.unwrap();
    call(&mut product, "grant_bonus(w, 'words', 10, 'bought')").await.unwrap();
    assert_eq!(
        call(&mut product, "consume(w, 'words', 201)").await,
        Ok(Some(9)),
        "locks the balance, the bonus and the ledger"
    );

    let mut worker = rows.connect().await;
    // a lock wait is an error here
    sqlx::raw_sql(
        "SET lock_timeout = '200ms';
        INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited)
            VALUES (md5('new')::uuid, md5('plan held')::uuid, 'agents', 2, false);
        INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('held')::uuid, clock_timestamp());
        SELECT billing.create_limits(ARRAY[md5('held')::uuid, md5('free')::uuid])",
    )
    .execute(&mut worker)
    .await
    .unwrap();
    assert_eq!(rows::renew(&mut worker).await, 1);
    let renewed = "SELECT s.stripe_subscription_id || ' ' || b.limit_key FROM billing.subscription_limits AS b
        JOIN billing.subscriptions AS s ON s.id = b.subscription_id WHERE renews_at > clock_timestamp() ORDER BY 1";
    assert_eq!(rows.lines(renewed).await, ["free words"]);
    assert_eq!(rows::renew(&mut worker).await, 0, "only the locked one is left");

    sqlx::raw_sql("COMMIT").execute(&mut product).await.unwrap();
    assert_eq!(rows::renew(&mut worker).await, 1);
    assert_eq!(rows.lines(renewed).await, ["free words", "held agents", "held images", "held words"]);
    assert_eq!(
        rows.balances().await,
        ["free words 100 0 0", "held agents 2 0 0", "held images 5 0 0", "held words 100 201 1"]
    );
}

/// More subscriptions are locked than a batch contains, each by one of its balances, and more marks than that exist.
#[tokio::test]
async fn any_number_of_locked_balances_leaves_the_others_renewed() {
    let rows = Rows::start().await;
    for sub in ["held_1", "held_2", "held_3"] {
        rows.subscribe(sub, sub, "words 100, images 5", DUE).await;
        for included in 1..=5 {
            rows.includes(sub, "words", included).await;
        }
    }
    rows.subscribe("due", "w", "words 100", DUE).await;
    rows.subscribe("changed", "v", "words 100", NEW).await;
    for included in 1..=5 {
        rows.includes("changed", "words", included).await;
    }
    let claim = "SELECT coalesce(string_agg(s.stripe_subscription_id, ' ' ORDER BY s.stripe_subscription_id), '')
        FROM unnest(billing.claim_limits(clock_timestamp(), 2)) AS claimed (id) JOIN billing.subscriptions AS s USING (id)";
    for key in ["images", "words"] {
        let mut product = rows.connect().await;
        let hold = format!(
            "BEGIN; SELECT FROM billing.subscription_limits AS b JOIN billing.subscriptions AS s ON s.id = b.subscription_id
                WHERE s.stripe_subscription_id LIKE 'held%' AND b.limit_key = '{key}' FOR UPDATE OF b"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(hold)).execute(&mut product).await.unwrap();
        assert_eq!(rows.lines(claim).await, ["changed due"], "{key} are locked");
    }
}

/// Both callers waited for a balance that is used up by then. Neither may keep its lock while it takes the slow path,
/// which needs both balances.
#[tokio::test]
async fn two_limits_used_up_at_once_do_not_deadlock() {
    let rows = Rows::with("words 100, images 5").await;
    let mut first = rows.connect().await;
    for limit in ["words", "images"] {
        call(&mut first, &format!("grant_bonus(w, '{limit}', 3, 'bought')")).await.unwrap();
    }
    sqlx::raw_sql("BEGIN").execute(&mut first).await.unwrap();
    call(&mut first, "consume(w, 'images', 5)").await.unwrap();
    call(&mut first, "consume(w, 'words', 100)").await.unwrap();
    let mut waiting = JoinSet::new();
    for limit in ["words", "images", "words", "images"] {
        let mut conn = rows.connect().await;
        let waits = process(&mut conn).await;
        waiting.spawn(async move { call(&mut conn, &format!("consume(w, '{limit}', 1)")).await });
        rows.until_blocked(waits).await;
    }
    sqlx::raw_sql("COMMIT").execute(&mut first).await.unwrap();
    let mut left: Vec<i64> = waiting.join_all().await.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 1, 2, 2]);
}

/// The callers lock different balances and the same bonus.
#[tokio::test]
async fn two_subscriptions_of_a_workspace_wait_for_their_bonus() {
    let rows = Rows::with("words 100").await;
    let (mut one, mut two) = (rows.connect().await, rows.connect().await);
    call(&mut one, "grant_bonus(w, 'words', 50, 'bought')").await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut one).await.unwrap();
    assert_eq!(call(&mut one, "consume(w, 'words', 140)").await, Ok(Some(10)));
    rows.subscribe("newer", "w", "words 20", "clock_timestamp()").await;
    let waits = process(&mut two).await;
    let waiting = tokio::spawn(async move {
        let answers =
            [call(&mut two, "consume(w, 'words', 31)").await, call(&mut two, "consume(w, 'words', 30)").await];
        answers.map(|answer| answer.map_err(|refusal| (refusal.code, refusal.detail)))
    });
    rows.until_blocked(waits).await;
    sqlx::raw_sql("COMMIT").execute(&mut one).await.unwrap();
    assert_eq!(waiting.await.unwrap(), [Err(("LM001".to_owned(), Some("30".to_owned()))), Ok(Some(0))]);
    assert_eq!(rows.balances().await, ["newer words 0 30 10", "sub words 0 140 40"]);
    assert_eq!(rows.bonuses().await, ["words 0"]);
}

/// A call that waits until the period ends uses the next period, on the fast path of `consume` and on the slow one.
#[tokio::test]
async fn a_wait_across_a_renewal_uses_the_new_period() {
    let rows = Rows::start().await;
    for (amount, left) in [(10, 189), (150, 49)] {
        rows.forget_everything().await;
        let (mut before, mut after) = (rows.connect().await, rows.connect().await);
        rows.subscribe("sub", "w", "words 100", "billing.renewal_at(clock_timestamp() + interval '1 s', -48)").await;
        rows::renew(&mut before).await;
        rows.execute("UPDATE billing.subscription_limits SET spillover = 0").await;
        sqlx::raw_sql("BEGIN").execute(&mut before).await.unwrap();
        assert_eq!(call(&mut before, "consume(w, 'words', 1)").await, Ok(Some(99)));
        let waiting = process(&mut after).await;
        let waits = tokio::spawn(async move { call(&mut after, &format!("consume(w, 'words', {amount})")).await });
        rows.until_blocked(waiting).await;
        assert_eq!(rows.lines(DUE_NOW).await, ["0"], "the wait began in the old period");
        while rows.lines(DUE_NOW).await == ["0"] {
            tokio::task::yield_now().await;
        }
        sqlx::raw_sql("COMMIT").execute(&mut before).await.unwrap();
        assert_eq!(waits.await.unwrap(), Ok(Some(left)));
        assert_eq!(rows.balances().await, [format!("sub words 99 {amount} 0")]);
    }
}

const DUE_NOW: &str = "SELECT count(*)::text FROM billing.subscription_limits WHERE renews_at <= clock_timestamp()";

/// A late event of the time before the first known period is committed between two statements of `renew_limits`.
#[tokio::test]
async fn a_change_during_a_renewal_is_not_lost() {
    let rows = Rows::start().await;
    rows.subscribe("sub", "w", "words 100", NEW).await;
    // it began three months ago, but no event of that time is known yet
    rows.execute(
        "UPDATE billing.subscriptions SET started_at = billing.renewal_at(started_at, -3);
        INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('sub')::uuid, clock_timestamp());
        ALTER FUNCTION billing.prepend_limit_periods(uuid[]) RENAME TO original_prepend_limit_periods;
        CREATE FUNCTION billing.prepend_limit_periods(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM billing.original_prepend_limit_periods(ids);
            PERFORM pg_advisory_xact_lock(1);
        END $$",
    )
    .await;
    let (mut test, mut scheduler) = (rows.connect().await, rows.connect().await);
    sqlx::raw_sql("SELECT pg_advisory_lock(1)").execute(&mut test).await.unwrap();
    let pid = process(&mut scheduler).await;
    let renewing = tokio::spawn(async move {
        rows::renew(&mut scheduler).await;
        scheduler
    });
    rows.until_blocked(pid).await;
    rows.execute(
        "INSERT INTO billing.subscription_timeline
            (account, subscription_id, stated_at, effective_from, source, status, payment_paused, price_ids, quantities, start_date)
            SELECT '', 'sub', started_at, started_at, 'evt_late', 'active', false, ARRAY[stripe_price_id], '{1}', started_at FROM billing.subscriptions;
        INSERT INTO billing.limit_recalculations (subscription_id, since) SELECT id, started_at FROM billing.subscriptions",
    )
    .await;
    sqlx::raw_sql("SELECT pg_advisory_unlock(1)").execute(&mut test).await.unwrap();
    let mut scheduler = renewing.await.unwrap();
    rows::renew(&mut scheduler).await;
    let ledger = "SELECT outcome || ' ' || spilled_over FROM billing.limit_renewals ORDER BY period_end";
    assert_eq!(rows.lines(ledger).await, ["renewed 100", "renewed 100", "renewed 100"]);
    assert_eq!(rows.lines("SELECT count(*)::text FROM billing.limit_recalculations").await, ["0"]);
}

/// A grant before a use would lock the bonus before the balance, if `grant_bonus` did not lock the balance first.
#[tokio::test]
async fn a_grant_then_consume_in_one_transaction_does_not_deadlock() {
    let rows = Rows::with("words 100").await;
    let (mut shop, mut other) = (rows.connect().await, rows.connect().await);
    call(&mut shop, "grant_bonus(w, 'words', 10, 'bought')").await.unwrap();
    call(&mut shop, "consume(w, 'words', 100)").await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut shop).await.unwrap();
    assert_eq!(call(&mut shop, "grant_bonus(w, 'words', 50, 'bought')").await, Ok(Some(60)));
    let waiting = process(&mut other).await;
    let concurrent = tokio::spawn(async move { call(&mut other, "consume(w, 'words', 5)").await });
    rows.until_blocked(waiting).await;
    assert_eq!(call(&mut shop, "consume(w, 'words', 20)").await, Ok(Some(40)));
    sqlx::raw_sql("COMMIT").execute(&mut shop).await.unwrap();
    assert_eq!(concurrent.await.unwrap(), Ok(Some(35)));
}
