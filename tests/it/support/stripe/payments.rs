//! Payments of invoices: payment intents, their charges, and disputes of charges.

use serde_json::{Value, json};

use super::FakeStripe;
use super::world::World;

impl FakeStripe {
    /// Starts a debit, which is pending for days. Returns the charge.
    pub(crate) fn charge_pending(&self, invoice: &str, method: &str) -> String {
        let mut world = self.world();
        let charge = world.charge(invoice, method, "pending", None);
        let intent = world.text(&charge, "/payment_intent");
        world.edit(&intent, |intent| intent["status"] = json!("processing"));
        world.emit("charge.pending", &charge);
        world.emit("payment_intent.processing", &intent);
        charge
    }

    /// Fails the pending attempt of this method, or a new one. Returns the charge.
    pub(crate) fn charge_failed(&self, invoice: &str, method: &str, code: &str) -> String {
        let mut world = self.world();
        let charge = world.charge(invoice, method, "failed", Some(code));
        let intent = world.text(&charge, "/payment_intent");
        let method = world.object(method).clone();
        world.edit(&intent, |intent| {
            intent["status"] = json!("requires_payment_method");
            intent["payment_method"] = Value::Null;
            let error = json!({ "type": "card_error", "code": code, "charge": charge, "payment_method": method });
            intent["last_payment_error"] = error;
        });
        world.emit("charge.failed", &charge);
        world.emit("payment_intent.payment_failed", &intent);
        world.change(invoice, |invoice| {
            invoice["attempted"] = json!(true);
            invoice["attempt_count"] = json!(invoice["attempt_count"].as_i64().unwrap_or_default() + 1);
        });
        world.emit("invoice.payment_failed", invoice);
        charge
    }

    /// Completes the pending attempt of this method, or a new one. Returns the charge.
    pub(crate) fn charge_succeeded(&self, invoice: &str, method: &str) -> String {
        let mut world = self.world();
        let charge = world.charge(invoice, method, "succeeded", None);
        let (now, intent) = (world.now, world.text(&charge, "/payment_intent"));
        world.edit(&intent, |intent| {
            intent["status"] = json!("succeeded");
            intent["amount_received"] = intent["amount"].clone();
            intent["last_payment_error"] = Value::Null;
        });
        let payment = world.view().payments(&intent)[0]["id"].as_str().unwrap_or_default().to_owned();
        world.edit(&payment, |payment| {
            payment["status"] = json!("paid");
            payment["amount_paid"] = payment["amount_requested"].clone();
            payment["status_transitions"]["paid_at"] = json!(now);
        });
        world.emit("charge.succeeded", &charge);
        world.emit("payment_intent.succeeded", &intent);
        world.pay_invoice(invoice, false);
        world.emit("invoice_payment.paid", &payment);
        charge
    }

    /// The bank's customer disputes the charge.
    pub(crate) fn dispute(&self, charge: &str) -> String {
        let mut world = self.world();
        let of = world.object(charge).clone();
        let dispute = json!({
            "id": world.id("dp"), "object": "dispute", "amount": of["amount"], "charge": charge, "created": world.now,
            "balance_transactions": [], "currency": of["currency"], "evidence": {}, "evidence_details": {},
            "is_charge_refundable": false, "livemode": false, "metadata": {},
            "payment_intent": of["payment_intent"], "reason": "debit_not_authorized", "status": "needs_response",
        });
        world.edit(charge, |charge| charge["disputed"] = json!(true));
        world.create("charge.dispute.created", dispute)
    }

    pub(crate) fn close_dispute(&self, dispute: &str, won: bool) {
        let mut world = self.world();
        world.edit(dispute, |dispute| dispute["status"] = json!(if won { "won" } else { "lost" }));
        world.emit("charge.dispute.closed", dispute);
    }
}

impl World {
    /// Sets the new state of an attempt's charge and updates its payment intent, without events.
    fn charge(&mut self, invoice: &str, method: &str, status: &str, failure: Option<&str>) -> String {
        let intent = self.intent(invoice);
        let latest = self.text(&intent, "/latest_charge");
        let continues = !latest.is_empty()
            && self.text(&latest, "/status") == "pending"
            && self.text(&latest, "/payment_method") == method;
        let charge = if continues { latest } else { self.new_charge(&intent, method) };
        let paid = status == "succeeded";
        self.edit(&charge, |charge| {
            charge["status"] = json!(status);
            charge["paid"] = json!(paid);
            charge["captured"] = json!(paid);
            charge["failure_code"] = json!(failure);
        });
        self.edit(&intent, |intent| {
            intent["latest_charge"] = json!(charge);
            intent["payment_method"] = json!(method);
        });
        charge
    }

    fn new_charge(&mut self, intent: &str, method: &str) -> String {
        let (id, of, by) = (self.id("ch"), self.object(intent), self.object(method));
        let kind = by["type"].as_str().unwrap_or_default();
        let charge = json!({
            "id": id, "object": "charge", "amount": of["amount"], "amount_captured": 0, "amount_refunded": 0,
            "balance_transaction": null, "billing_details": by["billing_details"], "captured": false,
            "created": self.now, "currency": of["currency"], "customer": of["customer"], "description": null,
            "disputed": false, "failure_code": null, "failure_message": null, "livemode": false, "metadata": {},
            "paid": false, "payment_intent": intent, "payment_method": method,
            "payment_method_details": { "type": kind, kind: by[kind] }, "refunded": false, "status": "pending",
        });
        self.put(charge)
    }

    /// The payment intent of an invoice, created by the first attempt.
    fn intent(&mut self, invoice: &str) -> String {
        if let Some(payment) = self.view().payments(invoice).first() {
            return payment["payment"]["payment_intent"].as_str().unwrap_or_default().to_owned();
        }
        let (id, of) = (self.id("pi"), self.object(invoice).clone());
        let (amount, currency) = (&of["amount_due"], &of["currency"]);
        let payment = json!({
            "id": self.id("inpay"), "object": "invoice_payment", "amount_paid": null, "amount_requested": amount,
            "created": self.now, "currency": currency, "invoice": invoice, "is_default": true, "livemode": false,
            "payment": { "type": "payment_intent", "payment_intent": id }, "status": "open",
            "status_transitions": { "canceled_at": null, "paid_at": null },
        });
        self.put(payment);
        let intent = json!({
            "id": id, "object": "payment_intent", "amount": amount, "amount_received": 0, "canceled_at": null,
            "client_secret": format!("{id}_secret_fake"), "created": self.now, "currency": currency,
            "customer": of["customer"], "last_payment_error": null, "latest_charge": null, "livemode": false,
            "metadata": {}, "payment_method": null, "payment_method_types": ["card", "sepa_debit"],
            "status": "requires_payment_method",
        });
        self.create("payment_intent.created", intent)
    }
}
