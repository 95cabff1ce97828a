//! Webhook endpoints. Stripe sends no event about them.

use serde_json::{Value, json};

use super::{FakeStripe, with_defaults};

impl FakeStripe {
    /// An enabled endpoint for the events of the account, unless `fields` override that.
    pub(crate) fn webhook_endpoint(&self, url: &str, enabled_events: &[String], fields: Value) -> String {
        let mut world = self.world();
        let mut endpoint = blank(&world.id("we"), world.now);
        endpoint["url"] = json!(url);
        endpoint["enabled_events"] = json!(enabled_events);
        world.put(with_defaults(endpoint, fields))
    }

    /// Changes a field of an endpoint.
    pub(crate) fn set_endpoint(&self, id: &str, field: &str, value: Value) {
        self.world().edit(id, |endpoint| endpoint[field] = value);
    }
}

pub(crate) fn blank(id: &str, now: i64) -> Value {
    json!({
        "id": id, "object": "webhook_endpoint", "api_version": null, "application": null, "created": now,
        "description": null, "enabled_events": [], "livemode": false, "metadata": {}, "status": "enabled", "url": null,
    })
}
