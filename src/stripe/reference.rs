//! References from one Stripe object to another: by id, or by the whole object if the field was expanded.
//!
//! PURE. The only part of an object's structure that the mirror uses.

use std::collections::BTreeSet;

use super::expandable::id_or_object;
use super::json::Json;
use super::nested::TRIAL_OFFER;
use super::views::invoice::InvoiceView;
use super::views::is_key;

/// Returns the customer that an object belongs to, or is. Under Accounts v2 an account replaces it (`customer` is null
/// and `customer_account` is set).
pub fn customer_of(object: Json<'_>) -> Option<String> {
    if object.get("object").str().as_deref() == Some("customer") {
        object.get("id").text()
    } else {
        id_or_object(object.get("customer")).or_else(|| id_or_object(object.get("customer_account")))
    }
}

/// Whether a customer id is that of an account, which replaces the customer under Accounts v2.
pub fn is_account(customer_id: &str) -> bool {
    customer_id.starts_with("acct_")
}

/// Returns the type of the object in `default_source`, by its id.
pub fn source_type(id: &str) -> &'static str {
    match id.split('_').next() {
        Some("card") => "card",
        Some("ba") => "bank_account",
        _ => "source",
    }
}

/// Returns the types under which the mirror may contain a referenced payment method. Such a field may contain the id of
/// a card, source or bank account of the older kind, which Stripe then shows in either shape.
pub fn method_types(id: &str) -> &'static [&'static str] {
    match id.split('_').next() {
        Some("card") => &["payment_method", "card"],
        Some("ba") => &["payment_method", "bank_account"],
        Some("src") => &["payment_method", "source"],
        _ => &["payment_method"],
    }
}

/// Returns the objects that an object of this type references, by id or whole: those that rows depend on, and those
/// that lead to its owner. The paths of a discount's coupon and an item's price differ by API version; all are checked.
pub fn named(object_type: &str, object: Json<'_>) -> BTreeSet<(&'static str, String)> {
    let mut found = References { object, named: BTreeSet::new() };
    match object_type {
        "customer" => {
            found.add_method(object.get("invoice_settings").get("default_payment_method"));
            found.add_source(object.get("default_source"));
            found.add("discount", object.get("discount").get("id"));
        }
        "subscription" => found.add_subscription(),
        "invoice" => {
            found.fields(&[("payment_intent", "payment_intent"), ("charge", "charge")]);
            let subscription = InvoiceView::read(object).subscription_id.filter(|id| is_key(id));
            found.named.extend(subscription.map(|id| ("subscription", id)));
        }
        "invoice_payment" => {
            found.add("invoice", object.get("invoice"));
            let payment = object.get("payment");
            found.add("payment_intent", payment.get("payment_intent"));
            found.add("charge", payment.get("charge"));
        }
        "payment_intent" => {
            found.fields(&[("latest_charge", "charge"), ("invoice", "invoice")]);
            found.add_method(object.get("payment_method"));
        }
        "charge" => found.fields(&[("payment_intent", "payment_intent"), ("invoice", "invoice")]),
        "dispute" => found.fields(&[("charge", "charge"), ("payment_intent", "payment_intent")]),
        "checkout.session" => found.fields(&[("subscription", "subscription"), ("invoice", "invoice")]),
        "subscription_schedule" => found.add_schedule(),
        "price" | "plan" => found.add("product", object.get("product")),
        // the price after the trial; the price of the trial is that of the item
        TRIAL_OFFER => found.add("price", object.get("end_behavior").get("transition").get("price")),
        "mandate" => found.add_method(object.get("payment_method")),
        "discount" => found.add("subscription", object.get("subscription")),
        "promotion_code" => {
            found.add("coupon", object.get("coupon"));
            found.add("coupon", object.get("promotion").get("coupon"));
        }
        _ => {}
    }
    found.named
}

/// The objects found so far.
struct References<'a> {
    object: Json<'a>,
    named: BTreeSet<(&'static str, String)>,
}

impl<'a> References<'a> {
    fn add(&mut self, object_type: &'static str, field: Json<'_>) {
        // a text that cannot be a key is not a reference
        if let Some(id) = id_or_object(field).filter(|id| is_key(id)) {
            self.named.insert((object_type, id));
        }
    }

