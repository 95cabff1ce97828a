//! Many at once on one workspace, across a renewal, beside schedulers and grants: what everybody was told adds up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::calls::{Refusal, call};
use super::rows::{NEW, Rows, process};

/// What one caller was given of each limit, and how often nothing.
#[derive(Default)]
struct Told {
    given: BTreeMap<&'static str, i64>,
    refused: u32,
    /// The answers to calls with idempotency keys.
    answers: HashMap<String, Option<i64>>,
}

impl Told {
    /// Uses some of a limit, now with an idempotency key that another caller names too, now without.
    async fn consume(&mut self, conn: &mut PgConnection, limit: &'static str, amount: i64, key: Option<String>) {
        let named = key.as_ref().map_or_else(String::new, |key| format!(", '{key}'"));
        match call(conn, &format!("consume(w, '{limit}', {amount}{named})")).await {
            Ok(left) => {
                assert!(left.unwrap() >= 0, "{left:?} are left");
                *self.given.entry(limit).or_default() += if key.is_some() { 0 } else { amount };
                self.answers.extend(key.map(|key| (key, left)));
            }
            Err(Refusal { code, detail: Some(left), .. }) if code == "LM001" => {
                assert!(left.parse::<i64>().unwrap() < amount, "{amount} were asked for, {left} are left");
                self.refused += 1;
            }
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
}

/// A scheduler of another process, until it is told that all is over.
async fn renew(mut conn: PgConnection, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        renew_once(&mut conn).await;
    }
}

async fn renew_once(conn: &mut PgConnection) -> usize {
    sqlx::raw_sql("BEGIN").execute(&mut *conn).await.unwrap();
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT unnest(billing.claim_limits(clock_timestamp(), 100))")
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    sqlx::query("SELECT billing.bring_up($1, clock_timestamp())").bind(&ids).execute(&mut *conn).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(conn).await.unwrap();
    ids.len()
}

/// Grants and takes back, until all is over; returns what came of it.
async fn grant(mut conn: PgConnection, over: Arc<AtomicBool>) -> i64 {
    let mut granted = 0;
    while !over.load(Ordering::Relaxed) {
        for amount in [7, 5, -3, 11, -9] {
            match call(&mut conn, &format!("grant_bonus(w, 'words', {amount}, 'a test')")).await {
                Ok(_) => granted += amount,
                Err(refusal) => assert!(refusal.code == "22023" && amount < 0, "{refusal:?}"),
            }
        }
    }
    granted
}

/// What callers of both kinds were given: a call that two of them made with one key counts once, and is answered alike.
fn add_up(all: Vec<Told>) -> (BTreeMap<&'static str, i64>, u32) {
    let (mut given, mut refused) = (BTreeMap::new(), 0);
    let mut answers: HashMap<String, Option<i64>> = HashMap::new();
    for told in all {
        refused += told.refused;
        for (limit, amount) in told.given {
            *given.entry(limit).or_default() += amount;
        }
        for (key, answer) in told.answers {
            match answers.get(&key) {
                Some(before) => assert_eq!(*before, answer, "{key} was answered otherwise"),
                None => {
                    *given.entry("words").or_default() += KEYED;
                    answers.insert(key, answer);
                }
            }
        }
    }
    (given, refused)
}

/// What is used by each call with an idempotency key.
const KEYED: i64 = 2;

/// What the rows say was used of a limit, in all periods and subscriptions, and how much of that was bonus.
const USED: &str = "SELECT limit_key || ' ' || sum(used) || ' ' || sum(bonus_used) FROM (
    SELECT limit_key, used, bonus_used FROM billing.limit_renewals
    UNION ALL SELECT limit_key, used, bonus_used FROM billing.subscription_limits) AS period
    GROUP BY limit_key ORDER BY limit_key";

