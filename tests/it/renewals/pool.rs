//! The bonus of a workspace, on which the months of all its subscriptions draw: whatever becomes known, none of it is lost,
//! none is made, and what is read is what is written.

use fastrand::Rng;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::ground::{Ground, Known, at};

const BEGAN: OffsetDateTime = datetime!(2026-01-31 09:15 UTC);

fn instant(day: i64) -> String {
    (BEGAN + Duration::days(day)).format(&Rfc3339).unwrap()
}

impl Ground {
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
                SELECT b.*, w.amount AS pool FROM billing.subscription_limits AS b
                JOIN billing.workspace_bonus AS w USING (limit_key) WHERE b.subscription_id = md5('{subscription}')::uuid
            ), due AS (
                SELECT b.*, b.used + least({amount}, coalesce(billing.available(b.included, b.spillover, b.used,
                    b.bonus_used + b.pool), {amount})) AS will_be FROM balance AS b
            ), charged AS (
                SELECT d.*, greatest(d.bonus_used, billing.of_bonus(d.included, d.spillover, d.will_be, d.bonus_used + d.pool))
                    AS charge FROM due AS d
            ), drawn AS (
                UPDATE billing.subscription_limits AS b SET used = c.will_be, bonus_used = c.charge
                FROM charged AS c WHERE b.subscription_id = c.subscription_id AND b.limit_key = c.limit_key
            )
            UPDATE billing.workspace_bonus AS w SET amount = w.amount - (c.charge - c.bonus_used) FROM charged AS c"
        ))
        .await;
    }

    /// The open month of `sub_1` and the bonus that it has, as it is read at that time.
    async fn reads(&mut self, time: &str) -> String {
        self.text(&format!(
            "SELECT concat_ws(' ', included, spillover, used, bonus) FROM billing.limit_course(ARRAY[md5('sub_1')::uuid], '{time}')
            WHERE NOT is_over"
        ))
        .await
    }

    /// Everything anew, though nothing is new.
    async fn mark_all(&mut self) {
        self.execute(
            "INSERT INTO billing.limit_changes (subscription_id, since)
            SELECT DISTINCT subscription_id, '2000-01-01'::timestamptz FROM billing.subscription_limits",
        )
        .await;
    }

    /// What is left of the bonus and what months were charged of it.
    async fn all_bonus(&mut self) -> String {
        self.text(
            "SELECT sum(amount) FROM (
                SELECT amount FROM billing.workspace_bonus
                UNION ALL SELECT bonus_used FROM billing.subscription_limits
                UNION ALL SELECT bonus_used FROM billing.limit_renewals
            ) AS parts",
        )
        .await
    }
}

const LEFT: &str = "SELECT amount FROM billing.workspace_bonus";

/// Both plans shrink below what was used, and one transaction finds that out of both.
#[tokio::test]
async fn two_subscriptions_that_need_the_same_bonus_at_once_share_it() {
    let mut ground = Ground::new().await;
    ground.price("small", "100").await;
    ground.grant(150).await;
    let start = "2026-01-10T00:00:00Z";
    ground.tell(&[at(start), at(start).of("sub_2")]).await;
    ground.draw("sub_1", 1000).await;
    ground.draw("sub_2", 200).await;
    let small = at("2026-01-15T00:00:00Z").price("small");
    ground.tell(&[small.clone(), small.of("sub_2")]).await;
    ground.until("2026-01-16T00:00:00Z").await;
    assert_eq!(ground.text(LEFT).await, "0");
    assert_eq!(ground.text("SELECT sum(bonus_used) FROM billing.subscription_limits").await, "150");
    let again = at("2026-01-17T00:00:00Z");
    ground.tell(&[again.clone(), again.of("sub_2")]).await;
    ground.until("2026-01-18T00:00:00Z").await;
    assert_eq!(ground.text(LEFT).await, "150");
}

/// A month that is over and not yet closed takes of the bonus: who reads in between is told so.
#[tokio::test]
async fn what_is_read_counts_the_bonus_that_the_month_before_still_has_to_take() {
    let mut ground = Ground::sold("2026-01-10T00:00:00Z").await;
    ground.price("small", "100").await;
    ground.grant(150).await;
    ground.draw("sub_1", 210).await;
    ground.tell(&[at("2026-01-15T00:00:00Z").price("small")]).await;
    let now = "2026-02-15T00:00:00Z";
    assert_eq!(ground.reads(now).await, "100 0 0 40");
    ground.until(now).await;
    assert_eq!((ground.reads(now).await, ground.text(LEFT).await), ("100 0 0 40".to_owned(), "40".to_owned()));
}

