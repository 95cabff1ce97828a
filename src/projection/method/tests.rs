//! Each step of the search for the method that a subscription is paid by, in the old world and the new.

use crate::projection::world::{World, needs};

const CUSTOMER: &str = r#"{"id":"cus_1","object":"customer","invoice_settings":{"default_payment_method":"pm_c"}}"#;
const NOTHING: [&str; 3] = ["", "", ""];

fn card(id: &str, brand: &str, last4: &str) -> String {
    format!(r#"{{"id":"{id}","object":"payment_method","type":"card","card":{{"brand":"{brand}","last4":"{last4}"}}}}"#)
}

/// A charge that remembers a SEPA debit.
fn charge(id: &str, last4: &str) -> String {
    format!(
        r#"{{"id":"{id}","object":"charge",
            "payment_method_details":{{"type":"sepa_debit","sepa_debit":{{"last4":"{last4}"}}}}}}"#
    )
}

fn invoice(fields: &str) -> String {
    format!(r#"{{"id":"in_1","object":"invoice","customer":"cus_1","status":"paid","amount_due":1900{fields}}}"#)
}

fn invoice_payment(id: &str, fields: &str) -> String {
    format!(r#"{{"id":"{id}","object":"invoice_payment","invoice":"in_1",{fields}}}"#)
}

fn by_intent(intent: &str) -> String {
    format!(r#""payment":{{"type":"payment_intent","payment_intent":"{intent}"}}"#)
}

/// A customer with a default of its own, and a subscription with these fields.
fn with(fields: &str) -> World {
    let subscription =
        format!(r#"{{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active"{fields}}}"#);
    World::default().put(CUSTOMER).put(&card("pm_c", "visa", "0001")).put(&subscription)
}

/// A subscription whose last invoice is the only clue.
fn invoiced() -> World {
    with(r#","latest_invoice":"in_1""#)
}

/// Type, brand and last four of what the subscription is paid by.
fn paid_by(world: &World) -> [String; 3] {
    let row = world.subscription().row;
    [row.payment_type, row.payment_method_card_brand, row.payment_card_number_last_four_digits]
        .map(Option::unwrap_or_default)
}

fn needed(world: &World) -> Vec<String> {
    needs(&world.subscription())
}

#[test]
fn its_own_method_comes_first() {
    let world = with(r#","default_payment_method":"pm_1","default_source":"card_1","latest_invoice":"in_1""#);
    let world = world.put(&card("pm_1", "amex", "0042"));
    assert_eq!(paid_by(&world), ["card", "amex", "0042"]);
    assert_eq!(needed(&world), Vec::<String>::new(), "the invoice is not asked");
}

#[test]
fn its_own_source_comes_second_and_its_own_read_brings_it() {
    let world = with(r#","default_source":"card_1","latest_invoice":"in_1""#);
    assert_eq!(needed(&world), ["subscription/sub_1"], "the customer may have another");
    assert_eq!(paid_by(&world), NOTHING);
    let source = r#"{"id":"card_1","object":"card","brand":"Diners Club","last4":"0004"}"#;
    assert_eq!(paid_by(&world.put(source)), ["card", "diners", "0004"]);
}

#[test]
fn a_method_that_was_never_seen_is_to_be_read_and_nothing_stands_in_for_it() {
    let world = with(r#","default_payment_method":"pm_1","latest_invoice":"in_1""#);
    assert_eq!((paid_by(&world), needed(&world)), (NOTHING.map(str::to_owned), vec!["payment_method/pm_1".to_owned()]));
}

#[test]
fn a_method_that_is_gone_leaves_the_word_to_the_next_step() {
    let world = with(r#","default_payment_method":"pm_1""#).put(&card("pm_1", "amex", "0042"));
    let own_is_gone = world.clone().delete("payment_method", "pm_1", 1);
    assert_eq!(paid_by(&own_is_gone), ["card", "visa", "0001"], "deleted");
    assert_eq!(paid_by(&world.missing("payment_method", "pm_1")), ["card", "visa", "0001"], "not found");
}

#[test]
fn since_basil_invoice_payments_lead_to_the_charge_of_the_last_invoice() {
    let world = invoiced()
        .put(&invoice(""))
        .put(&invoice_payment("inpay_1", &format!(r#""status":"paid",{}"#, by_intent("pi_1"))))
        .put(r#"{"id":"pi_1","object":"payment_intent","latest_charge":"ch_1"}"#)
        .put(&charge("ch_1", "3000"));
    assert_eq!((paid_by(&world), needed(&world)), (["sepa_debit", "", "3000"].map(str::to_owned), vec![]));
    let by_charge = r#""status":"paid","payment":{"type":"charge","charge":"ch_1"}"#;
    let world = invoiced().put(&invoice("")).put(&invoice_payment("inpay_1", by_charge)).put(&charge("ch_1", "3000"));
    assert_eq!(paid_by(&world), ["sepa_debit", "", "3000"], "without an intent");
}

#[test]
fn of_several_invoice_payments_the_default_counts_then_the_newest_paid_then_an_open_one() {
    let payment = |world: World, id: &str, number: u8, fields: &str| {
        let charge = charge(&format!("ch_{number}"), &format!("000{number}"));
        world
            .put(&invoice_payment(id, &format!("{fields},{}", by_intent(&format!("pi_{number}")))))
            .put(&format!(r#"{{"id":"pi_{number}","object":"payment_intent","latest_charge":{charge}}}"#))
    };
    let last_four = |world: &World| paid_by(world)[2].clone();
    let canceled = payment(invoiced().put(&invoice("")), "inpay_8", 5, r#""status":"canceled","created":1767226000"#);
    assert_eq!(paid_by(&canceled), ["card", "visa", "0001"], "it moved no money: the customer's");
    let open = payment(canceled, "inpay_9", 1, r#""status":"open","created":1767225900"#);
    assert_eq!(last_four(&open), "0001");
    let paid = payment(open, "inpay_2", 2, r#""status":"paid","created":1767225700"#);
    assert_eq!(last_four(&paid), "0002");
    let newer = payment(paid, "inpay_1", 3, r#""status":"paid","created":1767225800"#);
    assert_eq!(last_four(&newer), "0003");
    let default = payment(newer, "inpay_0", 4, r#""status":"open","is_default":true,"created":1767225600"#);
    assert_eq!(last_four(&default), "0004");
}

#[test]
fn before_basil_the_invoice_names_its_payment() {
    let paid = |fields: &str| invoiced().put(&invoice(fields)).put(&charge("ch_1", "3000"));
    let sepa = ["sepa_debit", "", "3000"];
    assert_eq!(paid_by(&paid(r#","charge":"ch_1""#)), sepa);
    let intent = r#","payment_intent":{"id":"pi_1","object":"payment_intent","latest_charge":"ch_1"}"#;
    assert_eq!(paid_by(&paid(intent)), sepa, "2022-11-15");
    let listed = r#","payment_intent":{"id":"pi_1","object":"payment_intent","charges":{"data":[{"id":"ch_1"}]}}"#;
    assert_eq!(paid_by(&paid(listed)), sepa, "2020-08-27");
    let uncharged = r#","payment_intent":{"id":"pi_1","object":"payment_intent","payment_method":"pm_1"}"#;
    assert_eq!(
        paid_by(&paid(uncharged).put(&card("pm_1", "amex", "0042"))),
        ["card", "amex", "0042"],
        "not charged yet"
    );
}

#[test]
fn what_a_charge_remembers_outlives_the_method() {
    let world = invoiced().put(&invoice(r#","charge":"ch_1""#));
    let remembered = r#"{"id":"ch_1","object":"charge","payment_method":"pm_1",
        "payment_method_details":{"type":"card","card":{"brand":"amex","last4":"0042"}}}"#;
    let world = world.put(&card("pm_1", "visa", "1111")).put(remembered).delete("payment_method", "pm_1", 1);
    assert_eq!(paid_by(&world), ["card", "amex", "0042"]);
}

#[test]
fn an_invoice_is_read_only_where_a_read_can_tell_more() {
    let asks = |world: &World| needed(world) == ["invoice/in_1"];
    assert!(asks(&invoiced()), "never seen");
    let open = invoiced().put(&invoice(""));
    assert!(asks(&open), "it bills, and nothing says how");
    assert!(!asks(&open.clone().expand("invoice", "in_1", 0, r#"{"payments":[]}"#)), "it was read");
    assert!(asks(&open.expand("invoice", "in_1", -1, r#"{"payments":[]}"#)), "it changed since");
    assert!(!asks(&invoiced().put(&invoice("").replace("1900", "0"))), "a trial bills nothing");
    assert!(!asks(&invoiced().put(&invoice("").replace("paid", "draft"))), "nobody can pay a draft");
    assert!(!asks(&invoiced().put(&invoice("")).delete("invoice", "in_1", 1)), "deleted");
    assert!(!asks(&invoiced().missing("invoice", "in_1")), "Stripe has none");
}

#[test]
fn without_a_clue_it_is_the_customers() {
    assert_eq!(paid_by(&with("")), ["card", "visa", "0001"]);
    let trial = invoiced().put(&invoice("").replace("1900", "0"));
    assert_eq!(paid_by(&trial), ["card", "visa", "0001"], "the first invoice of a trial has no payment");
    assert_eq!(paid_by(&with("").delete("customer", "cus_1", 1)), NOTHING, "a deleted customer has none");
}