/// Periods in which more was used than there was.
const OVERDRAWN: &str = "SELECT to_jsonb(period)::text FROM (
    SELECT limit_key, included, spillover, used, bonus_used FROM billing.limit_renewals
    UNION ALL SELECT limit_key, included, spillover, used, bonus_used FROM billing.subscription_limits) AS period
    WHERE used > included + spillover + bonus_used OR bonus_used > greatest(0, used - spillover - included)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_both_sides_of_a_renewal_lose_nothing_and_are_given_nothing_twice() {
    let rows = Rows::start().await;
    let over = Arc::new(AtomicBool::new(false));
    let (mut conns, mut beside, mut grants) = (Vec::new(), JoinSet::new(), JoinSet::new());
    for _ in 0..32 {
        conns.push(rows.connect().await);
    }
    let schedulers = [rows.connect().await, rows.connect().await];
    let granter = rows.connect().await;
    // the words do not last until the renewal, the images do
    rows.subscribe(
        "sub",
        "w",
        "words 200, images 1000000",
        "billing.renewal_at(clock_timestamp() + interval '2 s', -48)",
    )
    .await;
    // up to the last renewal but the one that is to come
    renew_once(&mut rows.connect().await).await;
    assert_eq!(rows.lines("SELECT count(*)::text FROM billing.limit_renewals").await, ["94"]);
    for conn in schedulers {
        beside.spawn(renew(conn, over.clone()));
    }
    grants.spawn(grant(granter, over.clone()));

    let mut callers = JoinSet::new();
    for (caller, mut conn) in conns.into_iter().enumerate() {
        callers.spawn(async move {
            let mut told = Told::default();
            let mut after = 0;
            for round in 0_i64.. {
                told.consume(&mut conn, "images", 1 + round % 3, None).await;
                told.consume(&mut conn, "words", 1 + round % 4, None).await;
                // callers come in pairs, as a request and its repetition do
                told.consume(&mut conn, "words", KEYED, Some(format!("{} {round}", caller / 2))).await;
                let renewed = "SELECT bool_and(renews_at > clock_timestamp() + interval '1 day') FROM billing.subscription_limits";
                after += i32::from(sqlx::query_scalar::<_, bool>(renewed).fetch_one(&mut conn).await.unwrap());
                if after == 5 {
                    break;
                }
            }
            told
        });
    }
    let (given, refused) = add_up(callers.join_all().await);
    over.store(true, Ordering::Relaxed);
    beside.join_all().await;
    let granted: i64 = grants.join_all().await.into_iter().sum();

    let used = rows.lines(USED).await;
    let bonus_used: i64 = used[1].rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(used, [format!("images {} 0", given["images"]), format!("words {} {bonus_used}", given["words"])]);
    let left: i64 = rows.bonuses().await.concat().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(left + bonus_used, granted, "what was granted is left or was used");
    assert_eq!(rows.lines(OVERDRAWN).await, Vec::<String>::new());
    // it has been what it is called
    assert!(refused > 0 && bonus_used > 0, "{refused} refused, {bonus_used} of the bonus");
    let both = "SELECT min(used)::text || ' ' || count(*) FROM (
        SELECT used FROM billing.subscription_limits UNION ALL
        SELECT used FROM billing.limit_renewals WHERE period_end > clock_timestamp() - interval '1 hour') AS period WHERE used > 0";
    let both = rows.lines(both).await.concat();
    assert!(both.ends_with(" 4"), "both limits were used before and after the renewal: {both}");
}

/// Which of two subscriptions counts changes all the time; their bonus is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bonus_of_two_subscriptions_is_not_spent_twice_while_they_take_turns() {
    let rows = Rows::with("words 100").await;
    rows.subscribe("newer", "w", "words 20", "clock_timestamp()").await;
    call(&mut rows.connect().await, "grant_bonus(w, 'words', 200, 'a test')").await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut beside = JoinSet::new();
    beside.spawn(renew(rows.connect().await, over.clone()));
    let mut callers = JoinSet::new();
    let left_to_do = Arc::new(AtomicI64::new(16));
    for _ in 0..16 {
        let (mut conn, left_to_do) = (rows.connect().await, left_to_do.clone());
        callers.spawn(async move {
            let mut told = Told::default();
            for round in 0..20 {
                told.consume(&mut conn, "words", 1 + round % 3, None).await;
            }
            left_to_do.fetch_sub(1, Ordering::Relaxed);
            told
        });
    }
    let mut turns = 0;
    while left_to_do.load(Ordering::Relaxed) > 0 {
        for status in ["canceled", "active"] {
            rows.becomes("newer", status).await;
        }
        turns += 1;
    }
    let (given, refused) = add_up(callers.join_all().await);
    over.store(true, Ordering::Relaxed);
    beside.join_all().await;

    let used = rows.lines(USED).await.concat();
    let bonus_used: i64 = used.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(used, format!("words {} {bonus_used}", given["words"]));
    assert_eq!(rows.bonuses().await, [format!("words {}", 200 - bonus_used)]);
    assert_eq!(rows.lines(OVERDRAWN).await, Vec::<String>::new());
    assert!(turns > 1 && refused > 0 && bonus_used > 0, "{turns} turns, {refused} refused, {bonus_used} of the bonus");
}

#[tokio::test]
async fn who_holds_a_balance_holds_up_neither_the_worker_nor_the_renewal_of_others() {
    let rows = Rows::start().await;
    let due = "billing.renewal_at(clock_timestamp() - interval '1 hour', -1)";
    rows.subscribe("held", "w", "words 100, images 5", due).await;
    rows.subscribe("free", "v", "words 100", due).await;
    let mut product = rows.connect().await;
    sqlx::raw_sql("BEGIN").execute(&mut product).await.unwrap();
    call(&mut product, "grant_bonus(w, 'words', 10, 'bought')").await.unwrap();
    assert_eq!(
        call(&mut product, "consume(w, 'words', 201)").await,
        Ok(Some(9)),
        "the balance, the bonus and the ledger are held"
    );

    let mut worker = rows.connect().await;
    // a lock that is waited for is an error here
    sqlx::raw_sql(
        "SET lock_timeout = '200ms';
        INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited)
            VALUES (md5('new')::uuid, md5('plan held')::uuid, 'agents', 2, false);
        INSERT INTO billing.limit_changes (subscription_id, since) VALUES (md5('held')::uuid, clock_timestamp());
        SELECT billing.begin_limits(ARRAY[md5('held')::uuid, md5('free')::uuid])",
    )
    .execute(&mut worker)
    .await
    .unwrap();
    assert_eq!(renew_once(&mut worker).await, 1);
    let renewed = "SELECT s.stripe_subscription_id || ' ' || b.limit_key FROM billing.subscription_limits AS b
        JOIN billing.subscriptions AS s ON s.id = b.subscription_id WHERE renews_at > clock_timestamp() ORDER BY 1";
    assert_eq!(rows.lines(renewed).await, ["free words"]);
    assert_eq!(renew_once(&mut worker).await, 0, "there is nothing but what is held");

    sqlx::raw_sql("COMMIT").execute(&mut product).await.unwrap();
    assert_eq!(renew_once(&mut worker).await, 1);
    assert_eq!(rows.lines(renewed).await, ["free words", "held agents", "held images", "held words"]);
    assert_eq!(
        rows.balances().await,
        ["free words 100 0 0", "held agents 2 0 0", "held images 5 0 0", "held words 100 201 1"]
    );
}

