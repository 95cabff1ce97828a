//! The world at one moment, and its objects in each API version.
//!
//! Objects are stored in the shape of `2026-10-28.endive`, with references as ids. This module moves fields to their
//! places in older versions, and omits fields that Stripe returns only on request (`currency_options`, `line_items`,
//! `payments`).

use serde_json::{Value, json};

use super::epoch::{self, Epoch};
use super::world::World;

#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) world: &'a World,
    pub(crate) step: usize,
}

impl<'a> View<'a> {
    /// The object at this moment; a stub if it was deleted.
    pub(crate) fn get(&self, id: &str) -> Option<&'a Value> {
        self.world.at(id, self.step)
    }

    /// A nested object: its last content even after deletion, or null.
    pub(crate) fn or_null(&self, id: &Value) -> Value {
        id.as_str().and_then(|id| self.world.alive_at(id, self.step)).cloned().unwrap_or_default()
    }

    /// All objects of a kind that exist at this moment, newest first.
    pub(crate) fn all(&self, kind: &str) -> Vec<&'a Value> {
        let born = self.world.births().filter(|(_, step)| *step <= self.step);
        let mut found: Vec<(i64, usize, &Value)> = born
            .filter_map(|(id, step)| Some((step, self.get(id)?)))
            .filter(|(_, object)| object["object"] == kind && object["deleted"] != true)
            .map(|(step, object)| (object["created"].as_i64().unwrap_or_default(), step, object))
            .collect();
        found.sort_by_key(|(created, step, _)| std::cmp::Reverse((*created, *step)));
        found.into_iter().map(|(_, _, object)| object).collect()
    }

    /// The payments of an invoice, or of a payment intent.
    pub(crate) fn payments(&self, id: &str) -> Vec<&'a Value> {
        let mut payments = self.all("invoice_payment");
        payments.retain(|payment| payment["invoice"] == id || payment["payment"]["payment_intent"] == id);
        payments
    }

    /// The object of this id in an API version.
    pub(crate) fn shown(&self, id: &str, epoch: Epoch) -> Option<Value> {
        self.get(id).map(|object| self.show(object, epoch))
    }

    pub(crate) fn show(&self, object: &Value, epoch: Epoch) -> Value {
        let mut shown = object.clone();
        let Some(kind) = object["object"].as_str().filter(|_| object["deleted"] != true) else { return shown };
        match kind {
            "customer" => {
                if let Some(discount) = object["discount"].as_str().and_then(|id| self.shown(id, epoch)) {
                    shown["discount"] = discount;
                }
            }
            "subscription" => self.show_subscription(&mut shown, epoch),
            "price" => remove(&mut shown, &["currency_options"]),
            "checkout.session" => {
                remove(&mut shown, &["line_items", "subscription_data"]);
                epoch::age_session(&mut shown, epoch);
            }
            "payment_link" => remove(&mut shown, &["line_items"]),
            "discount" => epoch::age_discount(*self, &mut shown, epoch),
            "promotion_code" => epoch::age_promotion_code(*self, &mut shown, epoch),
            "invoice" => epoch::age_invoice(*self, &mut shown, epoch),
            "charge" => epoch::age_payment(*self, &mut shown, epoch),
            "payment_intent" => {
                epoch::age_payment(*self, &mut shown, epoch);
                epoch::age_payment_intent(*self, &mut shown, epoch);
            }
            _ => {}
        }
        shown
    }

    fn show_subscription(&self, shown: &mut Value, epoch: Epoch) {
        let items = self.items(shown, epoch);
        let visible = items.len().min(self.world.items_shown);
        let data = Value::from(&items[..visible]);
        let url = format!("/v1/subscription_items?subscription={}", shown["id"].as_str().unwrap_or_default());
        shown["items"] = json!({ "object": "list", "data": data, "has_more": visible < items.len(), "url": url });
        if !shown["pending_update"].is_null() {
            let waiting = &shown["pending_update"]["subscription_items"];
            shown["pending_update"]["subscription_items"] = json!(self.with_prices(waiting, epoch));
        }
        epoch::age_subscription(*self, shown, epoch);
    }

    /// All items of a subscription.
    pub(crate) fn items(&self, subscription: &Value, epoch: Epoch) -> Vec<Value> {
        self.with_prices(&subscription["items"]["data"], epoch)
    }

    /// Items with the price and the plan that Stripe nests in them.
    fn with_prices(&self, items: &Value, epoch: Epoch) -> Vec<Value> {
        let fill = |mut item: Value| {
            let price = self.or_null(&item["price"]);
            item["plan"] = plan(&price);
            item["price"] = self.show(&price, epoch);
            item
        };
        items.as_array().cloned().unwrap_or_default().into_iter().map(fill).collect()
    }
}

pub(crate) fn remove(object: &mut Value, fields: &[&str]) {
    if let Some(object) = object.as_object_mut() {
        object.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

/// The legacy view of a price: a plan with the same id.
pub(crate) fn plan(price: &Value) -> Value {
    let recurring = &price["recurring"];
    json!({
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": price["billing_scheme"],
        "created": price["created"], "currency": price["currency"], "interval": recurring["interval"],
        "interval_count": recurring["interval_count"], "livemode": false, "metadata": price["metadata"],
        "meter": recurring["meter"], "nickname": price["nickname"], "product": price["product"], "tiers_mode": null,
        "transform_usage": null, "trial_period_days": null, "usage_type": recurring["usage_type"],
    })
}
