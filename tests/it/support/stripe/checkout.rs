//! Checkout sessions.

use serde_json::{Value, json};

use super::subscriptions::DAY;
use super::{FakeStripe, with_defaults};

impl FakeStripe {
    /// An open session for a price, on Stripe's own page. Stripe sends no event. `fields` may give it `discounts`, each
    /// with the id of a coupon or of a promotion code; they do not change the amounts.
    pub(crate) fn checkout(&self, price: &str, fields: Value) -> String {
        let mut world = self.world();
        let id = world.id("cs_test");
        let of = world.object(price);
        let line = json!({
            "id": format!("li_{id}"), "object": "item", "amount_subtotal": of["unit_amount"],
            "amount_total": of["unit_amount"], "currency": of["currency"], "description": null, "price": price,
            "quantity": 1,
        });
        let session = json!({
            "id": id, "object": "checkout.session", "amount_total": of["unit_amount"], "cancel_url": null,
            "client_reference_id": null, "client_secret": format!("{id}_secret_fake"), "created": world.now,
            "currency": of["currency"], "customer": null, "customer_details": null, "customer_email": null,
            "discounts": [], "expires_at": world.now + DAY, "invoice": null, "livemode": false, "locale": null,
            "metadata": {}, "line_items": [line], "mode": "subscription", "payment_intent": null,
            "payment_status": "unpaid", "return_url": null, "status": "open", "subscription": null,
            "success_url": "https://example.com/done", "ui_mode": "hosted_page", "url": "https://checkout.example.com",
        });
        world.put(with_defaults(session, fields))
    }

    /// The merchant changes the price of an open session. Stripe sends no event.
    pub(crate) fn change_items(&self, session: &str, price: &str) {
        self.world().edit(session, |session| session["line_items"][0]["price"] = json!(price));
    }

    /// The visitor has completed the session; `payment_status` is `paid`, `unpaid` (a debit) or `no_payment_required`.
    pub(crate) fn complete_checkout(&self, session: &str, subscription: &str, payment_status: &str) {
        let mut world = self.world();
        let of = world.object(subscription).clone();
        world.edit(session, |session| {
            session["status"] = json!("complete");
            session["payment_status"] = json!(payment_status);
            session["subscription"] = json!(subscription);
            session["customer"] = of["customer"].clone();
            session["invoice"] = of["latest_invoice"].clone();
        });
        world.emit("checkout.session.completed", session);
    }

    pub(crate) fn async_payment_succeeded(&self, session: &str) {
        let mut world = self.world();
        world.edit(session, |session| session["payment_status"] = json!("paid"));
        world.emit("checkout.session.async_payment_succeeded", session);
    }

    pub(crate) fn async_payment_failed(&self, session: &str) {
        self.world().emit("checkout.session.async_payment_failed", session);
    }

    pub(crate) fn expire_checkout(&self, session: &str) {
        let mut world = self.world();
        world.edit(session, |session| session["status"] = json!("expired"));
        world.emit("checkout.session.expired", session);
    }
}
