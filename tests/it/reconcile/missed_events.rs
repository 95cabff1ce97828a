//! The found events that count as missed.

use serde_json::json;

use super::{compare, compared, count, is, leave};
use crate::support::fetching::Fetching;

fn missed(sync: &Fetching) -> f64 {
    sync.app.metric("billing_sync_reconcile_missed_events_total{family=\"customer\"}")
}

#[tokio::test]
async fn a_handled_event_older_than_five_minutes_was_missed() {
    let sync = compared().await;
    sync.stripe.customer(json!({ "name": "old" }));
    sync.stripe.tick(302);
    sync.stripe.customer(json!({ "name": "young" }));
    sync.stripe.tick(299);
    let found = compare(&sync).await;
    assert_eq!((found.stats.inserted(), found.stats.missed), (2, 1), "{found:?}");
    assert!(is(missed(&sync), 1.0) && is(count(&sync, "complete"), 2.0));
    // a stored event is not missed later
    sync.stripe.tick(302);
    assert_eq!(compare(&sync).await.stats.missed, 0);
    assert!(is(missed(&sync), 1.0));
    leave(sync).await;
}

#[tokio::test]
async fn a_snapshot_with_a_delivered_thin_counterpart_is_not_missed() {
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
    assert_eq!((found.stats.inserted(), found.stats.missed), (2, 1), "the update has no counterpart: {found:?}");
    assert!(is(missed(&sync), 1.0));
    leave(sync).await;
}

#[tokio::test]
async fn an_unhandled_type_is_neither_listed_nor_missed() {
    let sync = compared().await;
    sync.stripe.test_clock(sync.stripe.now());
    sync.stripe.tick(600);
    let found = compare(&sync).await;
    assert_eq!((found.stats.compared, found.stats.missed), (0, 0), "{found:?}");
    sync.finish().await;
}
