//! Subscriptions: their start, periods, items and pauses.

use serde_json::{Value, json};
use time::util::days_in_month;
use time::{Date, Month, OffsetDateTime};

use super::world::World;
use super::{FakeStripe, with_defaults};

pub(super) const DAY: i64 = 86_400;

/// The terms of a new subscription.
pub(super) struct Start<'a> {
    /// Price and quantity of each item.
    pub(super) lines: &'a [(String, Value)],
    pub(super) trial_days: Option<i64>,
    /// Fields that override defaults.
    pub(super) fields: Value,
}

impl FakeStripe {
    /// An active subscription to one price.
    pub(crate) fn subscribe(&self, customer: &str, price: &str) -> String {
        self.subscribe_with(customer, price, json!({}))
    }

    /// The same with `fields` that override defaults: a status of `incomplete`, metadata, a payment method.
    pub(crate) fn subscribe_with(&self, customer: &str, price: &str, fields: Value) -> String {
        let lines = [(price.to_owned(), json!(1))];
        self.world().start_subscription(customer, Start { lines: &lines, trial_days: None, fields })
    }

    /// A subscription that begins with a trial.
    pub(crate) fn trial(&self, customer: &str, price: &str, days: i64) -> String {
        let lines = [(price.to_owned(), json!(1))];
        self.world().start_subscription(customer, Start { lines: &lines, trial_days: Some(days), fields: json!({}) })
    }

    /// Ends the trial and starts the first paid period, now.
    pub(crate) fn convert_trial(&self, subscription: &str) {
        let mut world = self.world();
        let now = world.now;
        world.new_period(subscription, now, |subscription| {
            subscription["status"] = json!("active");
            subscription["trial_end"] = json!(now);
            subscription["billing_cycle_anchor"] = json!(now);
        });
    }

    /// Starts the next period at the end of the previous one.
    pub(crate) fn renew(&self, subscription: &str) {
        let mut world = self.world();
        let end = world.object(subscription)["items"]["data"][0]["current_period_end"].as_i64().unwrap_or_default();
        world.new_period(subscription, end, |_| {});
    }

    /// Changes the price of the only item.
    pub(crate) fn switch_price(&self, subscription: &str, price: &str) {
        self.world().change(subscription, |subscription| subscription["items"]["data"][0]["price"] = json!(price));
    }

    /// Replaces the items by a new one.
    pub(crate) fn replace_item(&self, subscription: &str, price: &str) -> String {
        self.world().put_item(subscription, price, true)
    }

    pub(crate) fn add_item(&self, subscription: &str, price: &str) -> String {
        self.world().put_item(subscription, price, false)
    }

    /// Dunning: `past_due`, `unpaid`; or `active` again, or `incomplete_expired`, which is an end.
    pub(crate) fn set_status(&self, subscription: &str, status: &str) {
        let mut world = self.world();
        let ended = (status == "incomplete_expired").then_some(world.now);
        world.change(subscription, |subscription| {
            subscription["status"] = json!(status);
            subscription["ended_at"] = json!(ended);
        });
    }

    /// Pauses collection: invoices are voided until a resume; the status stays.
    pub(crate) fn pause_collection(&self, subscription: &str) {
        self.update(subscription, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    }

    pub(crate) fn resume_collection(&self, subscription: &str) {
        self.update(subscription, json!({ "pause_collection": null }));
    }

    /// Sets the status `paused` by request, with two events: an `updated` and a `paused`.
    pub(crate) fn pause(&self, subscription: &str) {
        self.pause_because(subscription, "pause_requested");
    }

    /// The same for another reason of Stripe's: a trial that ended without a payment method, a payment that failed.
    pub(crate) fn pause_because(&self, subscription: &str, reason: &str) {
        let mut world = self.world();
        let paused =
            json!({ "subscription": { "type": reason }, "transitioned_at": world.now, "type": "subscription" });
        world.change(subscription, |subscription| {
            subscription["status"] = json!("paused");
            subscription["status_details"] = json!({ "paused": paused });
        });
        world.emit_change("customer.subscription.paused", subscription);
    }

    pub(crate) fn resume(&self, subscription: &str) {
        let mut world = self.world();
        world.change(subscription, |subscription| {
            subscription["status"] = json!("active");
            subscription["status_details"] = Value::Null;
        });
        world.emit_change("customer.subscription.resumed", subscription);
    }

    /// Gives the only item a trial offer until `end`. A paid offer does not change the status.
    pub(crate) fn start_offer(&self, subscription: &str, offer: &str, end: i64) {
        let mut world = self.world();
        let trial = json!({ "start_date": world.now, "end_date": end, "trial_offer": offer });
        world.change(subscription, |subscription| subscription["items"]["data"][0]["current_trial"] = trial);
    }

    /// Ends the trial offer: the item gets the price after it.
    pub(crate) fn end_offer(&self, subscription: &str) {
        let mut world = self.world();
        let offer = world.text(subscription, "/items/data/0/current_trial/trial_offer");
        let price = world.text(&offer, "/end_behavior/transition/price");
        world.change(subscription, |subscription| {
            subscription["items"]["data"][0]["current_trial"] = Value::Null;
            subscription["items"]["data"][0]["price"] = json!(price);
        });
    }
}

impl World {
    pub(super) fn start_subscription(&mut self, customer: &str, start: Start<'_>) -> String {
        let (id, now, price) = (self.id("sub"), self.now, &start.lines[0].0);
        let trial_end = start.trial_days.map(|days| now + days * DAY);
        let end = trial_end.unwrap_or_else(|| self.period_end(price));
        let mut items = Vec::new();
        for (price, quantity) in start.lines {
            let mut item = self.item(&id, price, end);
            item["quantity"] = quantity.clone();
            items.push(item);
        }
        let mut subscription = self.blank_subscription(&id, customer, price, &items);
        if let Some(end) = trial_end {
            let trial =
                json!({ "status": "trialing", "trial_start": now, "trial_end": end, "billing_cycle_anchor": end });
            subscription = with_defaults(subscription, trial);
        }
        self.create("customer.subscription.created", with_defaults(subscription, start.fields))
    }

