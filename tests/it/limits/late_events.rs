//! Changes that become known late: the periods are the same as if they had been known from the start.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::harness::{Harness, Known, at};

#[tokio::test]
async fn a_late_pause_revokes_the_carry_over() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.renew_until("2026-03-20T00:00:00Z").await;
    harness.set_used(500).await;
    harness.emit(&[at("2026-02-20T00:00:00Z").paused(), at("2026-03-11T00:00:00Z")]).await;
    harness.renew_until("2026-03-20T00:00:00Z").await;
    assert_eq!(harness.ledger().await[1], "2026-03-10 00:00 inactive: 1000+1000-0>0");
    assert_eq!(harness.balance().await, "2026-04-10 00:00: 1000+0-500", "usage stands");
}

#[tokio::test]
async fn a_late_upgrade_adds_the_missing_carry_over() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.price("big", "5000").await;
    harness.renew_until("2026-02-15T00:00:00Z").await;
    harness.set_used(600).await;
    harness.renew_until("2026-03-15T00:00:00Z").await;
    assert_eq!(harness.ledger().await[1], "2026-03-10 00:00 renewed: 1000+1000-600>1000");
    harness.emit(&[at("2026-01-20T00:00:00Z").price("big")]).await;
    harness.renew_until("2026-03-15T00:00:00Z").await;
    assert_eq!(
        harness.ledger().await,
        ["2026-02-10 00:00 renewed: 5000+0-0>5000", "2026-03-10 00:00 renewed: 5000+5000-600>5000"]
    );
    assert_eq!(harness.balance().await, "2026-04-10 00:00: 5000+5000-0");
    let corrected = "SELECT count(*) FROM billing.limit_renewals WHERE corrected_at IS NOT NULL";
    assert_eq!(harness.text(corrected).await, "2");
}

/// Bonus usage stands; the amount that the bigger plan has left instead is carried over.
#[tokio::test]
async fn a_late_upgrade_carries_over_what_the_bonus_paid_for() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.price("big", "5000").await;
    harness
        .execute(
            "INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 300);
            UPDATE billing.subscription_limits SET used = 1200, bonus_used = 200",
        )
        .await;
    harness.renew_until("2026-02-15T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 1000+0-1200>0"]);
    harness.emit(&[at("2026-01-20T00:00:00Z").price("big")]).await;
    harness.renew_until("2026-02-15T00:00:00Z").await;
    assert_eq!(harness.text("SELECT amount FROM billing.workspace_bonus").await, "300");
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 5000+0-1200>4000"]);
}

#[tokio::test]
async fn a_late_end_ends_the_periods() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.renew_until("2026-04-20T00:00:00Z").await;
    harness.emit(&[at("2026-02-20T00:00:00Z").ended()]).await;
    harness.renew_until("2026-04-20T00:00:00Z").await;
    assert_eq!(
        harness.ledger().await,
        [
            "2026-02-10 00:00 renewed: 1000+0-0>1000",
            "2026-03-10 00:00 inactive: 1000+1000-0>0",
            "2026-04-10 00:00 inactive: 1000+0-0>0",
        ]
    );
    assert_eq!(harness.balance().await, "never: 1000+0-0");
}

/// The anchor moved on March 5th, but the old renewal of March 10th was done before the change was known.
#[tokio::test]
async fn a_late_anchor_counts_from_the_next_renewal() {
    let mut harness = Harness::new().await;
    harness.renew_by_anchor().await;
    let (old, new) = ("2026-01-10T00:00:00Z", "2026-03-05T12:00:00Z");
    harness.emit(&[at(old).anchor(old)]).await;
    harness.renew_until("2026-03-12T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-04-10 00:00: 1000+1000-0");
    harness.emit(&[at(new).anchor(new)]).await;
    harness.renew_until("2026-03-12T00:00:00Z").await;
    // no second renewal for the change; periods follow the new anchor from here on
    assert_eq!(harness.balance().await, "2026-04-05 12:00: 1000+1000-0");
    assert_eq!(harness.ends().await, ["2026-02-10T00:00:00Z", "2026-03-10T00:00:00Z"]);
    harness.renew_until("2026-05-05T12:00:00Z").await;
    assert_eq!(harness.ends().await[2..], ["2026-04-05T12:00:00Z", "2026-05-05T12:00:00Z"]);
}

