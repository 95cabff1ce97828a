//! Checkout sessions.

use serde_json::{Value, json};

use super::subscriptions::{DAY, Start};
use super::world::World;
use super::{FakeStripe, with_defaults};

impl FakeStripe {
    /// An open session for a price, on Stripe's own page. Stripe sends no event. `fields` may give it `discounts`, each
    /// with the id of a coupon or of a promotion code; they do not change the amounts.
    pub(crate) fn checkout(&self, price: &str, fields: Value) -> String {
        let mut world = self.world();
        let session = world.blank_session(&[(price.to_owned(), 1)]);
        let mut session = with_defaults(session, fields);
        World::set_page(&mut session);
        world.put(session)
    }

    /// The visitor subscribes in an open session, which creates the customer if it has none. Returns the subscription.
    pub(crate) fn visit_checkout(&self, session: &str) -> String {
        let visited = self.stored(session);
        assert_eq!(visited["status"], "open", "{session} cannot be visited");
        let customer = visited["customer"].as_str().map_or_else(|| self.customer(json!({})), str::to_owned);
        let lines = visited["line_items"].as_array().into_iter().flatten();
        let line = |line: &Value| (line["price"].as_str().unwrap_or_default().to_owned(), line["quantity"].clone());
        let lines: Vec<(String, Value)> = lines.map(line).collect();
        let data = &visited["subscription_data"];
        let trial_days = data["trial_period_days"].as_i64();
        let metadata = if data["metadata"].is_null() { json!({}) } else { data["metadata"].clone() };
        let start = Start { lines: &lines, trial_days, fields: json!({ "metadata": metadata }) };
        let subscription = self.world().start_subscription(&customer, start);
        for discount in visited["discounts"].as_array().into_iter().flatten() {
            if let Some(by) = discount["promotion_code"].as_str().or(discount["coupon"].as_str()) {
                self.discount(&subscription, by);
            }
        }
        let paid = if trial_days.is_some() { "no_payment_required" } else { "paid" };
        self.complete_checkout(session, &subscription, paid);
        subscription
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
            session["client_secret"] = Value::Null;
            session["url"] = Value::Null;
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
        self.world().expire_session(session);
    }
}

impl World {
    /// An open session on Stripe's own page for these prices and quantities, not yet added to the world.
    pub(super) fn blank_session(&mut self, lines: &[(String, i64)]) -> Value {
        let id = self.id("cs_test");
        let lines = self.lines(&id, lines);
        let amount: Option<i64> = lines.iter().map(|line| line["amount_total"].as_i64()).sum();
        json!({
            "id": id, "object": "checkout.session", "amount_total": amount, "cancel_url": null,
            "client_reference_id": null, "client_secret": format!("{id}_secret_fake{:04}", self.latest()),
            "created": self.now, "currency": lines[0]["currency"], "customer": null, "customer_details": null,
            "customer_email": null, "discounts": [], "expires_at": self.now + DAY, "invoice": null, "livemode": false,
            "locale": null, "metadata": {}, "line_items": lines, "mode": "subscription", "payment_intent": null,
            "payment_status": "unpaid", "return_url": null, "status": "open", "subscription": null,
            "success_url": "https://example.com/done", "ui_mode": "hosted_page", "url": "https://checkout.example.com",
        })
    }

    /// The lines of a session or payment link.
    pub(super) fn lines(&self, owner: &str, lines: &[(String, i64)]) -> Vec<Value> {
        let line = |(index, (price, quantity)): (usize, &(String, i64))| {
            let of = self.object(price);
            let amount = of["unit_amount"].as_i64().map(|amount| amount * quantity);
            let id = if index == 0 { format!("li_{owner}") } else { format!("li_{owner}_{index}") };
            json!({
                "id": id, "object": "item", "amount_subtotal": amount, "amount_total": amount,
                "currency": of["currency"], "description": null, "price": price, "quantity": quantity,
            })
        };
        lines.iter().enumerate().map(line).collect()
    }

    /// Removes the secret of a session on Stripe's own page, or the URL of any other session.
    pub(super) fn set_page(session: &mut Value) {
        let absent = if session["ui_mode"] == "hosted_page" { "client_secret" } else { "url" };
        session[absent] = Value::Null;
    }

    pub(super) fn expire_session(&mut self, session: &str) {
        self.edit(session, |session| {
            session["status"] = json!("expired");
            session["client_secret"] = Value::Null;
            session["url"] = Value::Null;
        });
        self.emit("checkout.session.expired", session);
    }
}
