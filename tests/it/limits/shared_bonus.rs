//! The bonus of a workspace, which all its subscriptions share: only usage reduces it, never a change that becomes
//! known later. Reading a period gives the same result as renewing it.

use fastrand::Rng;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::harness::{Harness, Known, at};

const BEGAN: OffsetDateTime = datetime!(2026-01-31 09:15 UTC);

fn instant(day: i64) -> String {
    (BEGAN + Duration::days(day)).format(&Rfc3339).unwrap()
}

impl Harness {
    async fn grant(&mut self, amount: i64) {
        self.execute(&format!(
            "INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', {amount})"
        ))
        .await;
    }

    /// Consumes words of the open period as `consume` does, at most the available amount, regardless of the time.
    async fn consume(&mut self, subscription: &str, amount: i64) {
        self.execute(&format!(
            "WITH balance AS (
                SELECT b.*, w.amount AS pool, coalesce(billing.left_of_plan(b.included, b.spillover, b.used, b.bonus_used),
                    {amount}) AS of_plan
                FROM billing.subscription_limits AS b
                JOIN billing.workspace_bonus AS w USING (limit_key) WHERE b.subscription_id = md5('{subscription}')::uuid
            ), drawn AS (
                SELECT b.subscription_id, b.limit_key, least({amount}, b.of_plan) AS of_plan,
                    least(b.pool, greatest(0, {amount} - b.of_plan)) AS of_bonus
                FROM balance AS b
            ), used AS (
                UPDATE billing.subscription_limits AS b SET used = b.used + d.of_plan + d.of_bonus,
                    bonus_used = b.bonus_used + d.of_bonus
                FROM drawn AS d WHERE b.subscription_id = d.subscription_id AND b.limit_key = d.limit_key
            )
            UPDATE billing.workspace_bonus AS w SET amount = w.amount - d.of_bonus FROM drawn AS d"
        ))
        .await;
    }

    /// The open period of `sub_1`, as read at this time.
    async fn read_period(&mut self, time: &str) -> String {
        self.text(&format!(
            "SELECT concat_ws(' ', included, spillover, used, bonus_used)
            FROM billing.limit_periods(ARRAY[md5('sub_1')::uuid], '{time}') WHERE NOT is_over"
        ))
        .await
    }

    /// Marks everything for recalculation, although nothing has changed.
    async fn mark_all(&mut self) {
        self.execute(
            "INSERT INTO billing.limit_recalculations (subscription_id, since)
            SELECT DISTINCT subscription_id, '2000-01-01'::timestamptz FROM billing.subscription_limits",
        )
        .await;
    }

    /// The rest of the bonus, and the amount of it used in all periods.
    async fn bonus(&mut self) -> (String, String) {
        let left = self.text("SELECT amount FROM billing.workspace_bonus").await;
        let taken = "SELECT sum(bonus_used) FROM (SELECT bonus_used FROM billing.subscription_limits
            UNION ALL SELECT bonus_used FROM billing.limit_renewals) AS periods";
        (left, self.text(taken).await)
    }
}

/// Covers the period of the downgrade and the next one: 60,000 of 100,000 are used, then the plan includes 10,000.
#[tokio::test]
async fn a_renewal_after_a_downgrade_keeps_the_bonus() {
    for big in ["100000", "unlimited"] {
        let mut harness = Harness::new().await;
        harness.price("big", big).await;
        harness.price("small", "10000").await;
        harness.grant(5000).await;
        harness.emit(&[at("2026-01-10T00:00:00Z").price("big")]).await;
        harness.consume("sub_1", 60_000).await;
        harness.emit(&[at("2026-01-20T00:00:00Z").price("small")]).await;
        harness.renew_until("2026-01-20T00:00:00Z").await;
        assert_eq!(harness.bonus().await, ("5000".to_owned(), "0".to_owned()), "{big}");
        harness.consume("sub_1", 1000).await;
        assert_eq!(harness.bonus().await, ("4000".to_owned(), "1000".to_owned()), "{big}");
        harness.renew_until("2026-02-15T00:00:00Z").await;
        assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 10000+0-61000>0"]);
        assert_eq!(harness.balance().await, "2026-03-10 00:00: 10000+0-0");
        assert_eq!(harness.bonus().await, ("4000".to_owned(), "1000".to_owned()), "{big}");
    }
}

