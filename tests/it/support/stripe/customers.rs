//! Customers, and the test clocks of some of them.

use serde_json::{Value, json};

use super::subscriptions::DAY;
use super::world::World;
use super::{FakeStripe, with_defaults};

impl FakeStripe {
    /// A new customer; `fields` override Stripe's defaults.
    pub(crate) fn customer(&self, fields: Value) -> String {
        let mut world = self.world();
        let customer = world.blank_customer();
        world.create("customer.created", with_defaults(customer, fields))
    }

    /// A clock for objects that reference it by `test_clock`.
    pub(crate) fn test_clock(&self, frozen_time: i64) -> String {
        let mut world = self.world();
        let clock = json!({
            "id": world.id("clock"), "object": "test_helpers.test_clock", "created": world.now,
            "deletes_after": world.now + 30 * DAY, "frozen_time": frozen_time, "livemode": false, "name": null,
            "status": "ready",
        });
        world.create("test_helpers.test_clock.created", clock)
    }

    pub(crate) fn advance_test_clock(&self, clock: &str, frozen_time: i64) {
        let mut world = self.world();
        world.edit(clock, |clock| clock["frozen_time"] = json!(frozen_time));
        world.emit("test_helpers.test_clock.ready", clock);
    }

    /// Sets the customer's default payment method, used unless a subscription has its own.
    pub(crate) fn set_default_payment_method(&self, customer: &str, method: &str) {
        self.update(customer, json!({ "invoice_settings": { "default_payment_method": method } }));
    }
}

impl World {
    /// A customer with Stripe's defaults, not yet added to the world.
    pub(super) fn blank_customer(&mut self) -> Value {
        json!({
            "id": self.id("cus"), "object": "customer", "address": null, "balance": 0, "created": self.now,
            "currency": null, "default_source": null, "delinquent": false, "description": null, "discount": null,
            "email": null, "invoice_prefix": "FAKE", "livemode": false, "metadata": {}, "name": null,
            "invoice_settings": { "custom_fields": null, "default_payment_method": null, "footer": null,
                                  "rendering_options": null },
            "next_invoice_sequence": 1, "phone": null, "preferred_locales": [], "shipping": null,
            "tax_exempt": "none", "test_clock": null,
        })
    }

    /// Ends the active subscriptions of a customer, as its deletion does.
    pub(super) fn end_subscriptions_of(&mut self, customer: &str) {
        let mut live = self.view().all("subscription");
        live.retain(|sub| sub["customer"] == customer && sub["ended_at"].is_null());
        let live: Vec<String> = live.iter().filter_map(|sub| sub["id"].as_str()).map(str::to_owned).collect();
        for subscription in live {
            self.end_subscription(&subscription);
        }
    }
}
