//! A simulated Stripe: creates the events that Stripe sends when an object changes.
//!
//! Owns the envelope and `previous_attributes`. Must not know the story. PURE: ids are counted, not random.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

/// The newest API version.
pub(super) const ENDIVE: &str = "2026-10-28.endive";
/// A version from before periods moved to the items (2025-03-31.basil).
pub(super) const SUMMER_2024: &str = "2024-06-20";

/// One event as Stripe stores it. Every delivery of it has its own signature.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) id: String,
    /// `type`.
    pub(super) kind: &'static str,
    body: Value,
}

impl Event {
    /// The body of a delivery. It contains the number of pending deliveries, so the bytes of a second one differ.
    pub(super) fn body(&self, pending_webhooks: u32) -> Vec<u8> {
        let mut body = self.body.clone();
        body["pending_webhooks"] = json!(pending_webhooks);
        body.to_string().into_bytes()
    }
}

/// The simulated account: numbers its events, and renders them in one API version.
#[derive(Debug)]
pub(super) struct Sandbox {
    events: u32,
    pub(super) api_version: &'static str,
}

impl Sandbox {
    pub(super) fn new(api_version: &'static str) -> Self {
        Self { events: 0, api_version }
    }

    /// An event with the current object: `*.created`, `*.deleted` and others without `previous_attributes`.
    pub(super) fn emit(&mut self, event_type: &'static str, at: OffsetDateTime, object: &Value) -> Event {
        self.event(event_type, at, &json!({ "object": object }))
    }

    /// Changes an object and returns its `*.updated` event.
    pub(super) fn update(
        &mut self,
        event_type: &'static str,
        at: OffsetDateTime,
        object: &mut Value,
        change: impl FnOnce(&mut Value),
    ) -> Event {
        let before = object.clone();
        change(object);
        let previous = previous_attributes(&before, object);
        self.event(event_type, at, &json!({ "object": object, "previous_attributes": previous }))
    }

    fn event(&mut self, event_type: &'static str, at: OffsetDateTime, data: &Value) -> Event {
        self.events += 1;
        // Stripe's ids have no order; these count backwards, so that sorting by id cannot give the right order
        let id = format!("evt_Demo{:03}", 1000_u32.saturating_sub(self.events));
        let body = json!({
            "id": id,
            "object": "event",
            "api_version": self.api_version,
            "created": at.unix_timestamp(),
            "data": data,
            "livemode": false,
            "request": { "id": format!("req_Demo{:03}", self.events), "idempotency_key": null },
            "type": event_type,
        });
        Event { id, kind: event_type, body }
    }
}

/// The previous values as Stripe sends them: only those that differ; of a hash only the keys that differ, an array
/// whole.
fn previous_attributes(before: &Value, after: &Value) -> Value {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else { return before.clone() };
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let changed = keys.filter(|key| old.get(*key) != new.get(*key));
    let previous = changed.map(|key| {
        let (old, new) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
        (key.clone(), previous_attributes(old, new))
    });
    Value::Object(previous.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn previous_attributes_contain_the_old_values() {
        let before = json!({"id": "sub_1", "status": "trialing", "a": {"x": 1, "y": 2}, "list": [1, {"z": 1}]});
        let after = json!({"id": "sub_1", "status": "active", "a": {"x": 1, "y": 3}, "list": [1, {"z": 2}], "new": 1});
        let expected = json!({"status": "trialing", "a": {"y": 2}, "list": [1, {"z": 1}], "new": null});
        assert_eq!(previous_attributes(&before, &after), expected);
    }

    #[test]
    fn previous_attributes_include_nulls() {
        let (none, some) = (json!({"pause": null}), json!({"pause": {"behavior": "void"}}));
        assert_eq!(previous_attributes(&none, &some), none);
        assert_eq!(previous_attributes(&some, &none), some);
    }

    #[test]
    fn a_second_delivery_is_the_same_event_in_other_bytes() {
        let mut sandbox = Sandbox::new(ENDIVE);
        let event = sandbox.emit("customer.created", datetime!(2026-10-29 09:30 UTC), &json!({"id": "cus_1"}));
        assert_ne!(event.body(1), event.body(0));
        assert_eq!(event.id, "evt_Demo999");
    }
}