#[tokio::test]
async fn bonus_usage_is_not_charged_to_the_upgraded_plan() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.price("big", "5000").await;
    harness.grant(300).await;
    harness.consume("sub_1", 1200).await;
    harness.emit(&[at("2026-01-20T00:00:00Z").price("big")]).await;
    harness.renew_until("2026-02-15T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 5000+0-1200>4000"]);
    assert_eq!(harness.bonus().await, ("100".to_owned(), "200".to_owned()));
}

#[tokio::test]
async fn two_downgrades_in_a_workspace_leave_the_bonus() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.price("small", "100").await;
    harness.grant(150).await;
    harness.emit(&[at("2026-01-10T00:00:00Z").of("sub_2")]).await;
    harness.consume("sub_1", 1000).await;
    harness.consume("sub_2", 1020).await;
    let small = at("2026-01-15T00:00:00Z").price("small");
    harness.emit(&[small.clone(), small.of("sub_2")]).await;
    harness.renew_until("2026-02-15T00:00:00Z").await;
    assert_eq!(harness.bonus().await, ("130".to_owned(), "20".to_owned()));
}

fn any_state(rng: &mut Rng, day: i64) -> Known {
    let known = match rng.u8(..9) {
        0 => at("").paused(),
        1 => at("").status("unpaid"),
        2 => at("").price("small"),
        3 | 4 => at("").price("big"),
        5 => at("").price("endless"),
        6 => at("").price("unseen"),
        7 => at("").items(&[("small", 1), ("seat", 3)]),
        _ => at(""),
    };
    // known at once, late, or exactly at the renewals of both
    match rng.u8(..5) {
        0 | 1 => known.at(&instant(day)),
        2 => known.at("2026-05-31T09:15:00Z"),
        _ => known.at(&instant(rng.i64(1..=day))),
    }
}

/// Generated histories of two subscriptions with one bonus. After each step a change has not moved the bonus, a
/// recalculation of everything changes nothing, and the period that was read before equals the one that was written.
#[tokio::test]
async fn late_changes_never_move_bonus_and_recalculation_is_stable() {
    let mut rng = Rng::with_seed(5);
    let mut harness = Harness::new().await;
    for (price, words) in [("small", "100"), ("big", "5000"), ("endless", "unlimited")] {
        harness.price(price, words).await;
    }
    harness.per_unit("seat", "words", 70).await;
    for history in 0..14 {
        harness.reset().await;
        harness.grant(1700).await;
        let is_single = rng.bool();
        harness.emit(&[at(&instant(0))]).await;
        if !is_single {
            harness.emit(&[at(&instant(0)).of("sub_2")]).await;
        }
        let mut day = 0;
        for _ in 0..7 {
            day += rng.i64(1..25);
            let subscription = if is_single || rng.bool() { "sub_1" } else { "sub_2" };
            harness.renew_until(&instant(day)).await;
            harness.consume(subscription, rng.i64(1..1500)).await;
            let bonus = harness.bonus().await;
            harness.emit(&[any_state(&mut rng, day).of(subscription)]).await;
            day += rng.i64(0..40);
            let read = harness.read_period(&instant(day)).await;
            harness.renew_until(&instant(day)).await;
            let case = format!("history {history}, day {day}");
            assert_eq!(harness.read_period(&instant(day)).await, read, "{case}");
            assert_eq!(harness.bonus().await, bonus, "{case}");
            let before = harness.all_rows().await;
            harness.mark_all().await;
            harness.renew_until(&instant(day)).await;
            assert_eq!(harness.all_rows().await, before, "{case}");
        }
    }
}
