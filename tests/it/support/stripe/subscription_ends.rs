//! Ends of subscriptions, immediate or scheduled, and updates that wait for their payment.

use serde_json::{Value, json};

use super::FakeStripe;
use super::world::World;

const PENDING_UPDATE_HOURS: i64 = 23;

impl FakeStripe {
    /// Cancels at the period's end in classic mode, which sets both fields.
    pub(crate) fn cancel_at_period_end(&self, subscription: &str) {
        let mut world = self.world();
        let end = world.object(subscription)["items"]["data"][0]["current_period_end"].clone();
        world.announce_end(subscription, &end, true);
    }

    pub(crate) fn cancel_at(&self, subscription: &str, end: i64) {
        self.world().announce_end(subscription, &json!(end), false);
    }

    /// "Don't cancel".
    pub(crate) fn uncancel(&self, subscription: &str) {
        let kept = json!({ "cancel_at": null, "cancel_at_period_end": false, "canceled_at": null,
                           "cancellation_details": { "reason": null } });
        self.update(subscription, kept);
    }

    /// Ends a subscription: at once, or when its scheduled end has come.
    pub(crate) fn cancel_now(&self, subscription: &str) {
        self.world().end_subscription(subscription);
    }

    /// A price change that waits for its payment (`pending_if_incomplete`).
    pub(crate) fn set_pending_update(&self, subscription: &str, price: &str) {
        let mut world = self.world();
        let expires = world.now + PENDING_UPDATE_HOURS * 3600;
        // all items are listed, the one that changes last
        let changes = |item: &Value, price: &Value| json!({ "id": item["id"], "object": "subscription_item", "price": price, "quantity": 2 });
        let items = world.object(subscription)["items"]["data"].as_array().cloned().unwrap_or_default();
        let others = items.iter().skip(1).map(|item| changes(item, &item["price"]));
        let items: Vec<Value> = others.chain(items.first().map(|item| changes(item, &json!(price)))).collect();
        world.change(subscription, |subscription| {
            subscription["pending_update"] = json!({
                "billing_cycle_anchor": null, "discount": null, "discounts": [], "expires_at": expires,
                "metadata": null, "subscription_items": items, "trial_end": null, "trial_from_plan": null,
            });
        });
    }

    pub(crate) fn apply_pending_update(&self, subscription: &str) {
        let mut world = self.world();
        world.change(subscription, |subscription| {
            let waiting = subscription["pending_update"]["subscription_items"].as_array().cloned().unwrap_or_default();
            for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
                if let Some(becomes) = waiting.iter().find(|becomes| becomes["id"] == item["id"]) {
                    item["price"] = becomes["price"].clone();
                }
            }
            subscription["pending_update"] = Value::Null;
        });
        world.emit("customer.subscription.pending_update_applied", subscription);
    }

    pub(crate) fn expire_pending_update(&self, subscription: &str) {
        let mut world = self.world();
        world.change(subscription, |subscription| subscription["pending_update"] = Value::Null);
        world.emit("customer.subscription.pending_update_expired", subscription);
    }
}

impl World {
    fn announce_end(&mut self, subscription: &str, end: &Value, at_period_end: bool) {
        let now = self.now;
        self.change(subscription, |subscription| {
            subscription["cancel_at"] = end.clone();
            subscription["cancel_at_period_end"] = json!(at_period_end);
            subscription["canceled_at"] = json!(now);
            subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
        });
    }

    /// Stripe reports an end only by `deleted`.
    pub(super) fn end_subscription(&mut self, subscription: &str) {
        let now = self.now;
        self.edit(subscription, |subscription| {
            subscription["status"] = json!("canceled");
            subscription["ended_at"] = json!(now);
            if subscription["canceled_at"].is_null() {
                subscription["canceled_at"] = json!(now);
            }
        });
        self.emit("customer.subscription.deleted", subscription);
    }
}
