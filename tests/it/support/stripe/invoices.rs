//! Invoices, and their ends without a payment.

use serde_json::{Value, json};

use super::FakeStripe;
use super::world::World;

impl FakeStripe {
    /// Bills a subscription: a draft, finalized at once.
    pub(crate) fn bill(&self, subscription: &str, cents: i64) -> String {
        let mut world = self.world();
        let draft = world.draft(subscription, cents);
        let invoice = world.create("invoice.created", draft);
        let now = world.now;
        world.settle_invoice(&invoice, "invoice.finalized", |invoice| {
            invoice["status"] = json!("open");
            invoice["status_transitions"]["finalized_at"] = json!(now);
        });
        world.change(subscription, |subscription| subscription["latest_invoice"] = json!(invoice));
        invoice
    }

    /// The invoice was paid outside of Stripe.
    pub(crate) fn pay_out_of_band(&self, invoice: &str) {
        self.world().pay_invoice(invoice, true);
    }

    /// An invoice of nothing (a trial, a full coupon) is paid without a payment.
    pub(crate) fn pay_nothing(&self, invoice: &str) {
        self.world().pay_invoice(invoice, false);
    }

    pub(crate) fn void(&self, invoice: &str) {
        let mut world = self.world();
        let now = world.now;
        world.settle_invoice(invoice, "invoice.voided", |invoice| {
            invoice["status"] = json!("void");
            invoice["status_transitions"]["voided_at"] = json!(now);
        });
    }

    pub(crate) fn mark_uncollectible(&self, invoice: &str) {
        let mut world = self.world();
        let now = world.now;
        world.settle_invoice(invoice, "invoice.marked_uncollectible", |invoice| {
            invoice["status"] = json!("uncollectible");
            invoice["status_transitions"]["marked_uncollectible_at"] = json!(now);
        });
    }
}

impl World {
    /// Stripe reports a change of an invoice by `updated` and by a specific event.
    fn settle_invoice(&mut self, invoice: &str, event_type: &str, change: impl FnOnce(&mut Value)) {
        self.change(invoice, change);
        self.emit(event_type, invoice);
    }

    /// Marks an invoice as paid; a subscription that waited for the payment is active again.
    pub(super) fn pay_invoice(&mut self, invoice: &str, out_of_band: bool) {
        let now = self.now;
        self.settle_invoice(invoice, "invoice.paid", |invoice| {
            let amount = invoice["amount_due"].clone();
            invoice["status"] = json!("paid");
            invoice["attempted"] = json!(!out_of_band);
            invoice["amount_paid_off_stripe"] = if out_of_band { amount.clone() } else { json!(0) };
            // since 2025-03-31 no event contains a payment outside of Stripe, and `amount_due` stays
            invoice["amount_paid"] = if out_of_band { json!(0) } else { amount };
            invoice["amount_remaining"] = json!(0);
            invoice["status_transitions"]["paid_at"] = json!(now);
        });
        self.emit("invoice.payment_succeeded", invoice);
        let subscription = self.text(invoice, "/parent/subscription_details/subscription");
        let is_latest = self.text(&subscription, "/latest_invoice") == invoice;
        let waits = ["incomplete", "past_due", "unpaid"].contains(&self.text(&subscription, "/status").as_str());
        if is_latest && waits {
            self.change(&subscription, |subscription| subscription["status"] = json!("active"));
        }
    }

    fn draft(&mut self, subscription: &str, cents: i64) -> Value {
        let (id, now) = (self.id("in"), self.now);
        let sub = self.object(subscription);
        let item = &sub["items"]["data"][0];
        let period = json!({ "start": item["current_period_start"], "end": item["current_period_end"] });
        let line = json!({
            "id": format!("il_{id}"), "object": "line_item", "amount": cents, "currency": sub["currency"],
            "description": null, "discount_amounts": [], "discountable": true, "discounts": [], "invoice": id,
            "livemode": false, "metadata": {}, "period": period, "quantity": 1, "subtotal": cents,
            "parent": { "type": "subscription_item_details", "invoice_item_details": null,
                        "subscription_item_details": { "invoice_item": null, "proration": false,
                            "subscription": subscription, "subscription_item": item["id"] } },
            "pricing": { "type": "price_details", "price_details": { "price": item["price"] } },
        });
        let lines =
            json!({ "object": "list", "data": [line], "has_more": false, "url": format!("/v1/invoices/{id}/lines") });
        json!({
            "id": id, "object": "invoice", "amount_due": cents, "amount_overpaid": 0, "amount_paid": 0,
            "amount_paid_off_stripe": 0, "amount_remaining": cents, "attempt_count": 0, "attempted": false,
            "auto_advance": true, "billing_reason": "subscription_cycle",
            "collection_method": "charge_automatically", "created": now, "currency": sub["currency"],
            "customer": sub["customer"], "default_payment_method": null, "default_source": null,
            "discounts": sub["discounts"], "due_date": null, "lines": lines, "livemode": false, "metadata": {},
            "next_payment_attempt": null, "number": null,
            "parent": { "type": "subscription_details", "quote_details": null,
                        "subscription_details": { "metadata": sub["metadata"], "subscription": subscription } },
            "period_end": now, "period_start": sub["created"], "status": "draft",
            "status_transitions": { "finalized_at": null, "marked_uncollectible_at": null, "paid_at": null,
                                    "voided_at": null },
            "subtotal": cents, "total": cents, "test_clock": null,
        })
    }
}
