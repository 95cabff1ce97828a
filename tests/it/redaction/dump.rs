//! What a dump of the database contains of a redacted person: nothing, in no form, and everything of the others.

use std::collections::{BTreeMap, BTreeSet};

use billing_sync::redaction;
use serde_json::{Value, json};

use super::redact;
use crate::support::dump::Dump;
use crate::support::events::{START, event, subscription, with};
use crate::writes::harness::Shop;

/// The tables that contain personal data, with the API and its changes at Stripe.
const TABLES: [&str; 8] = [
    "api_requests",
    "api_writes",
    "billing_contacts",
    "checkout_sessions",
    "events",
    "row_changes",
    "stripe_objects",
    "subscriptions",
];

/// A person whose data is like that of no other.
struct Person {
    /// Stripe's id.
    customer: String,
    /// In the ids of the person's objects.
    number: u8,
    /// In every name, address and text.
    word: &'static str,
    /// The last digits of the card.
    last4: &'static str,
    phone: &'static str,
    /// Outside ASCII.
    city: &'static str,
}

impl Person {
    /// What must not be found after the redaction.
    fn texts(&self) -> Vec<String> {
        [self.word, self.last4, self.phone, self.city].map(str::to_owned).to_vec()
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}_of{}", self.number)
    }

    /// Name, addresses and phone, as several objects contain them.
    fn details(&self) -> Value {
        let word = self.word;
        json!({
            "name": format!("{word} Person"), "email": format!("{word}@person.test"), "phone": format!("+{}", self.phone),
            "address": { "line1": format!("Rua {word} 7"), "line2": format!("c/o {word}"), "city": self.city,
                "postal_code": format!("PC-{word}"), "state": format!("State {word}"), "country": "PT" },
        })
    }

    /// An object of the person, with the fields that all have.
    fn object(&self, kind: &str, prefix: &str, fields: Value) -> Value {
        let base = json!({
            "id": self.id(prefix), "object": kind, "customer": self.customer, "created": START, "livemode": false,
            "currency": "eur", "metadata": { "note": format!("note of {}", self.word) },
        });
        with(&base, fields)
    }

    fn customer(&self) -> Value {
        let details = self.details();
        let fields = json!({
            "id": self.customer, "description": format!("knows {}", self.word), "shipping": details,
            "invoice_settings": { "default_payment_method": self.id("pm"),
                "custom_fields": [{ "name": "Contact", "value": self.word }], "footer": format!("For {}", self.word) },
            "preferred_locales": ["pt"],
        });
        let mut customer = with(&self.object("customer", "cus", fields), details);
        customer.as_object_mut().unwrap().remove("customer");
        customer
    }

    fn card(&self) -> Value {
        let card = json!({ "brand": "visa", "last4": self.last4, "exp_month": 12, "exp_year": 2031 });
        self.object("payment_method", "pm", json!({ "type": "card", "billing_details": self.details(), "card": card }))
    }

    /// A card that is detached: it names no customer any more.
    fn detached_card(&self) -> Value {
        with(&self.card(), json!({ "id": self.id("pm_old"), "customer": null }))
    }

    fn session(&self) -> Value {
        let (word, details) = (self.word, self.details());
        let fields = json!({
            "mode": "subscription", "status": "complete", "payment_status": "paid", "subscription": self.id("sub"),
            "customer_details": details, "collected_information": { "shipping_details": details },
            "custom_fields": [{ "key": "who", "text": { "value": word } }], "expires_at": START + 86_400, "locale": "pt",
            "success_url": format!("https://shop.test/thanks?who={word}"),
        });
        self.object("checkout.session", "cs_test", fields)
    }

    fn charge(&self) -> Value {
        let (word, last4) = (self.word, self.last4);
        let fields = json!({
            "status": "succeeded", "amount": 1900, "paid": true, "payment_method": self.id("pm"),
            "payment_intent": self.id("pi"), "billing_details": self.details(), "shipping": self.details(),
            "receipt_email": format!("{word}@receipt.test"), "description": format!("Paid by {word}"),
            "payment_method_details": { "type": "card", "card": { "brand": "visa", "last4": last4 } },
            "failure_message": format!("The card of {word}"),
        });
        self.object("charge", "ch", fields)
    }

    fn payment(&self) -> Value {
        let fields = json!({
            "status": "succeeded", "amount": 1900, "payment_method": self.id("pm"), "latest_charge": self.id("ch"),
            "receipt_email": format!("{}@receipt.test", self.word), "shipping": self.details(),
        });
        self.object("payment_intent", "pi", fields)
    }

    fn invoice(&self) -> Value {
        let (word, details) = (self.word, self.details());
        let fields = json!({
            "status": "paid", "amount_paid": 1900, "total": 1900, "subscription": self.id("sub"),
            "customer_name": details["name"], "customer_email": details["email"], "customer_phone": details["phone"],
            "customer_address": details["address"], "customer_tax_ids": [{ "type": "eu_vat", "value": word }],
            "number": format!("{word}-0001"), "hosted_invoice_url": format!("https://invoice.test/{word}"),
            "lines": { "object": "list", "has_more": false, "data": [{ "description": format!("For {word}") }] },
        });
        self.object("invoice", "in", fields)
    }

    /// Names a charge and no customer.
    fn dispute(&self) -> Value {
        let details = self.details();
        let fields = json!({
            "customer": null, "charge": self.id("ch"), "status": "lost", "amount": 1900, "reason": "fraudulent",
            "evidence": { "customer_name": details["name"], "customer_email_address": details["email"],
                "customer_communication": format!("{} says no", self.word) },
        });
        self.object("dispute", "du", fields)
    }

    fn subscription(&self) -> Value {
        let word = self.word;
        let fields = json!({
            "default_payment_method": self.id("pm"), "description": format!("Plan of {word}"),
            "cancellation_details": { "comment": format!("{word} moved"), "feedback": null, "reason": null },
            "metadata": { "note": word },
        });
        with(&subscription(&self.id("sub"), &self.customer), fields)
    }

    /// Events about all of these objects, from this time on.
    fn events(&self, start: i64) -> Vec<Value> {
        let renamed = with(&self.customer(), json!({ "name": format!("{} Married", self.word) }));
        let tax_id = self.object("tax_id", "txi", json!({ "type": "eu_vat", "value": self.word }));
        let source = self.object("card", "card", json!({ "name": self.word, "last4": self.last4, "brand": "Visa" }));
        let of_customer = Some(json!({ "customer": self.customer }));
        let named = Some(json!({ "name": format!("{} Person", self.word) }));
        let all = [
            ("customer.updated", self.customer(), None),
            ("payment_method.attached", self.card(), None),
            ("payment_method.detached", self.detached_card(), of_customer),
            ("customer.source.created", source, None),
            ("customer.tax_id.created", tax_id, None),
            ("customer.subscription.created", self.subscription(), None),
            ("checkout.session.completed", self.session(), None),
            ("payment_intent.succeeded", self.payment(), None),
            ("charge.succeeded", self.charge(), None),
            ("invoice.paid", self.invoice(), None),
            ("charge.dispute.created", self.dispute(), None),
            ("customer.updated", renamed, named),
        ];
        let built = all.into_iter().zip(0..).map(|((kind, object, previous), at)| {
            event(&self.id(&format!("evt_{at}")), kind, start - START + at, &object, previous)
        });
        built.collect()
    }
}