/// A closed month turns out not to have needed it: the open one may have it at once.
#[tokio::test]
async fn what_a_closed_month_gives_back_is_there_for_the_open_one() {
    let mut ground = Ground::sold("2026-01-10T00:00:00Z").await;
    ground.price("big", "1200").await;
    ground.price("small", "100").await;
    ground.grant(200).await;
    ground.draw("sub_1", 1200).await;
    ground.until("2026-02-15T00:00:00Z").await;
    assert_eq!(
        (ground.text(LEFT).await, ground.balance().await),
        ("0".to_owned(), "2026-03-10 00:00: 1000+0-0".to_owned())
    );
    ground.draw("sub_1", 150).await;
    // January had more than was known, and February has less
    ground.tell(&[at("2026-01-20T00:00:00Z").price("big"), at("2026-02-12T00:00:00Z").price("small")]).await;
    let now = "2026-02-16T00:00:00Z";
    assert_eq!(ground.reads(now).await, "100 0 150 200");
    ground.until(now).await;
    assert_eq!((ground.reads(now).await, ground.text(LEFT).await), ("100 0 150 200".to_owned(), "150".to_owned()));
}

/// It turns out to have had a smaller plan, after its end.
#[tokio::test]
async fn a_closed_month_is_charged_no_more_of_the_bonus_than_it_was() {
    let mut ground = Ground::sold("2026-01-10T00:00:00Z").await;
    ground.price("small", "100").await;
    ground.grant(200).await;
    ground.draw("sub_1", 1050).await;
    ground.until("2026-02-15T00:00:00Z").await;
    ground.tell(&[at("2026-01-20T00:00:00Z").price("small")]).await;
    ground.until("2026-02-16T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 100+0-1050>0"]);
    assert_eq!((ground.text(LEFT).await, ground.all_bonus().await), ("150".to_owned(), "200".to_owned()));
}

/// What one of them gives back is no bonus of another one.
#[tokio::test]
async fn subscriptions_without_a_workspace_draw_on_no_bonus() {
    let mut ground = Ground::new().await;
    ground.price("big", "5000").await;
    ground.price("small", "100").await;
    ground.grant(150).await;
    let start = "2026-01-10T00:00:00Z";
    ground.tell(&[at(start), at(start).of("sub_2")]).await;
    ground.draw("sub_1", 1150).await;
    ground.draw("sub_2", 300).await;
    let later = at("2026-01-15T00:00:00Z");
    ground.tell(&[later.clone().price("big"), later.of("sub_2").price("small")]).await;
    ground.execute("UPDATE billing.subscriptions SET workspace_id = NULL").await;
    ground.until("2026-01-16T00:00:00Z").await;
    assert_eq!(ground.text("SELECT sum(bonus_used) FROM billing.subscription_limits").await, "0");
}

fn any(rng: &mut Rng, day: i64) -> Known {
    let known = match rng.u8(..8) {
        0 => at("").paused(),
        1 => at("").status("unpaid"),
        2 => at("").price("small"),
        3 | 4 => at("").price("big"),
        5 => at("").price("endless"),
        6 => at("").price("unseen"),
        _ => at(""),
    };
    // known at once, late, or just at the renewals of both
    match rng.u8(..5) {
        0 | 1 => known.at(&instant(day)),
        2 => known.at("2026-05-31T09:15:00Z"),
        _ => known.at(&instant(rng.i64(1..=day))),
    }
}

/// Lives of two subscriptions with one bonus. After each step: nothing of the bonus is lost or made; who looks once more
/// at everything finds nothing else; and what was read before is what was written then.
#[tokio::test]
async fn no_bonus_is_lost_or_made_and_what_is_known_already_changes_nothing() {
    let mut rng = Rng::with_seed(5);
    let mut ground = Ground::new().await;
    for (price, words) in [("small", "100"), ("big", "5000"), ("endless", "unlimited")] {
        ground.price(price, words).await;
    }
    for life in 0..14 {
        ground.forget().await;
        ground.grant(700).await;
        let alone = rng.bool();
        ground.tell(&[at(&instant(0))]).await;
        if !alone {
            ground.tell(&[at(&instant(0)).of("sub_2")]).await;
        }
        let mut day = 0;
        for _ in 0..7 {
            day += rng.i64(1..25);
            let subscription = if alone || rng.bool() { "sub_1" } else { "sub_2" };
            ground.until(&instant(day)).await;
            ground.draw(subscription, rng.i64(1..1500)).await;
            ground.tell(&[any(&mut rng, day).of(subscription)]).await;
            day += rng.i64(0..40);
            let read = ground.reads(&instant(day)).await;
            ground.until(&instant(day)).await;
            let case = format!("life {life}, day {day}");
            if alone {
                assert_eq!(ground.reads(&instant(day)).await, read, "{case}");
            }
            assert_eq!(ground.all_bonus().await, "700", "{case}");
            let before = ground.everything().await;
            ground.mark_all().await;
            ground.until(&instant(day)).await;
            assert_eq!(ground.everything().await, before, "{case}");
        }
    }
}
