//! Products, prices, coupons and promotion codes.

use serde_json::{Value, json};

use super::{FakeStripe, with_defaults};

impl FakeStripe {
    pub(crate) fn product(&self, fields: Value) -> String {
        let mut world = self.world();
        let product = json!({
            "id": world.id("prod"), "object": "product", "active": true, "created": world.now, "default_price": null,
            "description": null, "images": [], "livemode": false, "marketing_features": [], "metadata": {},
            "name": "Writing", "type": "service", "updated": world.now, "url": null,
        });
        world.create("product.created", with_defaults(product, fields))
    }

    /// A price in euro cents a month, unless `fields` override that.
    pub(crate) fn price(&self, product: &str, cents: i64, fields: Value) -> String {
        let mut world = self.world();
        let option = json!({ "custom_unit_amount": null, "tax_behavior": "unspecified", "unit_amount": cents,
                             "unit_amount_decimal": cents.to_string() });
        let price = json!({
            "id": world.id("price"), "object": "price", "active": true, "billing_scheme": "per_unit",
            "created": world.now, "currency": "eur", "currency_options": { "eur": option }, "livemode": false,
            "custom_unit_amount": null, "lookup_key": null, "metadata": {}, "nickname": null, "product": product,
            "recurring": { "interval": "month", "interval_count": 1, "meter": null, "trial_period_days": null,
                           "usage_type": "licensed" },
            "tax_behavior": "unspecified", "tiers_mode": null, "transform_quantity": null, "type": "recurring",
            "unit_amount": cents, "unit_amount_decimal": cents.to_string(),
        });
        let price = world.create("price.created", with_defaults(price, fields));
        world.emit("plan.created", &price);
        price
    }

    /// A trial offer for three months at one price, and then another. Stripe sends no event about it.
    pub(crate) fn trial_offer(&self, price: &str, next_price: &str) -> String {
        let mut world = self.world();
        let offer = json!({
            "id": world.id("to"), "object": "product_catalog.trial_offer", "active": true,
            "duration": { "relative": { "iterations": 3 }, "type": "relative" }, "livemode": false, "nickname": null,
            "end_behavior": { "transition": { "price": next_price }, "type": "transition" }, "price": price,
        });
        world.put(offer)
    }

    /// A coupon with this id, which merchants choose themselves.
    pub(crate) fn coupon(&self, id: &str, percent_off: f64) -> String {
        let mut world = self.world();
        let coupon = json!({
            "id": id, "object": "coupon", "amount_off": null, "created": world.now, "currency": null,
            "duration": "forever", "duration_in_months": null, "livemode": false, "max_redemptions": null,
            "metadata": {}, "name": null, "percent_off": percent_off, "redeem_by": null, "times_redeemed": 0,
            "valid": true,
        });
        world.create("coupon.created", coupon)
    }

    pub(crate) fn promotion_code(&self, coupon: &str, code: &str) -> String {
        let mut world = self.world();
        let promotion_code = json!({
            "id": world.id("promo"), "object": "promotion_code", "active": true, "code": code, "created": world.now,
            "customer": null, "customer_account": null, "expires_at": null, "livemode": false,
            "max_redemptions": null, "metadata": {}, "promotion": { "type": "coupon", "coupon": coupon },
            "restrictions": { "first_time_transaction": false, "minimum_amount": null }, "times_redeemed": 0,
        });
        world.create("promotion_code.created", promotion_code)
    }
}
