//! Payment methods, and legacy cards and sources.

use serde_json::{Value, json};

use super::FakeStripe;
use super::world::World;

impl FakeStripe {
    /// A card without a customer.
    pub(crate) fn card(&self, brand: &str, last4: &str) -> String {
        let details = json!({
            "brand": brand, "display_brand": brand, "last4": last4, "country": "DE", "exp_month": 12, "exp_year": 2030,
            "funding": "credit", "networks": { "available": [brand], "preferred": null }, "wallet": null,
        });
        self.world().method("card", &details)
    }

    /// A bank account without a customer.
    pub(crate) fn sepa_debit(&self, last4: &str) -> String {
        let details = json!({
            "bank_code": "37040044", "branch_code": null, "country": "DE", "fingerprint": "fake", "last4": last4,
            "generated_from": { "charge": null, "setup_attempt": null },
        });
        self.world().method("sepa_debit", &details)
    }

    /// Attaches a method to a customer, without making it the default.
    pub(crate) fn attach(&self, method: &str, customer: &str) {
        let mut world = self.world();
        world.edit(method, |method| method["customer"] = json!(customer));
        world.emit("payment_method.attached", method);
    }

    /// The card network sends new details of a card.
    pub(crate) fn network_updates_card(&self, method: &str, last4: &str) {
        let mut world = self.world();
        world.update("payment_method.automatically_updated", method, |method| method["card"]["last4"] = json!(last4));
    }

    /// Detaches a method from its customer. If it was the default, the customer has none afterwards.
    pub(crate) fn detach(&self, method: &str) {
        let mut world = self.world();
        let customer = world.text(method, "/customer");
        world.update("payment_method.detached", method, |method| method["customer"] = json!(null));
        if world.text(&customer, "/invoice_settings/default_payment_method") == method {
            world.change(&customer, |customer| customer["invoice_settings"]["default_payment_method"] = json!(null));
        }
    }

    /// A legacy card (`card_…`); the first source of a customer becomes its default.
    pub(crate) fn legacy_card(&self, customer: &str, brand: &str, last4: &str) -> String {
        let mut world = self.world();
        let card = json!({
            "id": world.id("card"), "object": "card", "brand": brand, "country": "DE", "customer": customer,
            "exp_month": 12, "exp_year": 2030, "funding": "credit", "last4": last4, "metadata": {}, "name": null,
        });
        world.add_source(customer, card)
    }

    /// A source (`src_…`) for SEPA debits.
    pub(crate) fn sepa_source(&self, customer: &str, last4: &str) -> String {
        let mut world = self.world();
        let source = json!({
            "id": world.id("src"), "object": "source", "created": world.now, "customer": customer, "livemode": false,
            "type": "sepa_debit", "sepa_debit": { "last4": last4, "country": "DE" }, "status": "chargeable",
            "usage": "reusable", "metadata": {},
        });
        world.add_source(customer, source)
    }

    /// Removes a card or source from its customer.
    pub(crate) fn delete_source(&self, source: &str) {
        let mut world = self.world();
        let customer = world.text(source, "/customer");
        world.delete("customer.source.deleted", source);
        if world.text(&customer, "/default_source") == source {
            world.change(&customer, |customer| customer["default_source"] = json!(null));
        }
    }
}

impl World {
    fn method(&mut self, kind: &str, details: &Value) -> String {
        let address = json!({ "city": null, "country": null, "line1": null, "line2": null, "postal_code": null });
        let method = json!({
            "id": self.id("pm"), "object": "payment_method", "type": kind, kind: details, "created": self.now,
            "customer": null, "livemode": false, "metadata": {}, "allow_redisplay": "unspecified",
            "billing_details": { "address": address, "email": null, "name": null, "phone": null },
        });
        self.put(method)
    }

    fn add_source(&mut self, customer: &str, source: Value) -> String {
        let source = self.create("customer.source.created", source);
        if self.object(customer)["default_source"].is_null() {
            self.change(customer, |customer| customer["default_source"] = json!(source));
        }
        source
    }
}
