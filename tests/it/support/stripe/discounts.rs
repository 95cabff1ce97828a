//! Discounts of every scope: customers, subscriptions, one item of a subscription, one invoice.

use serde_json::{Value, json};

use super::FakeStripe;
use super::world::World;

impl FakeStripe {
    /// Gives a discount to a customer or a subscription, by a coupon or a promotion code.
    pub(crate) fn discount(&self, owner: &str, by: &str) -> String {
        let mut world = self.world();
        let is_subscription = world.text(owner, "/object") == "subscription";
        let customer = if is_subscription { world.text(owner, "/customer") } else { owner.to_owned() };
        let mut discount = world.new_discount(&customer, by);
        discount["subscription"] = json!(is_subscription.then_some(owner));
        let discount = world.create("customer.discount.created", discount);
        let id = json!(discount);
        world.change(owner, |owner| match owner["discounts"].as_array_mut() {
            Some(discounts) => discounts.push(id),
            None => owner["discount"] = id,
        });
        discount
    }

    /// Gives a discount to one invoice. Stripe documents no event for it: only the invoice shows it.
    pub(crate) fn discount_invoice(&self, invoice: &str, by: &str) -> String {
        let mut world = self.world();
        let customer = world.text(invoice, "/customer");
        let mut discount = world.new_discount(&customer, by);
        discount["invoice"] = json!(invoice);
        let discount = world.put(discount);
        world.change(invoice, |invoice| invoice["discounts"] = json!([discount]));
        discount
    }

    /// Gives a discount to the first item of a subscription. The item shows its id, and reads expand it.
    pub(crate) fn discount_item(&self, subscription: &str, by: &str) -> String {
        let mut world = self.world();
        let customer = world.text(subscription, "/customer");
        let mut discount = world.new_discount(&customer, by);
        discount["subscription_item"] = world.object(subscription)["items"]["data"][0]["id"].clone();
        let discount = world.put(discount);
        world.change(subscription, |one| one["items"]["data"][0]["discounts"] = json!([discount]));
        discount
    }

    /// Removes a discount.
    pub(crate) fn end_discount(&self, discount: &str) {
        let mut world = self.world();
        let owner = world.discounted(discount);
        world.delete("customer.discount.deleted", discount);
        world.change(&owner, |owner| match owner["discounts"].as_array_mut() {
            Some(discounts) => discounts.retain(|id| id != discount),
            None => owner["discount"] = Value::Null,
        });
    }
}

impl World {
    /// A discount of a customer by a coupon or a promotion code, not yet added to the world.
    fn new_discount(&mut self, customer: &str, by: &str) -> Value {
        let promotion_code = (self.text(by, "/object") == "promotion_code").then_some(by);
        let coupon = promotion_code.map_or_else(|| by.to_owned(), |code| self.text(code, "/promotion/coupon"));
        json!({
            "id": self.id("di"), "object": "discount", "checkout_session": null, "customer": customer,
            "customer_account": null, "end": null, "invoice": null, "invoice_item": null,
            "promotion_code": promotion_code, "source": { "type": "coupon", "coupon": coupon }, "start": self.now,
            "subscription": null, "subscription_item": null,
        })
    }

    /// The discount's subscription or customer.
    fn discounted(&self, discount: &str) -> String {
        let subscription = self.text(discount, "/subscription");
        if subscription.is_empty() { self.text(discount, "/customer") } else { subscription }
    }
}
