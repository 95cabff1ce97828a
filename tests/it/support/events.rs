//! Builds events as Stripe would send them.

use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z: the second 0 of every test's story.
pub(crate) const START: i64 = 1_767_225_600;

/// A snapshot event `second` seconds into the story.
pub(crate) fn event(id: &str, event_type: &str, second: i64, object: &Value, previous: Option<Value>) -> Value {
    let mut data = json!({ "object": object });
    if let Some(previous) = previous {
        data["previous_attributes"] = previous;
    }
    json!({
        "id": id, "object": "event", "type": event_type, "created": START + second, "livemode": false,
        "api_version": "2026-10-28.endive", "pending_webhooks": 1, "request": { "id": null }, "data": data,
    })
}

/// A thin event about an object.
pub(crate) fn thin(id: &str, event_type: &str, created: &str, object_type: &str, object_id: &str) -> Value {
    json!({
        "id": id, "object": "v2.core.event", "type": event_type, "created": created, "livemode": false,
        "related_object": { "id": object_id, "type": object_type, "url": format!("/v1/x/{object_id}") },
    })
}

/// A customer.
pub(crate) fn customer(id: &str, name: &str) -> Value {
    json!({
        "id": id, "object": "customer", "created": START, "livemode": false, "name": name,
        "email": "billing@example.com", "metadata": {},
        "address": { "line1": "Hauptstr. 1", "line2": null, "city": "Berlin", "postal_code": "10115",
                     "state": null, "country": "DE" },
    })
}

/// An active monthly subscription.
pub(crate) fn subscription(id: &str, customer: &str) -> Value {
    json!({
        "id": id, "object": "subscription", "customer": customer, "status": "active", "created": START,
        "start_date": START, "livemode": false, "currency": "eur", "metadata": {}, "cancel_at": null,
        "cancel_at_period_end": false, "ended_at": null, "pause_collection": null, "trial_start": null,
        "trial_end": null, "discounts": [],
        "items": { "object": "list", "has_more": false, "data": [{
            "id": format!("si_{id}"), "object": "subscription_item", "created": START,
            "current_period_end": START + 31 * 86_400, "price": price("price_basic", 1900),
        }]},
    })
}

/// A monthly price.
pub(crate) fn price(id: &str, amount: i64) -> Value {
    json!({
        "id": id, "object": "price", "active": true, "currency": "eur", "product": "prod_1", "livemode": false,
        "unit_amount": amount, "unit_amount_decimal": amount.to_string(), "type": "recurring",
        "recurring": { "interval": "month", "interval_count": 1, "usage_type": "licensed" },
    })
}

/// The object with some fields changed.
#[expect(clippy::needless_pass_by_value, reason = "tests write the changes where they are used, with json!")]
pub(crate) fn with(object: &Value, changes: Value) -> Value {
    let mut result = object.clone();
    for (key, value) in changes.as_object().unwrap() {
        result[key] = value.clone();
    }
    result
}

/// An update event with `previous_attributes` computed from the two states as Stripe does: a changed array as a whole,
/// a changed hash by its changed keys.
pub(crate) fn update(id: &str, event_type: &str, second: i64, before: &Value, after: &Value) -> Value {
    event(id, event_type, second, after, Some(previous(before, after)))
}

/// The changed parts of the former state: a changed array as a whole, a changed hash by its changed keys.
pub(crate) fn previous(before: &Value, after: &Value) -> Value {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else { return before.clone() };
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    let null = Value::Null;
    let value = |key: &String| (key.clone(), previous(old.get(key).unwrap_or(&null), new.get(key).unwrap_or(&null)));
    Value::Object(changed.map(value).collect())
}