/// Ada owns the workspace and changes her contact through the API. Bo has everything but that.
async fn two_persons(shop: &Shop) -> [Person; 2] {
    let ada = Person {
        customer: shop.customer.clone(),
        number: 1,
        word: "Zqvarna",
        last4: "zq41",
        phone: "5550188471",
        city: "Žďárzq",
    };
    let bo = Person {
        customer: "cus_bo".to_owned(),
        number: 2,
        word: "Xwokafor",
        last4: "xw52",
        phone: "5550299362",
        city: "Žďárxw",
    };
    // the changes come first: afterwards there are events that are not Stripe's
    shop.rename_with("Zqvarna Renamed", &[("Idempotency-Key", "rename")]).await.json(200);
    let checkout = json!({ "pricingPlanId": shop.plan().await,
        "callbackUrl": "https://app.example.com/paid?who=zqvarna&session_id={CHECKOUT_SESSION_ID}" });
    shop.checkout_with(&checkout, &[("Idempotency-Key", "checkout")]).await.json(201);
    for person in [&ada, &bo] {
        shop.test.app.deliver_and_drain(&person.events(shop.stripe.now() + 60)).await;
    }
    [ada, bo]
}

#[tokio::test]
async fn a_dump_contains_nothing_of_a_redacted_person_and_all_of_the_others() {
    let shop = Shop::open().await;
    let [ada, bo] = two_persons(&shop).await;
    let app = &shop.test.app;
    let before = Dump::of(&app.database);
    for text in ada.texts().iter().chain(&bo.texts()) {
        let tables: Vec<String> = before.find(text).into_keys().collect();
        assert!(
            ["events", "stripe_objects"].iter().all(|table| tables.contains(&(*table).to_owned())),
            "{text}: {tables:?}"
        );
    }
    assert_eq!(before.tables_with(&ada.texts()), BTreeSet::from(TABLES.map(str::to_owned)));

    let (exit, text) = redact(app, &ada.customer);
    assert_eq!(exit, 0, "{text}");
    let after = Dump::of(&app.database);
    assert_nothing_of(&ada, &after);
    for text in bo.texts() {
        assert_eq!(after.find(&text), before.find(&text), "{text}");
    }

    // what arrives later is removed by `serve`
    let later = with(&ada.customer(), json!({ "name": "Zqvarna Later" }));
    let start = shop.stripe.now() - START;
    app.deliver_and_drain(&[event("evt_later", "customer.updated", start + 120, &later, None)]).await;
    app.execute("UPDATE billing.outbox SET finished_at = finished_at - interval '5 min' WHERE finished_at IS NOT NULL")
        .await;
    assert_eq!(Dump::of(&app.database).tables_with(&ada.texts()), BTreeSet::from(["events".to_owned()]));
    assert_eq!(redaction::later_events(&mut app.pool.acquire().await.unwrap()).await.unwrap(), 1);
    assert_nothing_of(&ada, &Dump::of(&app.database));
    shop.finish().await;
}

fn assert_nothing_of(person: &Person, dump: &Dump) {
    for text in person.texts() {
        assert_eq!(dump.find(&text), BTreeMap::new(), "{text}");
    }
}
