//! The objects of the story in Stripe's JSON: customers, prices, subscriptions, an invoice.
//!
//! Rendered for the newest API version; [`as_in_2024`] converts a subscription to the shape before periods moved to its
//! items. Must not know the story. PURE.

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

/// Creation time of all prices and products.
const CATALOGUE_AT: i64 = 1_704_067_200;

/// Fields of a subscription that are null on its first day.
const UNSET: [&str; 21] = [
    "application",
    "application_fee_percent",
    "billing_cycle_anchor_config",
    "billing_thresholds",
    "cancel_at",
    "canceled_at",
    "customer_account",
    "days_until_due",
    "default_payment_method",
    "default_source",
    "description",
    "ended_at",
    "latest_invoice",
    "pause_collection",
    "pending_setup_intent",
    "pending_update",
    "schedule",
    "status_details",
    "test_clock",
    "trial_end",
    "trial_start",
];

/// A price in cents of a euro.
pub(super) struct Price {
    pub(super) id: &'static str,
    pub(super) product: &'static str,
    pub(super) cents: u32,
    /// `month` or `year`.
    pub(super) interval: &'static str,
    /// `limit_words` of its metadata.
    pub(super) words: Option<i64>,
}

impl Price {
    /// A price for each month, without limits.
    pub(super) const fn monthly(id: &'static str, product: &'static str, cents: u32) -> Self {
        Self { id, product, cents, interval: "month", words: None }
    }

    fn metadata(&self) -> Value {
        // Stripe's metadata contains only text
        self.words.map_or_else(|| json!({}), |words| json!({ "limit_words": words.to_string() }))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id,
            "object": "price",
            "active": true,
            "billing_scheme": "per_unit",
            "created": CATALOGUE_AT,
            "currency": "eur",
            "custom_unit_amount": null,
            "livemode": false,
            "lookup_key": null,
            "metadata": self.metadata(),
            "nickname": null,
            "product": self.product,
            "recurring": {
                "interval": self.interval, "interval_count": 1, "meter": null, "trial_period_days": null,
                "usage_type": "licensed"
            },
            "tax_behavior": "unspecified",
            "tiers_mode": null,
            "transform_quantity": null,
            "type": "recurring",
            "unit_amount": self.cents,
            "unit_amount_decimal": self.cents.to_string(),
        })
    }

    /// The price as a plan, the older shape, which Stripe still sends with it.
    fn plan_json(&self) -> Value {
        json!({
            "id": self.id,
            "object": "plan",
            "active": true,
            "amount": self.cents,
            "amount_decimal": self.cents.to_string(),
            "billing_scheme": "per_unit",
            "created": CATALOGUE_AT,
            "currency": "eur",
            "interval": self.interval,
            "interval_count": 1,
            "livemode": false,
            "metadata": self.metadata(),
            "meter": null,
            "nickname": null,
            "product": self.product,
            "tiers_mode": null,
            "transform_usage": null,
            "trial_period_days": null,
            "usage_type": "licensed",
        })
    }
}

/// A customer without address.
pub(super) fn customer(id: &str, name: &str, email: &str, created: OffsetDateTime, workspace_id: Uuid) -> Value {
    json!({
        "id": id,
        "object": "customer",
        "address": null,
        "balance": 0,
        "business_name": null,
        "created": created.unix_timestamp(),
        "currency": "eur",
        "customer_account": null,
        "default_source": null,
        "delinquent": false,
        "description": null,
        "discount": null,
        "email": email,
        "individual_name": name,
        "invoice_settings": {
            "custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null
        },
        "livemode": false,
        "metadata": { "workspace_id": workspace_id },
        "name": name,
        "phone": null,
        "preferred_locales": ["en"],
        "shipping": null,
        "tax_exempt": "none",
        "test_clock": null,
    })
}

/// An address of a customer.
pub(super) fn address(line1: &str, postal_code: &str, city: &str, country: &str) -> Value {
    json!({
        "line1": line1, "line2": "", "postal_code": postal_code, "city": city, "state": "", "country": country
    })
}

