//! Which of the events that are found count as missed.

use serde_json::json;

use super::{compare, compared, count, is, leave};
use crate::support::fetching::Fetching;

fn missed(sync: &Fetching) -> f64 {
    sync.app.metric("billing_sync_reconcile_missed_events_total{family=\"customer\"}")
}

#[tokio::test]
async fn an_event_that_acts_here_and_is_older_than_five_minutes_was_missed() {
    let sync = compared().await;
    sync.stripe.customer(json!({ "name": "old" }));
    sync.stripe.tick(302);
    sync.stripe.customer(json!({ "name": "young" }));
    sync.stripe.tick(299);
    let found = compare(&sync).await;
    assert_eq!((found.tally.inserted(), found.tally.missed), (2, 1), "{found:?}");
    assert!(is(missed(&sync), 1.0) && is(count(&sync, "complete"), 2.0));
    // what is known by now is not missed again when it is old
    sync.stripe.tick(302);
    assert_eq!(compare(&sync).await.tally.missed, 0);
    assert!(is(missed(&sync), 1.0));
    leave(sync).await;
}

#[tokio::test]
async fn a_snapshot_whose_thin_twin_was_delivered_is_stored_and_not_missed() {
    let sync = compared().await;
    let mark = sync.stripe.mark();
    sync.stripe.customer(json!({ "name": "Bo" }));
    let event = sync.stripe.events_since(mark).remove(0);
    let mut thin = event.thin();
    // a thin event has the exact time
    thin["created"] = json!(thin["created"].as_str().unwrap().replace('Z', ".987Z"));
    sync.app.deliver(&thin).await;
    sync.stripe.tick(1);
    sync.stripe.update(&event.object, json!({ "name": "Bob" }));
    sync.stripe.tick(600);
    let found = compare(&sync).await;
    assert_eq!((found.tally.inserted(), found.tally.missed), (2, 1), "the update has no twin: {found:?}");
    assert!(is(missed(&sync), 1.0));
    leave(sync).await;
}

#[tokio::test]
async fn a_type_that_changes_nothing_here_is_neither_listed_nor_missed() {
    let sync = compared().await;
    sync.stripe.test_clock(sync.stripe.now());
    sync.stripe.tick(600);
    let found = compare(&sync).await;
    assert_eq!((found.tally.compared, found.tally.missed), (0, 0), "{found:?}");
    assert!(is(sync.app.metric("billing_sync_reconcile_missed_events_total{family=\"test_helpers\"}"), 0.0));
    sync.finish().await;
}
