//! The bonus of a workspace, and the release of capacity: `grant_bonus` and `release`.

use super::calls::{call, refused};
use super::rows::{self, DUE, NEW, Rows};

#[tokio::test]
async fn a_grant_records_its_reason_and_user() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    assert_eq!(call(conn, "grant_bonus(w, 'words', 50, 'bought')").await, Ok(Some(50)));
    assert_eq!(call(conn, "grant_bonus(w, 'words', 20, 'sorry')").await, Ok(Some(70)));
    assert_eq!(call(conn, "grant_bonus(w, 'words', -30, 'paid back')").await, Ok(Some(40)));
    assert_eq!(call(conn, "grant_bonus(v, 'images', 1, 'before its first subscription')").await, Ok(Some(1)));
    let grants = "SELECT concat_ws(' ', limit_key, amount, reason, granted_by = session_user) FROM billing.bonus_grants ORDER BY id";
    assert_eq!(
        rows.lines(grants).await,
        ["words 50 bought t", "words 20 sorry t", "words -30 paid back t", "images 1 before its first subscription t"]
    );
}

#[tokio::test]
async fn no_more_is_taken_back_than_is_left() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    call(conn, "grant_bonus(w, 'words', 50, 'bought')").await.unwrap();
    call(conn, "consume(w, 'words', 120)").await.unwrap();
    let Err(refusal) = call(conn, "grant_bonus(w, 'words', -31, 'paid back')").await else { panic!("20 are used") };
    assert_eq!((refusal.code.as_str(), refusal.detail.as_deref()), ("22023", Some("30 are left.")), "{refusal:?}");
    assert_eq!(call(conn, "grant_bonus(w, 'words', -30, 'paid back')").await, Ok(Some(0)));
    assert_eq!(rows.balances().await, ["sub words 0 120 20"], "what is used stays used");
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(0)));
    assert_eq!(rows.lines("SELECT count(*)::text FROM billing.bonus_grants").await, ["2"]);
}

#[tokio::test]
async fn a_renewal_keeps_the_rest_of_the_bonus_and_restores_none() {
    let rows = Rows::start().await;
    rows.subscribe("sub", "w", "words 100", DUE).await;
    rows.execute(
        "INSERT INTO billing.workspace_bonus VALUES (md5('w')::uuid, 'words', 30);
        UPDATE billing.subscription_limits SET used = 120, bonus_used = 20",
    )
    .await;
    let conn = &mut rows.connect().await;
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(130)));
    assert_eq!(call(conn, "consume(w, 'words', 130)").await, Ok(Some(0)));
    assert_eq!(
        (rows.balances().await, rows.bonuses().await.concat()),
        (vec!["sub words 0 130 30".to_owned()], "words 0".to_owned())
    );
    let ledger = "SELECT concat_ws(' ', outcome, used, bonus_used, spilled_over) FROM billing.limit_renewals";
    assert_eq!(rows.lines(ledger).await, ["renewed 120 20 0"]);
}

#[tokio::test]
async fn a_plan_change_counts_at_once_and_charges_no_bonus() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    call(conn, "consume(w, 'words', 60)").await.unwrap();
    rows.includes("sub", "words", 50).await;
    assert_eq!(refused(conn, "consume(w, 'words', 1)").await, "LM001", "less is left than before the plan change");
    assert_eq!(call(conn, "grant_bonus(w, 'words', 50, 'bought')").await, Ok(Some(50)));
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(50)), "the whole bonus is available at once");
    assert_eq!(call(conn, "consume(w, 'words', 30)").await, Ok(Some(20)));
    assert_eq!(
        (rows.balances().await.concat(), rows.bonuses().await.concat()),
        ("sub words 0 90 30".to_owned(), "words 20".to_owned())
    );
    // 60 are charged to the plan, so 25 of the new plan are left; bonus usage stays charged to the bonus
    rows.includes("sub", "words", 85).await;
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(45)));
    assert_eq!(rows::renew(conn).await, 1);
    assert_eq!(call(conn, "consume(w, 'words', 10)").await, Ok(Some(35)));
    assert_eq!(
        (rows.balances().await.concat(), rows.bonuses().await.concat()),
        ("sub words 0 100 30".to_owned(), "words 20".to_owned())
    );
    let seen = "SELECT concat_ws(' ', included, used, bonus, bonus_used, available) FROM billing.workspace_limits";
    assert_eq!(rows.lines(seen).await, ["85 100 50 30 35"]);
}

/// Example: 60,000 of 100,000 are used, the bonus is 5,000, and the new plan includes 10,000.
#[tokio::test]
async fn a_downgrade_after_use_leaves_the_whole_bonus() {
    for before in ["words 100000", "words unlimited"] {
        let rows = Rows::with(before).await;
        let conn = &mut rows.connect().await;
        call(conn, "grant_bonus(w, 'words', 5000, 'bought')").await.unwrap();
        call(conn, "consume(w, 'words', 60000)").await.unwrap();
        rows.execute("UPDATE billing.plan_limits SET unlimited = false").await;
        rows.includes("sub", "words", 10_000).await;
        assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(5000)), "{before}");
        assert_eq!(call(conn, "consume(w, 'words', 1000)").await, Ok(Some(4000)));
        assert_eq!(rows.balances().await, ["sub words 0 61000 1000"]);
        assert_eq!(rows.bonuses().await, ["words 4000"], "reduced only by what was consumed from it");
        assert_eq!(refused(conn, "consume(w, 'words', 4001)").await, "LM001");
    }
}

