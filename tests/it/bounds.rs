//! Limits of one event: an event that contains thousands of objects is applied with some of them, and the rest is
//! fetched. Nothing is lost.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::events::{START, customer, event, with};

fn nested_subscription(number: usize) -> Value {
    json!({ "id": format!("sub_{number}"), "object": "subscription", "customer": "cus_1", "status": "active",
        "created": START, "start_date": START, "items": { "data": [] } })
}

#[tokio::test]
async fn a_huge_event_applies_some_objects_and_fetches_the_rest() {
    let mut app = TestApp::start().await;
    app.context = app.context.clone().with_fetches(Duration::from_secs(10));
    let all: Vec<Value> = (0..4000).map(nested_subscription).collect();
    let large = with(&customer("cus_1", "Ada"), json!({ "subscriptions": { "object": "list", "data": all } }));
    app.deliver_and_drain(&[event("evt_1", "customer.updated", 0, &large, None)]).await;
    assert_eq!(app.fate("evt_1").await, "done applied needs_fetch");
    let subscriptions = app.text("SELECT count(*)::text FROM billing.subscriptions").await.unwrap();
    assert_eq!(subscriptions, "500");
    let lost = "SELECT count(*)::text FROM generate_series(0, 3999) AS number
        WHERE NOT EXISTS (SELECT FROM billing.subscriptions AS s WHERE s.stripe_subscription_id = 'sub_' || number)
            AND NOT EXISTS (SELECT FROM billing.jobs AS j WHERE j.kind = 'fetch' AND j.object_id = 'sub_' || number)";
    assert_eq!(app.text(lost).await.as_deref(), Some("0"));
    app.finish().await;
}
