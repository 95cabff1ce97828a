//! The contents of a contact's row, rule by rule.

use time::macros::datetime;

use super::*;
use crate::projection::world::{NOW, World, needs};

fn customer_with(fields: &str) -> World {
    World::default().put(&format!(r#"{{"id":"cus_1","object":"customer",{fields}}}"#))
}

fn row(fields: &str) -> BillingContact {
    customer_with(fields).contact().row
}

fn address(fields: &str) -> [Option<String>; 6] {
    let row = row(fields);
    [row.address_line1, row.address_line2, row.city, row.postal_code, row.state, row.country]
}

/// Type, brand and last four of the default payment method.
fn method(world: &World) -> [Option<String>; 3] {
    let row = world.contact().row;
    let digits = row.default_payment_card_number_last_four_digits;
    [row.default_payment_method, row.default_payment_method_card_brand, digits]
}

fn some(texts: [&str; 3]) -> [Option<String>; 3] {
    texts.map(|text| (!text.is_empty()).then(|| text.to_owned()))
}

#[test]
fn a_null_address_empties_all_six_fields() {
    assert_eq!(address(r#""address":null"#), [const { None }; 6]);
    assert_eq!(address(r#""name":null"#), [const { None }; 6]);
}

#[test]
fn an_empty_text_in_the_address_is_null() {
    let empty = r#""address":{"line1":"","line2":"","city":"","postal_code":"","state":"","country":""}"#;
    assert_eq!(address(empty), [const { None }; 6]);
}

#[test]
fn an_address_may_be_partly_null() {
    let some = |text: &str| Some(text.to_owned());
    let partly = r#""address":{"line1":"Allee 1","line2":null,"city":"Ulm","postal_code":"","country":"DE"}"#;
    assert_eq!(address(partly), [some("Allee 1"), None, some("Ulm"), None, None, some("DE")]);
    let all = r#""address":{"line1":"1","line2":"2","city":"3","postal_code":"4","state":"5","country":"6"}"#;
    assert_eq!(address(all), ["1", "2", "3", "4", "5", "6"].map(some));
}

#[test]
fn name_and_email_are_stored_as_stripe_has_them() {
    let row = row(r#""name":"","email":null"#);
    assert_eq!((row.name.as_deref(), row.email), (Some(""), None));
}

#[test]
fn the_discount_is_the_coupon_and_its_end() {
    let row = row(r#""discount":{"coupon":{"id":"SAVE20"},"end":1798761600}"#);
    assert_eq!(row.active_discount.as_deref(), Some("SAVE20"));
    assert_eq!(row.active_discount_ends_at, Some(datetime!(2027-01-01 0:00 UTC)));
}

#[test]
fn a_newer_discount_event_overrides_the_customer() {
    let discounted =
        customer_with(r#""discount":{"id":"di_1","object":"discount","customer":"cus_1","coupon":{"id":"A"}}"#);
    let coupon = |world: &World| world.contact().row.active_discount;
    assert_eq!(coupon(&discounted).as_deref(), Some("A"));
    let newer = r#"{"id":"di_2","object":"discount","customer":"cus_1","subscription":null,"source":{"coupon":"B"}}"#;
    assert_eq!(coupon(&discounted.clone().put_later(5, newer)).as_deref(), Some("B"));
    assert_eq!(coupon(&discounted.clone().put_later(-5, newer)).as_deref(), Some("A"), "older");
    assert_eq!(coupon(&discounted.clone().put(newer)).as_deref(), Some("A"), "another of the same second");
    let same = newer.replace("di_2", "di_1");
    assert_eq!(coupon(&discounted.clone().put(&same)).as_deref(), Some("B"), "the same one again");
    for scope in ["subscription", "subscription_item", "invoice", "invoice_item", "checkout_session"] {
        let narrower = newer.replace(r#""subscription":null"#, &format!(r#""{scope}":"x_1""#));
        assert_eq!(coupon(&discounted.clone().put_later(5, &narrower)).as_deref(), Some("A"), "{scope}");
    }
    let replaced = discounted.clone().put_later(5, newer).delete("discount", "di_2", 9);
    assert_eq!(coupon(&replaced), None, "its replacement was deleted");
    assert_eq!(coupon(&discounted.clone().delete("discount", "di_1", 5)), None);
    let readded = discounted.delete("discount", "di_1", -5);
    assert_eq!(coupon(&readded), None, "a deleted discount never returns");
}

#[test]
fn a_deleted_customer_keeps_its_content_and_loses_its_discount_and_payment_method() {
    let fields = r#""name":"Ada","discount":{"source":{"coupon":"SAVE20"},"end":1798761600},
        "invoice_settings":{"default_payment_method":"pm_1"}"#;
    let card = r#"{"id":"pm_1","object":"payment_method","type":"card","card":{"brand":"visa","last4":"4242"}}"#;
    let deleted = customer_with(fields).put(card).delete("customer", "cus_1", 0);
    let contact = deleted.contact();
    assert_eq!((contact.row.active_discount, contact.row.active_discount_ends_at), (None, None));
    assert_eq!((contact.row.name.as_deref(), contact.row.stripe_deleted_at), (Some("Ada"), Some(NOW)));
    assert_eq!(method(&deleted), some(["", "", ""]));
    assert_eq!(row(&format!(r#"{fields},"deleted":true"#)).active_discount, None, "the stub");
}

#[test]
fn live_subscriptions_of_a_deleted_customer_are_needed() {
    let subscription = |id: &str, status: &str| {
        format!(r#"{{"id":"{id}","object":"subscription","customer":"cus_1","status":"{status}"}}"#)
    };
    let world = customer_with(r#""name":"Ada""#).delete("customer", "cus_1", 0);
    let world = world.put(&subscription("sub_1", "active")).put(&subscription("sub_2", "canceled"));
    let contact = world.contact();
    assert_eq!(needs(&contact), ["subscription/sub_1"]);
    assert!(contact.notes.contains(&Reason::NeedsFetch));
    let ended = subscription("sub_1", "active").replace('}', r#","ended_at":1767225600}"#);
    assert_eq!(needs(&world.clone().put(&ended).contact()), Vec::<String>::new(), "ended, whatever its status");
    let reported_since = world.put_later(1, &subscription("sub_1", "active"));
    assert_eq!(needs(&reported_since.contact()), Vec::<String>::new(), "reads would never end");
}

#[test]
fn an_invalid_workspace_id_is_null_and_noted() {
    let contact = customer_with(r#""metadata":{"workspace_id":"42"}"#).contact();
    assert_eq!(contact.row.workspace_id, None);
    assert!(contact.notes.contains(&Reason::InvalidWorkspaceId));
}

#[test]
fn a_customer_known_only_as_deleted_has_no_row() {
    assert!(World::default().delete("customer", "cus_1", 0).rows().contact.is_none());
}

#[test]
fn the_default_payment_method_comes_before_the_default_source() {
    let both = r#""invoice_settings":{"default_payment_method":"pm_1"},"default_source":"card_1""#;
    let sepa = r#"{"id":"pm_1","object":"payment_method","type":"sepa_debit","sepa_debit":{"last4":"3000"}}"#;
    let card = r#"{"id":"card_1","object":"card","brand":"American Express","last4":"0005"}"#;
    let world = customer_with(both).put(sepa).put(card);
    assert_eq!(method(&world), some(["sepa_debit", "", "3000"]));
    assert_eq!(method(&world.clone().delete("payment_method", "pm_1", 1)), some(["card", "amex", "0005"]), "deleted");
    assert_eq!(method(&world.missing("payment_method", "pm_1")), some(["card", "amex", "0005"]), "not found");
}

#[test]
fn each_kind_of_source_is_known_by_its_id() {
    let with = |id: &str, text: &str| method(&customer_with(&format!(r#""default_source":"{id}""#)).put(text));
    let source = r#"{"id":"src_1","object":"source","type":"sepa_debit","sepa_debit":{"last4":"3000"}}"#;
    assert_eq!(with("src_1", source), some(["sepa_debit", "", "3000"]));
    let account = r#"{"id":"ba_1","object":"bank_account","last4":"6789"}"#;
    assert_eq!(with("ba_1", account), some(["us_bank_account", "", "6789"]));
    assert_eq!(
        with("card_1", r#"{"id":"card_1","object":"card","brand":"Visa","last4":"1"}"#),
        some(["card", "visa", "1"])
    );
}

#[test]
fn an_unseen_method_is_needed() {
    let contact = customer_with(r#""invoice_settings":{"default_payment_method":"pm_1"}"#).contact();
    assert_eq!(needs(&contact), ["payment_method/pm_1"]);
    let contact = customer_with(r#""default_source":"card_1""#).contact();
    assert_eq!(needs(&contact), ["customer/cus_1"], "a card has no read of its own");
    let both = customer_with(r#""invoice_settings":{"default_payment_method":"pm_1"},"default_source":"card_1""#)
        .put(r#"{"id":"card_1","object":"card","brand":"Visa","last4":"4242"}"#);
    assert_eq!(method(&both), some(["", "", ""]), "no other method replaces it meanwhile");
    assert!(contact.notes.contains(&Reason::NeedsFetch));
}

#[test]
fn a_copy_of_a_discount_does_not_change_the_customer() {
    let without = customer_with(r#""discount":null"#);
    let invoice = r#"{"id":"in_1","object":"invoice","customer":"cus_1","discount":{"id":"di_1","object":"discount",
        "customer":"cus_1","subscription":null,"invoice":null,"coupon":{"id":"A","object":"coupon"}}}"#;
    assert_eq!(without.put_later(5, invoice).contact().row.active_discount, None);
}