#[tokio::test]
async fn a_capacity_below_its_usage_leaves_the_whole_bonus() {
    let rows = Rows::with("members 10").await;
    let conn = &mut rows.connect().await;
    call(conn, "grant_bonus(w, 'members', 2, 'a gift')").await.unwrap();
    assert_eq!(call(conn, "consume(w, 'members', 8)").await, Ok(Some(4)));
    rows.includes("sub", "members", 5).await;
    assert_eq!(call(conn, "consume(w, 'members', 1)").await, Ok(Some(1)));
    assert_eq!(rows.bonuses().await, ["members 1"]);
    assert_eq!(call(conn, "release(w, 'members', 3)").await, Ok(Some(2)), "the bonus first");
    assert_eq!(
        (rows.balances().await.concat(), rows.bonuses().await.concat()),
        ("sub members 0 6 0".to_owned(), "members 2".to_owned())
    );
}

/// A workspace may have two subscriptions; they share one bonus.
#[tokio::test]
async fn a_bonus_shared_by_two_subscriptions_is_spent_once() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    call(conn, "grant_bonus(w, 'words', 50, 'bought')").await.unwrap();
    assert_eq!(call(conn, "consume(w, 'words', 140)").await, Ok(Some(10)));
    rows.subscribe("newer", "w", "words 20", "clock_timestamp()").await;
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(30)));
    assert_eq!(refused(conn, "consume(w, 'words', 31)").await, "LM001");
    assert_eq!(call(conn, "consume(w, 'words', 25)").await, Ok(Some(5)));
    rows.becomes("newer", "canceled").await;
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(5)));
    assert_eq!(refused(conn, "consume(w, 'words', 6)").await, "LM001");
    assert_eq!(call(conn, "consume(w, 'words', 5)").await, Ok(Some(0)));
    assert_eq!(rows.balances().await, ["newer words 0 25 5", "sub words 0 145 45"]);
    assert_eq!(rows.bonuses().await, ["words 0"]);
}

#[tokio::test]
async fn release_returns_the_bonus_first_and_capacity_never_renews() {
    let rows = Rows::start().await;
    rows.subscribe("sub", "w", "members 3", DUE).await;
    let conn = &mut rows.connect().await;
    call(conn, "grant_bonus(w, 'members', 2, 'a gift')").await.unwrap();
    assert_eq!(call(conn, "consume(w, 'members', 4)").await, Ok(Some(1)));
    assert_eq!(rows.bonuses().await, ["members 1"]);
    assert_eq!(call(conn, "release(w, 'members', 2)").await, Ok(Some(3)));
    assert_eq!(rows.bonuses().await, ["members 2"]);
    assert_eq!(rows.balances().await, ["sub members 0 2 0"]);
    assert_eq!(refused(conn, "release(w, 'members', 3)").await, "22023");
    // members can also leave while the subscription is unpaid
    rows.becomes("sub", "unpaid").await;
    assert_eq!(call(conn, "release(w, 'members', 1)").await, Ok(Some(4)));
    assert_eq!(rows.balances().await, ["sub members 0 1 0"]);
    let never = "SELECT (SELECT count(*) FROM billing.limit_renewals) || concat(' ', limit_renewal_date) FROM billing.workspace_limits";
    assert_eq!(rows.lines(never).await, ["0 "]);
}

/// Usage belongs to the subscription, so a release returns the bonus to the workspace that the subscription has then.
#[tokio::test]
async fn a_released_bonus_goes_to_the_current_workspace() {
    for others in [None, Some(7)] {
        let rows = Rows::with("members 3").await;
        let conn = &mut rows.connect().await;
        call(conn, "grant_bonus(w, 'members', 2, 'a gift')").await.unwrap();
        assert_eq!(call(conn, "consume(w, 'members', 5)").await, Ok(Some(0)));
        if let Some(amount) = others {
            call(conn, &format!("grant_bonus(v, 'members', {amount}, 'a gift')")).await.unwrap();
        }
        rows.execute("UPDATE billing.subscriptions SET workspace_id = md5('v')::uuid").await;
        let expected = 1 + others.unwrap_or_default();
        assert_eq!(call(conn, "release(v, 'members', 1)").await, Ok(Some(expected)));
        let left = "SELECT concat_ws(' ', CASE workspace_id WHEN md5('w')::uuid THEN 'w' ELSE 'v' END, amount)
            FROM billing.workspace_bonus ORDER BY 1";
        assert_eq!(rows.lines(left).await, [format!("v {expected}"), "w 0".to_owned()]);
        assert_eq!(call(conn, "release(v, 'members', 1)").await, Ok(Some(expected + 1)));
        assert_eq!(rows.balances().await, ["sub members 0 3 0"]);
    }
}

#[tokio::test]
async fn the_kind_of_a_limit_is_fixed_by_its_first_balance() {
    let rows = Rows::start().await;
    rows.execute("INSERT INTO billing.limit_kinds VALUES ('seats', 'capacity')").await;
    rows.subscribe("sub", "w", "seats 2, words 2", NEW).await;
    rows.execute("INSERT INTO billing.limit_kinds VALUES ('words', 'capacity')").await;
    let conn = &mut rows.connect().await;
    call(conn, "consume(w, 'seats', 1)").await.unwrap();
    call(conn, "consume(w, 'words', 1)").await.unwrap();
    assert_eq!(call(conn, "release(w, 'seats', 1)").await, Ok(Some(2)));
    assert_eq!(refused(conn, "release(w, 'words', 1)").await, "LM006", "it has a balance already");
}