/// Both waited for a balance which is no longer as it should be: neither may keep it while it goes the long way, on which
/// it needs them both.
#[tokio::test]
async fn two_limits_that_are_used_up_at_once_are_not_waited_for_crosswise() {
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

/// What waits until the month is over belongs to the next one, by the short way of consume and the long one alike.
#[tokio::test]
async fn who_waits_across_a_renewal_uses_up_the_month_that_has_begun() {
    for (asked, left) in [(10, 189), (150, 49)] {
        let rows = Rows::start().await;
        let (mut before, mut after) = (rows.connect().await, rows.connect().await);
        rows.subscribe("sub", "w", "words 100", "billing.renewal_at(clock_timestamp() + interval '1 s', -48)").await;
        renew_once(&mut before).await;
        rows.execute("UPDATE billing.subscription_limits SET spillover = 0").await;
        sqlx::raw_sql("BEGIN").execute(&mut before).await.unwrap();
        assert_eq!(call(&mut before, "consume(w, 'words', 1)").await, Ok(Some(99)));
        let waiting = process(&mut after).await;
        let waits = tokio::spawn(async move { call(&mut after, &format!("consume(w, 'words', {asked})")).await });
        rows.until_blocked(waiting).await;
        assert_eq!(rows.lines(DUE_NOW).await, ["0"], "it began to wait in the month before");
        while rows.lines(DUE_NOW).await == ["0"] {
            tokio::task::yield_now().await;
        }
        sqlx::raw_sql("COMMIT").execute(&mut before).await.unwrap();
        assert_eq!(waits.await.unwrap(), Ok(Some(left)));
        assert_eq!(rows.balances().await, [format!("sub words 99 {asked} 0")]);
    }
}

const DUE_NOW: &str = "SELECT count(*)::text FROM billing.subscription_limits WHERE renews_at <= clock_timestamp()";

/// A late event of the time before the first known period, told between two statements of bring_up.
#[tokio::test]
async fn what_becomes_known_while_a_balance_is_brought_up_is_not_forgotten() {
    let rows = Rows::start().await;
    rows.subscribe("sub", "w", "words 100", NEW).await;
    // it began three months ago, of which nobody has told yet
    rows.execute(
        "UPDATE billing.subscriptions SET started_at = billing.renewal_at(started_at, -3);
        INSERT INTO billing.limit_changes (subscription_id, since) VALUES (md5('sub')::uuid, clock_timestamp());
        ALTER FUNCTION billing.begin_earlier(uuid[]) RENAME TO begin_earlier_itself;
        CREATE FUNCTION billing.begin_earlier(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM billing.begin_earlier_itself(ids);
            PERFORM pg_advisory_xact_lock(1);
        END $$",
    )
    .await;
    let (mut test, mut scheduler) = (rows.connect().await, rows.connect().await);
    sqlx::raw_sql("SELECT pg_advisory_lock(1)").execute(&mut test).await.unwrap();
    let at_work = process(&mut scheduler).await;
    let renewing = tokio::spawn(async move {
        renew_once(&mut scheduler).await;
        scheduler
    });
    rows.until_blocked(at_work).await;
    rows.execute(
        "INSERT INTO billing.subscription_timeline
            (account, subscription_id, effective_from, source, status, payment_paused, stripe_price_id, start_date)
            SELECT '', 'sub', started_at, 'evt_late', 'active', false, stripe_price_id, started_at FROM billing.subscriptions;
        INSERT INTO billing.limit_changes (subscription_id, since) SELECT id, started_at FROM billing.subscriptions",
    )
    .await;
    sqlx::raw_sql("SELECT pg_advisory_unlock(1)").execute(&mut test).await.unwrap();
    let mut scheduler = renewing.await.unwrap();
    renew_once(&mut scheduler).await;
    let ledger = "SELECT outcome || ' ' || spilled_over FROM billing.limit_renewals ORDER BY period_end";
    assert_eq!(rows.lines(ledger).await, ["renewed 100", "renewed 100", "renewed 100"]);
    assert_eq!(rows.lines("SELECT count(*)::text FROM billing.limit_changes").await, ["0"]);
}