/// An active subscription to `price` with one item and a first period.
pub(super) fn subscription(
    id: &str,
    item_id: &str,
    customer_id: &str,
    price: &Price,
    (from, until): (OffsetDateTime, OffsetDateTime),
) -> Value {
    let created = from.unix_timestamp();
    let mut item = json!({
        "id": item_id,
        "object": "subscription_item",
        "billing_thresholds": null,
        "created": created,
        "current_trial": null,
        "discounts": [],
        "metadata": {},
        "quantity": 1,
        "subscription": id,
        "tax_rates": [],
    });
    set_period(&mut item, from, until);
    set_price(&mut item, price);
    let mut subscription = json!({
        "id": id,
        "object": "subscription",
        "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null },
        "billing_cycle_anchor": created,
        "billing_mode": { "flexible": { "proration_discounts": "included" }, "type": "flexible", "updated_at": created },
        "billing_schedules": [],
        "cancel_at_period_end": false,
        "cancellation_details": { "comment": null, "feedback": null, "reason": null },
        "collection_method": "charge_automatically",
        "created": created,
        "currency": "eur",
        "customer": customer_id,
        "default_tax_rates": [],
        "discounts": [],
        "items": {
            "object": "list", "data": [item], "has_more": false, "total_count": 1,
            "url": format!("/v1/subscription_items?subscription={id}")
        },
        "livemode": false,
        "metadata": {},
        "start_date": created,
        "status": "active",
        "trial_settings": { "end_behavior": { "billing_cycle_anchor": "now", "missing_payment_method": "cancel" } },
    });
    for key in UNSET {
        subscription[key] = Value::Null;
    }
    subscription
}

/// The only item of a subscription.
pub(super) fn item(subscription: &mut Value) -> &mut Value {
    &mut subscription["items"]["data"][0]
}

/// Changes the price of an item.
pub(super) fn set_price(item: &mut Value, price: &Price) {
    item["price"] = price.json();
    item["plan"] = price.plan_json();
}

/// Changes the period of an item.
pub(super) fn set_period(item: &mut Value, from: OffsetDateTime, until: OffsetDateTime) {
    item["current_period_start"] = json!(from.unix_timestamp());
    item["current_period_end"] = json!(until.unix_timestamp());
}

/// The subscription in the API version 2024-06-20: the period at the top level, `discount` as well as `discounts`, and
/// no newer fields.
pub(super) fn as_in_2024(subscription: &Value) -> Value {
    let mut old = subscription.clone();
    let item = item(&mut old);
    let period = ["current_period_start", "current_period_end"].map(|key| (key, item[key].take()));
    let plan = item["plan"].clone();
    without(item, &["current_period_start", "current_period_end", "current_trial"]);
    without(&mut old, &["billing_mode", "billing_schedules", "customer_account", "status_details"]);
    for (key, value) in period {
        old[key] = value;
    }
    old["plan"] = plan;
    old["quantity"] = json!(1);
    old["discount"] = Value::Null;
    old["trial_settings"] = json!({ "end_behavior": { "missing_payment_method": "create_invoice" } });
    old
}

fn without(object: &mut Value, keys: &[&str]) {
    if let Some(object) = object.as_object_mut() {
        object.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// A SEPA direct debit payment method of a customer.
pub(super) fn sepa_debit(id: &str, customer_id: &str) -> Value {
    json!({
        "id": id,
        "object": "payment_method",
        "allow_redisplay": "always",
        "billing_details": {},
        "created": CATALOGUE_AT,
        "customer": customer_id,
        "livemode": false,
        "metadata": {},
        "sepa_debit": {
            "bank_code": "0007", "branch_code": "", "country": "PT", "fingerprint": "DemoAdaIban", "generated_from": null,
            "last4": "3154"
        },
        "type": "sepa_debit",
    })
}

/// A paid invoice, with the fields that this program reads.
pub(super) fn invoice(id: &str, customer_id: &str, subscription_id: &str, cents: u32) -> Value {
    json!({
        "id": id,
        "object": "invoice",
        "amount_due": cents,
        "amount_paid": cents,
        "amount_remaining": 0,
        "currency": "eur",
        "customer": customer_id,
        "livemode": false,
        "parent": {
            "type": "subscription_details",
            "subscription_details": { "metadata": {}, "subscription": subscription_id }
        },
        "status": "paid",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn the_shape_of_2024_has_its_period_at_the_top() {
        let period = (datetime!(2024-07-01 08:00 UTC), datetime!(2024-08-01 08:00 UTC));
        let price = Price::monthly("price_1", "prod_1", 900);
        let mut new = subscription("sub_1", "si_1", "cus_1", &price, period);
        let mut old = as_in_2024(&new);
        assert_eq!(old["current_period_end"], item(&mut new)["current_period_end"]);
        assert!(item(&mut old).get("current_period_end").is_none());
        assert!(old.get("billing_mode").is_none());
    }
}