    fn fields(&mut self, fields: &[(&str, &'static str)]) {
        for (field, object_type) in fields {
            self.add(object_type, self.object.get(field));
        }
    }

    fn add_method(&mut self, field: Json<'_>) {
        let types = id_or_object(field).map(|id| method_types(&id)).unwrap_or_default();
        for object_type in types {
            self.add(object_type, field);
        }
    }

    fn add_source(&mut self, field: Json<'_>) {
        if let Some(id) = id_or_object(field) {
            self.add(source_type(&id), field);
            self.add_method(field);
        }
    }

    /// Adds the prices of items; a bare plan counts as a price.
    fn add_prices(&mut self, items: Json<'a>) {
        let items = items.array().or_else(|| items.get("data").array()).unwrap_or_default();
        for item in items {
            let price = [item.get("price"), item.get("plan")].into_iter().find(|price| !price.is_null());
            self.add("price", price.unwrap_or(Json::NULL));
            self.add_discounts(item.get("discounts"));
            self.add(TRIAL_OFFER, item.get("current_trial").get("trial_offer"));
        }
    }

    fn add_discounts(&mut self, list: Json<'a>) {
        list.array().unwrap_or_default().into_iter().for_each(|discount| self.add("discount", discount));
    }

    fn add_subscription(&mut self) {
        self.fields(&[("latest_invoice", "invoice"), ("schedule", "subscription_schedule"), ("discount", "discount")]);
        self.add_method(self.object.get("default_payment_method"));
        self.add_source(self.object.get("default_source"));
        self.add_discounts(self.object.get("discounts"));
        self.add_prices(self.object.get("items"));
        self.add_prices(self.object.get("pending_update").get("subscription_items"));
    }

    fn add_schedule(&mut self) {
        self.fields(&[("subscription", "subscription"), ("released_subscription", "subscription")]);
        for phase in self.object.get("phases").array().unwrap_or_default() {
            // `plans` in versions before 2020-08-27
            self.add_prices(phase.get("items"));
            self.add_prices(phase.get("plans"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    #[test]
    fn a_customer_is_named_by_id_by_object_or_is_the_object() {
        for text in [
            r#"{"object":"subscription","customer":"cus_1"}"#,
            r#"{"object":"subscription","customer":{"id":"cus_1","object":"customer","deleted":true}}"#,
            r#"{"object":"customer","id":"cus_1"}"#,
            r#"{"object":"customer","id":"cus_1","customer_account":"acct_1"}"#,
            r#"{"object":"subscription","customer":"cus_1","customer_account":"acct_1"}"#,
        ] {
            assert_eq!(customer_of(json(text)).as_deref(), Some("cus_1"), "{text}");
        }
        assert_eq!(customer_of(json(r#"{"object":"price","id":"price_1"}"#)), None);
        let of_account = r#"{"object":"invoice","customer":null,"customer_account":"acct_1"}"#;
        assert_eq!(customer_of(json(of_account)).as_deref(), Some("acct_1"));
    }

    fn names(object_type: &str, text: &str) -> Vec<String> {
        let named = named(object_type, json(text));
        named.into_iter().map(|(kind, id)| format!("{kind}/{id}")).collect()
    }

    #[test]
    fn an_object_names_what_its_rows_depend_on() {
        let subscription = r#"{"default_payment_method":"pm_1","default_source":"card_1","latest_invoice":{"id":"in_1"},
            "schedule":"sub_sched_1","discounts":["di_1"],"pending_update":{"subscription_items":[{"price":"price_2"}]},
            "items":{"data":[{"price":{"id":"price_1"},"plan":{"id":"price_1"},"discounts":["di_2"]},{"plan":"plan_1"}]}}"#;
        assert_eq!(
            names("subscription", subscription),
            [
                "card/card_1",
                "discount/di_1",
                "discount/di_2",
                "invoice/in_1",
                "payment_method/card_1",
                "payment_method/pm_1",
                "price/plan_1",
                "price/price_1",
                "price/price_2",
                "subscription_schedule/sub_sched_1"
            ]
        );
        let customer = r#"{"invoice_settings":{"default_payment_method":"pm_1"},"default_source":{"id":"src_1"}}"#;
        assert_eq!(names("customer", customer), ["payment_method/pm_1", "payment_method/src_1", "source/src_1"]);
        let older = r#"{"invoice_settings":{"default_payment_method":"card_1"},"default_source":null}"#;
        assert_eq!(names("customer", older), ["card/card_1", "payment_method/card_1"], "as either kind");
        let payment = r#"{"invoice":"in_1","payment":{"type":"payment_intent","payment_intent":"pi_1"}}"#;
        assert_eq!(names("invoice_payment", payment), ["invoice/in_1", "payment_intent/pi_1"]);
        let schedule = r#"{"subscription":null,"released_subscription":"sub_1","phases":[{"items":[{"price":"p"}]},
            {"plans":[{"plan":"q"}]}]}"#;
        assert_eq!(names("subscription_schedule", schedule), ["price/p", "price/q", "subscription/sub_1"]);
        let invoice = r#"{"parent":{"subscription_details":{"subscription":"sub_1"}},"charge":"ch_1"}"#;
        assert_eq!(names("invoice", invoice), ["charge/ch_1", "subscription/sub_1"]);
        let by_line = r#"{"lines":{"data":[{"subscription":{"id":"sub_1"}}]}}"#;
        assert_eq!(names("invoice", by_line), ["subscription/sub_1"]);
    }

    #[test]
    fn absent_and_invalid_fields_are_not_references() {
        for object_type in ["subscription", "customer", "charge", "price", "frobnicator"] {
            assert_eq!(
                names(object_type, r#"{"items":5,"charge":"","product":7,"discounts":{}}"#),
                Vec::<String>::new()
            );
        }
    }
}
