//! Events that Stripe failed to generate, so that no list contains them: their objects are read.

use serde_json::{Value, json};

use crate::support::fetching::{Fetching, Sale};
use crate::support::stripe::Epoch;

const STATUS: &str = "SELECT stripe_status FROM billing.subscriptions";

/// A delivered sale, and then a change without an event.
async fn change_without_event() -> (Fetching, Sale) {
    let (sync, sale) = Fetching::sold().await;
    sync.stripe.tick(60);
    sync.stripe.without_event(json!({ "status": "past_due" }).as_object().map_or(Value::Null, |fields| {
        let mut subscription = sync.stripe.stored(&sale.subscription);
        subscription.as_object_mut().unwrap().extend(fields.clone());
        subscription
    }));
    sync.stripe.tick(60);
    (sync, sale)
}

fn notification(sync: &Fetching, data: Value) -> Value {
    let created = time::OffsetDateTime::from_unix_timestamp(sync.stripe.now()).unwrap();
    let created = created.format(&time::format_description::well_known::Rfc3339).unwrap();
    let mut event = json!({
        "id": "evt_health", "object": "v2.core.event", "created": created, "livemode": false, "context": null,
        "type": "v2.core.health.event_generation_failure.resolved", "related_object": null,
    });
    if !data.is_null() {
        event["data"] = data;
    }
    event
}

fn data(subscription: &str) -> Value {
    json!({ "alert_id": "hlth_1", "grouping_key": "x", "summary": "x", "resolved_at": "2026-01-01T00:00:00Z",
        "impact": { "event_type": "customer.subscription.updated",
            "related_object": { "id": subscription, "type": "subscription", "url": "/v1/subscriptions/x" } } })
}

#[tokio::test]
async fn the_object_of_the_notification_is_read() {
    let (sync, sale) = change_without_event().await;
    sync.app.deliver_and_drain(&[notification(&sync, data(&sale.subscription))]).await;
    assert_eq!(sync.app.fate("evt_health").await, "done ignored not_generated");
    sync.pass_the_margin();
    sync.settle().await;
    assert_eq!(sync.app.text(STATUS).await.as_deref(), Some("past_due"));
    let count = sync.app.metric("billing_sync_event_reasons_total{reason=\"not_generated\"}");
    assert!((count - 1.0).abs() < f64::EPSILON, "{count}");
    sync.finish().await;
}

#[tokio::test]
async fn without_data_the_notification_itself_is_read_first() {
    let (sync, sale) = change_without_event().await;
    sync.stripe.core_event("evt_health", &data(&sale.subscription));
    sync.app.deliver_and_drain(&[notification(&sync, Value::Null)]).await;
    sync.pass_the_margin();
    sync.settle().await;
    assert_eq!(sync.served("/v2/core/events/evt_health"), 1);
    assert_eq!(sync.app.text(STATUS).await.as_deref(), Some("past_due"));
    sync.finish().await;
}

#[tokio::test]
async fn a_notification_without_a_readable_object_is_counted() {
    let (sync, _) = change_without_event().await;
    for (number, about) in [json!({}), json!({ "impact": { "related_object": { "id": "po_1", "type": "payout" } } })]
        .into_iter()
        .enumerate()
    {
        let mut event = notification(&sync, about);
        event["id"] = json!(format!("evt_{number}"));
        sync.app.deliver_and_drain(&[event]).await;
        assert_eq!(sync.app.fate(&format!("evt_{number}")).await, "done ignored not_generated");
    }
    sync.pass_the_margin();
    sync.settle().await;
    sync.emit(0, Epoch::Endive, &["customer.created"]).await;
    sync.settle().await;
    sync.finish().await;
}
