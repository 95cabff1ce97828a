//! What becomes known late: the months come out as if it had been known from the start.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::harness::{Harness, Known, at};

#[tokio::test]
async fn a_pause_that_is_told_after_the_renewal_takes_back_what_went_over() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.until("2026-03-20T00:00:00Z").await;
    ground.used(500).await;
    ground.emit(&[at("2026-02-20T00:00:00Z").paused(), at("2026-03-11T00:00:00Z")]).await;
    ground.until("2026-03-20T00:00:00Z").await;
    assert_eq!(ground.ledger().await[1], "2026-03-10 00:00 inactive: 1000+1000-0>0");
    assert_eq!(ground.balance().await, "2026-04-10 00:00: 1000+0-500", "what was used stays used");
}

#[tokio::test]
async fn an_upgrade_that_is_told_after_renewals_gives_what_would_have_gone_over() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.price("big", "5000").await;
    ground.until("2026-02-15T00:00:00Z").await;
    ground.used(600).await;
    ground.until("2026-03-15T00:00:00Z").await;
    assert_eq!(ground.ledger().await[1], "2026-03-10 00:00 renewed: 1000+1000-600>1000");
    ground.emit(&[at("2026-01-20T00:00:00Z").price("big")]).await;
    ground.until("2026-03-15T00:00:00Z").await;
    assert_eq!(
        ground.ledger().await,
        ["2026-02-10 00:00 renewed: 5000+0-0>5000", "2026-03-10 00:00 renewed: 5000+5000-600>5000"]
    );
    assert_eq!(ground.balance().await, "2026-04-10 00:00: 5000+5000-0");
    let corrected = "SELECT count(*) FROM billing.limit_renewals WHERE corrected_at IS NOT NULL";
    assert_eq!(ground.text(corrected).await, "2");
}

/// What was taken from the bonus stays taken; what the bigger plan has left instead is carried over.
#[tokio::test]
async fn an_upgrade_that_is_told_late_carries_over_what_the_bonus_was_used_for() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.price("big", "5000").await;
    ground
        .execute(
            "INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 300);
            UPDATE billing.subscription_limits SET used = 1200, bonus_used = 200",
        )
        .await;
    ground.until("2026-02-15T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 1000+0-1200>0"]);
    ground.emit(&[at("2026-01-20T00:00:00Z").price("big")]).await;
    ground.until("2026-02-15T00:00:00Z").await;
    assert_eq!(ground.text("SELECT amount FROM billing.workspace_bonus").await, "300");
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 5000+0-1200>4000"]);
}

#[tokio::test]
async fn an_end_that_is_told_late_ends_the_months() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.until("2026-04-20T00:00:00Z").await;
    ground.emit(&[at("2026-02-20T00:00:00Z").ended()]).await;
    ground.until("2026-04-20T00:00:00Z").await;
    assert_eq!(
        ground.ledger().await,
        [
            "2026-02-10 00:00 renewed: 1000+0-0>1000",
            "2026-03-10 00:00 inactive: 1000+1000-0>0",
            "2026-04-10 00:00 inactive: 1000+0-0>0",
        ]
    );
    assert_eq!(ground.balance().await, "never: 1000+0-0");
}

/// The anchor moved on March 5th, and the old months' renewal of March 10th was done before anybody knew.
#[tokio::test]
async fn an_anchor_that_is_told_after_the_renewal_that_it_moves_counts_from_then_on() {
    let mut ground = Harness::new().await;
    ground.anchors_count().await;
    let (old, new) = ("2026-01-10T00:00:00Z", "2026-03-05T12:00:00Z");
    ground.emit(&[at(old).anchor(old)]).await;
    ground.until("2026-03-12T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-04-10 00:00: 1000+1000-0");
    ground.emit(&[at(new).anchor(new)]).await;
    ground.until("2026-03-12T00:00:00Z").await;
    // no second renewal for the change, and the months of the new anchor from here
    assert_eq!(ground.balance().await, "2026-04-05 12:00: 1000+1000-0");
    assert_eq!(ground.ends().await, ["2026-02-10T00:00:00Z", "2026-03-10T00:00:00Z"]);
    ground.until("2026-05-05T12:00:00Z").await;
    assert_eq!(ground.ends().await[2..], ["2026-04-05T12:00:00Z", "2026-05-05T12:00:00Z"]);
}

#[tokio::test]
async fn an_older_event_than_the_first_known_one_puts_the_months_since_in_front() {
    let mut ground = Harness::new().await;
    ground.price("big", "5000").await;
    // the row says when the subscription began; the events of the time before come later
    ground.emit(&[at("2026-01-10T00:00:00Z")]).await;
    ground
        .execute(
            "DELETE FROM billing.subscription_timeline; DELETE FROM billing.subscription_limits;
            DELETE FROM billing.limit_recalculations",
        )
        .await;
    ground.emit(&[at("2026-04-20T00:00:00Z")]).await;
    ground.until("2026-05-20T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-05-10 00:00 renewed: 1000+0-0>1000"]);
    ground.emit(&[at("2026-02-20T00:00:00Z").price("big")]).await;
    ground.until("2026-05-20T00:00:00Z").await;
    assert_eq!(
        ground.ledger().await,
        [
            "2026-03-10 00:00 renewed: 5000+0-0>5000",
            "2026-04-10 00:00 renewed: 5000+5000-0>5000",
            "2026-05-10 00:00 renewed: 1000+5000-0>1000",
        ]
    );
}

