//! The bonus of a workspace, from which all its subscriptions draw: it is taken when something is used, and by nothing that
//! becomes known later. What is read is what is written.

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

    /// Uses up words of the open month as `consume` does, at most as many as there are, whatever the time is.
    async fn draw(&mut self, subscription: &str, amount: i64) {
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

    /// The open month of `sub_1`, as it is read at that time.
    async fn reads(&mut self, time: &str) -> String {
        self.text(&format!(
            "SELECT concat_ws(' ', included, spillover, used, bonus_used)
            FROM billing.limit_periods(ARRAY[md5('sub_1')::uuid], '{time}') WHERE NOT is_over"
        ))
        .await
    }

    /// Everything anew, though nothing is new.
    async fn mark_all(&mut self) {
        self.execute(
            "INSERT INTO billing.limit_recalculations (subscription_id, since)
            SELECT DISTINCT subscription_id, '2000-01-01'::timestamptz FROM billing.subscription_limits",
        )
        .await;
    }

    /// What is left of the bonus, and what months have taken of it.
    async fn bonus(&mut self) -> (String, String) {
        let left = self.text("SELECT amount FROM billing.workspace_bonus").await;
        let taken = "SELECT sum(bonus_used) FROM (SELECT bonus_used FROM billing.subscription_limits
            UNION ALL SELECT bonus_used FROM billing.limit_renewals) AS months";
        (left, self.text(taken).await)
    }
}

/// The month in which it happened, and the next one: 60,000 of 100,000 used, and then a plan of 10,000.
#[tokio::test]
async fn a_downgrade_after_use_takes_nothing_of_the_bonus_at_the_renewal_either() {
    for big in ["100000", "unlimited"] {
        let mut ground = Harness::new().await;
        ground.price("big", big).await;
        ground.price("small", "10000").await;
        ground.grant(5000).await;
        ground.emit(&[at("2026-01-10T00:00:00Z").price("big")]).await;
        ground.draw("sub_1", 60_000).await;
        ground.emit(&[at("2026-01-20T00:00:00Z").price("small")]).await;
        ground.until("2026-01-20T00:00:00Z").await;
        assert_eq!(ground.bonus().await, ("5000".to_owned(), "0".to_owned()), "{big}");
        ground.draw("sub_1", 1000).await;
        assert_eq!(ground.bonus().await, ("4000".to_owned(), "1000".to_owned()), "{big}");
        ground.until("2026-02-15T00:00:00Z").await;
        assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 10000+0-61000>0"]);
        assert_eq!(ground.balance().await, "2026-03-10 00:00: 10000+0-0");
        assert_eq!(ground.bonus().await, ("4000".to_owned(), "1000".to_owned()), "{big}");
    }
}

#[tokio::test]
async fn an_upgrade_after_use_leaves_all_of_the_new_plan_that_was_not_charged_to_it() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.price("big", "5000").await;
    ground.grant(300).await;
    ground.draw("sub_1", 1200).await;
    ground.emit(&[at("2026-01-20T00:00:00Z").price("big")]).await;
    ground.until("2026-02-15T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 5000+0-1200>4000"]);
    assert_eq!(ground.bonus().await, ("100".to_owned(), "200".to_owned()));
}

#[tokio::test]
async fn two_subscriptions_of_a_workspace_that_shrink_leave_their_bonus() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.price("small", "100").await;
    ground.grant(150).await;
    ground.emit(&[at("2026-01-10T00:00:00Z").of("sub_2")]).await;
    ground.draw("sub_1", 1000).await;
    ground.draw("sub_2", 1020).await;
    let small = at("2026-01-15T00:00:00Z").price("small");
    ground.emit(&[small.clone(), small.of("sub_2")]).await;
    ground.until("2026-02-15T00:00:00Z").await;
    assert_eq!(ground.bonus().await, ("130".to_owned(), "20".to_owned()));
}

fn any(rng: &mut Rng, day: i64) -> Known {
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
    // known at once, late, or just at the renewals of both
    match rng.u8(..5) {
        0 | 1 => known.at(&instant(day)),
        2 => known.at("2026-05-31T09:15:00Z"),
        _ => known.at(&instant(rng.i64(1..=day))),
    }
}

/// Lives of two subscriptions with one bonus. After each step: what becomes known takes nothing of the bonus and gives
/// nothing back; who looks once more at everything finds nothing else; and what was read before is what was written then.
#[tokio::test]
async fn no_bonus_moves_by_what_becomes_known_and_what_is_known_already_changes_nothing() {
    let mut rng = Rng::with_seed(5);
    let mut ground = Harness::new().await;
    for (price, words) in [("small", "100"), ("big", "5000"), ("endless", "unlimited")] {
        ground.price(price, words).await;
    }
    ground.per_unit("seat", "words", 70).await;
    for life in 0..14 {
        ground.forget().await;
        ground.grant(1700).await;
        let alone = rng.bool();
        ground.emit(&[at(&instant(0))]).await;
        if !alone {
            ground.emit(&[at(&instant(0)).of("sub_2")]).await;
        }
        let mut day = 0;
        for _ in 0..7 {
            day += rng.i64(1..25);
            let subscription = if alone || rng.bool() { "sub_1" } else { "sub_2" };
            ground.until(&instant(day)).await;
            ground.draw(subscription, rng.i64(1..1500)).await;
            let bonus = ground.bonus().await;
            ground.emit(&[any(&mut rng, day).of(subscription)]).await;
            day += rng.i64(0..40);
            let read = ground.reads(&instant(day)).await;
            ground.until(&instant(day)).await;
            let case = format!("life {life}, day {day}");
            assert_eq!(ground.reads(&instant(day)).await, read, "{case}");
            assert_eq!(ground.bonus().await, bonus, "{case}");
            let before = ground.everything().await;
            ground.mark_all().await;
            ground.until(&instant(day)).await;
            assert_eq!(ground.everything().await, before, "{case}");
        }
    }
}
