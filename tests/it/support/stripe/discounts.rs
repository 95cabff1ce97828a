//! Discounts on customers and subscriptions.

use serde_json::{Value, json};

use super::FakeStripe;
use super::world::World;

impl FakeStripe {
    /// Gives a discount to a customer or a subscription, by a coupon or a promotion code.
    pub(crate) fn discount(&self, owner: &str, by: &str) -> String {
        let mut world = self.world();
        let is_subscription = world.text(owner, "/object") == "subscription";
        let customer = if is_subscription { world.text(owner, "/customer") } else { owner.to_owned() };
        let promotion_code = (world.text(by, "/object") == "promotion_code").then_some(by);
        let coupon = promotion_code.map_or_else(|| by.to_owned(), |code| world.text(code, "/promotion/coupon"));
        let discount = json!({
            "id": world.id("di"), "object": "discount", "checkout_session": null, "customer": customer,
            "customer_account": null, "end": null, "invoice": null, "invoice_item": null,
            "promotion_code": promotion_code, "source": { "type": "coupon", "coupon": coupon }, "start": world.now,
            "subscription": is_subscription.then_some(owner), "subscription_item": null,
        });
        let discount = world.create("customer.discount.created", discount);
        let id = json!(discount);
        world.change(owner, |owner| match owner["discounts"].as_array_mut() {
            Some(discounts) => discounts.push(id),
            None => owner["discount"] = id,
        });
        discount
    }

    /// Takes a discount away.
    pub(crate) fn end_discount(&self, discount: &str) {
        let mut world = self.world();
        let owner = world.discounted(discount);
        world.bury("customer.discount.deleted", discount);
        world.change(&owner, |owner| match owner["discounts"].as_array_mut() {
            Some(discounts) => discounts.retain(|id| id != discount),
            None => owner["discount"] = Value::Null,
        });
    }
}

impl World {
    /// Whose discount it is.
    fn discounted(&self, discount: &str) -> String {
        let subscription = self.text(discount, "/subscription");
        if subscription.is_empty() { self.text(discount, "/customer") } else { subscription }
    }
}