    fn blank_subscription(&self, id: &str, customer: &str, price: &str, items: &[Value]) -> Value {
        let unset = [
            "application",
            "application_fee_percent",
            "billing_cycle_anchor_config",
            "cancel_at",
            "canceled_at",
            "customer_account",
            "days_until_due",
            "default_payment_method",
            "default_source",
            "description",
            "ended_at",
            "latest_invoice",
            "next_pending_invoice_item_invoice",
            "on_behalf_of",
            "pause_collection",
            "pending_invoice_item_interval",
            "pending_setup_intent",
            "pending_update",
            "schedule",
            "test_clock",
            "transfer_data",
            "trial_end",
            "trial_start",
        ];
        let unset: Value = unset.into_iter().map(|field| (field.to_owned(), Value::Null)).collect();
        let set = json!({
            "id": id, "object": "subscription", "billing_cycle_anchor": self.now, "billing_schedules": [],
            "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null },
            "billing_mode": { "type": "flexible", "flexible": { "proration_discounts": "included" } },
            "cancel_at_period_end": false,
            "cancellation_details": { "comment": null, "feedback": null, "reason": null },
            "collection_method": "charge_automatically", "created": self.now,
            "currency": self.text(price, "/currency"), "customer": customer, "default_tax_rates": [],
            "discounts": [], "invoice_settings": { "account_tax_ids": null, "issuer": { "type": "self" } },
            "items": { "data": items }, "livemode": false, "metadata": {},
            "payment_settings": { "payment_method_options": null, "payment_method_types": null },
            "start_date": self.now, "status": "active", "status_details": null,
            "trial_settings": { "end_behavior": { "missing_payment_method": "create_invoice" } },
        });
        with_defaults(unset, set)
    }

    fn item(&mut self, subscription: &str, price: &str, period_end: i64) -> Value {
        json!({
            "id": self.id("si"), "object": "subscription_item", "billing_thresholds": null, "created": self.now,
            "current_trial": null,
            "current_period_start": self.now, "current_period_end": period_end, "discounts": [], "metadata": {},
            "price": price, "quantity": 1, "subscription": subscription, "tax_rates": [],
        })
    }

    fn put_item(&mut self, subscription: &str, price: &str, instead: bool) -> String {
        let end = self.period_end(price);
        let item = self.item(subscription, price, end);
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        self.change(subscription, |subscription| {
            if let Some(items) = subscription["items"]["data"].as_array_mut() {
                items.truncate(if instead { 0 } else { items.len() });
                items.push(item);
            }
        });
        id
    }

    fn period_end(&self, price: &str) -> i64 {
        interval_after(self.now, self.now, &self.object(price)["recurring"])
    }

    fn new_period(&mut self, subscription: &str, start: i64, change: impl FnOnce(&mut Value)) {
        let mut after = self.object(subscription).clone();
        change(&mut after);
        let anchor = after["billing_cycle_anchor"].as_i64().unwrap_or(start);
        for item in after["items"]["data"].as_array_mut().into_iter().flatten() {
            let price = item["price"].as_str().unwrap_or_default();
            let end = interval_after(start, anchor, &self.object(price)["recurring"]);
            item["current_period_start"] = json!(start);
            item["current_period_end"] = json!(end);
        }
        self.change(subscription, |subscription| *subscription = after);
    }
}

/// The end of a period that begins at `start`: the interval later, on the day of the anchor, or on the last day of a
/// month without that day.
fn interval_after(start: i64, anchor: i64, recurring: &Value) -> i64 {
    let count = i32::try_from(recurring["interval_count"].as_i64().unwrap_or(1)).unwrap();
    let months = if recurring["interval"] == "year" { 12 * count } else { count };
    let date = OffsetDateTime::from_unix_timestamp(start).unwrap();
    let anchor = OffsetDateTime::from_unix_timestamp(anchor).unwrap();
    let month = date.year() * 12 + i32::from(u8::from(date.month())) - 1 + months;
    let (year, number) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    let month = Month::try_from(u8::try_from(number).unwrap()).unwrap();
    let day = anchor.day().min(days_in_month(month, year));
    date.replace_date(Date::from_calendar_date(year, month, day).unwrap()).unix_timestamp()
}