/// What is over since long does not hang on a clock that is in doubt, and later nobody would ask for it again.
#[tokio::test]
async fn an_older_event_is_not_forgotten_while_nothing_is_renewed() {
    let mut ground = Harness::new().await;
    ground.emit(&[at("2026-01-10T00:00:00Z")]).await;
    ground
        .execute(
            "DELETE FROM billing.subscription_timeline; DELETE FROM billing.subscription_limits;
            DELETE FROM billing.limit_recalculations",
        )
        .await;
    ground.emit(&[at("2026-04-20T00:00:00Z")]).await;
    ground.until("2026-05-20T00:00:00Z").await;
    ground.execute("UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = 'a clock'").await;
    ground.emit(&[at("2026-03-20T00:00:00Z")]).await;
    ground.until("2026-06-20T00:00:00Z").await;
    ground.execute("UPDATE billing.renewal_rules SET halted_at = NULL, halted_because = NULL").await;
    ground.until("2026-05-21T00:00:00Z").await;
    assert_eq!(
        ground.ledger().await,
        ["2026-04-10 00:00 renewed: 1000+0-0>1000", "2026-05-10 00:00 renewed: 1000+1000-0>1000"]
    );
}

const BEGAN: OffsetDateTime = datetime!(2026-01-31 09:15 UTC);

fn instant(day: i64, second: i64) -> String {
    (BEGAN + Duration::days(day) + Duration::seconds(second)).format(&Rfc3339).unwrap()
}

/// What a subscription is from some time of its first ten months on; every fifth change is exactly at a renewal.
fn change() -> impl Strategy<Value = Known> {
    let when = prop_oneof![
        4 => (1_i64..300, 0_i64..86_400).prop_map(|(day, second)| instant(day, second)),
        1 => (0_usize..9).prop_map(|month| {
            let ends = ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30", "2026-07-31", "2026-08-31",
                "2026-09-30", "2026-10-31"];
            format!("{}T09:15:00Z", ends[month])
        }),
    ];
    let what = prop_oneof![
        Just(at("")),
        Just(at("").paused()),
        Just(at("").status("unpaid")),
        Just(at("").price("small")),
        Just(at("").price("big")),
        Just(at("").price("endless")),
        Just(at("").price("unseen")),
    ];
    (when, what).prop_map(|(when, what)| what.at(&when))
}

/// On some day: a change becomes known, or that many words of the month are used up by then.
#[derive(Debug, Clone, Copy)]
enum Step {
    Tell(usize),
    Use(i64),
}

/// The changes of a life, and the order in which they become known.
fn life() -> impl Strategy<Value = (Vec<Known>, Vec<(i64, Step)>)> {
    proptest::collection::vec(change(), 1..7).prop_flat_map(|mut changes| {
        // which of one second's events was the last is told by the events themselves, which there are none of here
        changes.sort_by(|a, b| a.time().cmp(b.time()));
        changes.dedup_by(|a, b| a.time() == b.time());
        let told: Vec<_> = (0..changes.len()).map(|place| (0_i64..330, Just(Step::Tell(place)))).collect();
        let used = proptest::collection::vec((0_i64..330, (0_i64..7000).prop_map(Step::Use)), 0..8);
        (Just(changes), told, used).prop_map(|(changes, told, used)| {
            let mut steps = [told, used].concat();
            steps.sort_by_key(|(day, _)| *day);
            (changes, steps)
        })
    })
}

async fn ground() -> Harness {
    let mut ground = Harness::new().await;
    for (price, words) in [("small", "100"), ("big", "5000"), ("endless", "unlimited")] {
        ground.price(price, words).await;
    }
    ground
}

/// In whatever order the changes become known, before their time, at it or long after it, and whatever was renewed and used
/// up in between: balances and ledger are those of somebody who knew all from the start.
#[tokio::test]
async fn in_whatever_order_a_life_becomes_known_its_months_are_the_same() {
    let mut runner = TestRunner::deterministic();
    let (mut lived, mut knew) = (ground().await, ground().await);
    for _ in 0..30 {
        let (changes, steps) = life().new_tree(&mut runner).unwrap().current();
        for ground in [&mut lived, &mut knew] {
            ground.forget().await;
            ground.emit(&[at(&instant(0, 0))]).await;
        }
        knew.emit(&changes).await;
        for (day, step) in &steps {
            lived.until(&instant(*day, 0)).await;
            match step {
                Step::Tell(place) => lived.emit(std::slice::from_ref(&changes[*place])).await,
                Step::Use(words) => {
                    lived.used(*words).await;
                    knew.until(&instant(*day, 0)).await;
                    knew.used(*words).await;
                }
            }
        }
        for ground in [&mut lived, &mut knew] {
            ground.until(&instant(331, 0)).await;
        }
        let (found, expected) = (lived.everything().await, knew.everything().await);
        let pairs = found.iter().zip(&expected).filter(|(found, expected)| found != expected);
        let differences: Vec<_> = pairs.collect();
        assert!(found.len() == expected.len() && differences.is_empty(), "{differences:#?}\n{changes:#?}\n{steps:?}");
        assert_eq!(knew.ledger().await.len(), 10, "{changes:#?}");
    }
}