#[tokio::test]
async fn an_older_event_prepends_the_periods_since() {
    let mut harness = Harness::new().await;
    harness.price("big", "5000").await;
    // the row contains the start of the subscription; events of the time before arrive later
    harness.emit(&[at("2026-01-10T00:00:00Z")]).await;
    harness.forget_history().await;
    harness.emit(&[at("2026-04-20T00:00:00Z")]).await;
    harness.renew_until("2026-05-20T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-05-10 00:00 renewed: 1000+0-0>1000"]);
    harness.emit(&[at("2026-02-20T00:00:00Z").price("big")]).await;
    harness.renew_until("2026-05-20T00:00:00Z").await;
    assert_eq!(
        harness.ledger().await,
        [
            "2026-03-10 00:00 renewed: 5000+0-0>5000",
            "2026-04-10 00:00 renewed: 5000+5000-0>5000",
            "2026-05-10 00:00 renewed: 1000+5000-0>1000",
        ]
    );
}

/// Periods that ended long ago do not depend on the clock, and nothing would request them again later.
#[tokio::test]
async fn an_older_event_is_not_lost_while_renewals_are_halted() {
    let mut harness = Harness::new().await;
    harness.emit(&[at("2026-01-10T00:00:00Z")]).await;
    harness.forget_history().await;
    harness.emit(&[at("2026-04-20T00:00:00Z")]).await;
    harness.renew_until("2026-05-20T00:00:00Z").await;
    harness.execute("UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = 'a clock'").await;
    harness.emit(&[at("2026-03-20T00:00:00Z")]).await;
    harness.renew_until("2026-06-20T00:00:00Z").await;
    harness.execute("UPDATE billing.renewal_rules SET halted_at = NULL, halted_because = NULL").await;
    harness.renew_until("2026-05-21T00:00:00Z").await;
    assert_eq!(
        harness.ledger().await,
        ["2026-04-10 00:00 renewed: 1000+0-0>1000", "2026-05-10 00:00 renewed: 1000+1000-0>1000"]
    );
}

const BEGAN: OffsetDateTime = datetime!(2026-01-31 09:15 UTC);

fn instant(day: i64, second: i64) -> String {
    (BEGAN + Duration::days(day) + Duration::seconds(second)).format(&Rfc3339).unwrap()
}

/// A state from a time in the first ten months on; every fifth change is exactly at a renewal.
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

/// A change becomes known, or the usage of words in the period is set.
#[derive(Debug, Clone, Copy)]
enum Step {
    Learn(usize),
    Use(i64),
}

/// The changes of a generated history, and the order in which they become known.
fn life() -> impl Strategy<Value = (Vec<Known>, Vec<(i64, Step)>)> {
    proptest::collection::vec(change(), 1..7).prop_flat_map(|mut changes| {
        // the order within one second comes from the events, which do not exist here
        changes.sort_by(|a, b| a.time().cmp(b.time()));
        changes.dedup_by(|a, b| a.time() == b.time());
        let learned: Vec<_> = (0..changes.len()).map(|index| (0_i64..330, Just(Step::Learn(index)))).collect();
        let used = proptest::collection::vec((0_i64..330, (0_i64..7000).prop_map(Step::Use)), 0..8);
        (Just(changes), learned, used).prop_map(|(changes, learned, used)| {
            let mut steps = [learned, used].concat();
            steps.sort_by_key(|(day, _)| *day);
            (changes, steps)
        })
    })
}

async fn harness() -> Harness {
    let mut harness = Harness::new().await;
    for (price, words) in [("small", "100"), ("big", "5000"), ("endless", "unlimited")] {
        harness.price(price, words).await;
    }
    harness
}

/// Changes become known in any order, before, at or long after their time, with any renewals and usage in between.
/// Balances and ledger are the same as if all changes had been known from the start.
#[tokio::test]
async fn any_order_of_changes_gives_the_same_periods() {
    let mut runner = TestRunner::deterministic();
    let (mut late, mut early) = (harness().await, harness().await);
    for _ in 0..30 {
        let (changes, steps) = life().new_tree(&mut runner).unwrap().current();
        for harness in [&mut late, &mut early] {
            harness.reset().await;
            harness.emit(&[at(&instant(0, 0))]).await;
        }
        early.emit(&changes).await;
        for (day, step) in &steps {
            late.renew_until(&instant(*day, 0)).await;
            match step {
                Step::Learn(index) => late.emit(std::slice::from_ref(&changes[*index])).await,
                Step::Use(words) => {
                    late.set_used(*words).await;
                    early.renew_until(&instant(*day, 0)).await;
                    early.set_used(*words).await;
                }
            }
        }
        for harness in [&mut late, &mut early] {
            harness.renew_until(&instant(331, 0)).await;
        }
        let (found, expected) = (late.all_rows().await, early.all_rows().await);
        let pairs = found.iter().zip(&expected).filter(|(found, expected)| found != expected);
        let differences: Vec<_> = pairs.collect();
        assert!(found.len() == expected.len() && differences.is_empty(), "{differences:#?}\n{changes:#?}\n{steps:?}");
        assert_eq!(early.ledger().await.len(), 10, "{changes:#?}");
    }
}
