//! Each step of the search for a subscription's payment method, with old and new API versions.

use crate::projection::world::{World, needs};
use crate::stripe::json::json;

const CUSTOMER: &str = r#"{"id":"cus_1","object":"customer","invoice_settings":{"default_payment_method":"pm_c"}}"#;
const NOTHING: [&str; 3] = ["", "", ""];

fn card(id: &str, brand: &str, last4: &str) -> String {
    format!(r#"{{"id":"{id}","object":"payment_method","type":"card","card":{{"brand":"{brand}","last4":"{last4}"}}}}"#)
}

/// A charge with the details of a SEPA debit.
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

/// A customer with a default method, and a subscription with these fields.
fn with(fields: &str) -> World {
    let subscription =
        format!(r#"{{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active"{fields}}}"#);
    World::default().put(CUSTOMER).put(&card("pm_c", "visa", "0001")).put(&subscription)
}

/// A subscription with a last invoice; neither it nor its customer has a default method.
fn invoiced() -> World {
    with(r#","latest_invoice":"in_1""#).put_later(1, &CUSTOMER.replace(r#""pm_c""#, "null"))
}

/// Type, brand and last four of the subscription's payment method.
fn paid_by(world: &World) -> [String; 3] {
    let row = world.subscription().row;
    [row.payment_type, row.payment_method_card_brand, row.payment_card_number_last_four_digits]
        .map(Option::unwrap_or_default)
}

fn needed(world: &World) -> Vec<String> {
    needs(&world.subscription())
}

/// State of a method that an object references.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Unset,
    Unseen,
    Gone,
    Here,
}

const KNOWN: [Known; 4] = [Known::Unset, Known::Unseen, Known::Gone, Known::Here];

/// The methods in Stripe's documented order, with their last four digits.
const PLACES: [(&str, &str); 4] = [("pm_own", "0001"), ("card_own", "0002"), ("pm_of", "0003"), ("card_of", "0004")];
const OF_PAYMENT: &str = "0005";

/// A subscription and its customer that reference the methods of [`PLACES`], each in the state `known`.
fn world_of(known: [Known; 4], paid: bool) -> World {
    let name = |place: usize| match known[place] {
        Known::Unset => "null".to_owned(),
        _ => format!(r#""{}""#, PLACES[place].0),
    };
    let invoice_id = if paid { r#""in_1""# } else { "null" };
    let customer = format!(
        r#"{{"id":"cus_1","object":"customer","invoice_settings":{{"default_payment_method":{}}},"default_source":{}}}"#,
        name(2),
        name(3)
    );
    let subscription = format!(
        r#"{{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active","latest_invoice":{invoice_id},
            "default_payment_method":{},"default_source":{}}}"#,
        name(0),
        name(1)
    );
    let mut world = World::default().put(&customer).put(&subscription);
    if paid {
        world = world.put(&invoice(r#","charge":"ch_1""#)).put(&charge("ch_1", OF_PAYMENT));
    }
    for ((id, last4), known) in PLACES.into_iter().zip(known) {
        let kind = if id.starts_with("pm") { "payment_method" } else { "card" };
        world = match known {
            Known::Unset | Known::Unseen => world,
            Known::Here | Known::Gone if kind == "card" => {
                world.put(&format!(r#"{{"id":"{id}","object":"card","brand":"Visa","last4":"{last4}"}}"#))
            }
            Known::Here | Known::Gone => world.put(&card(id, "visa", last4)),
        };
        if known == Known::Gone {
            world = world.delete(kind, id, 1);
        }
    }
    world
}

#[test]
fn the_first_known_method_in_stripes_order_counts() {
    for number in 0..512_usize {
        let (states, paid) = (number / 2, number % 2 == 1);
        let known = [0, 1, 2, 3].map(|place| KNOWN[states / 4_usize.pow(place) % 4]);
        let counts = known.iter().position(|one| matches!(one, Known::Here | Known::Unseen));
        let expected = match counts {
            Some(place) if known[place] == Known::Here => PLACES[place].1,
            None if paid => OF_PAYMENT,
            Some(_) | None => "",
        };
        let world = world_of(known, paid);
        assert_eq!(paid_by(&world)[2], expected, "{known:?}, paid: {paid}");
        let reads = ["payment_method/pm_own", "subscription/sub_1", "payment_method/pm_of", "customer/cus_1"];
        let read = counts.filter(|place| known[*place] == Known::Unseen).map(|place| reads[place].to_owned());
        // the customer's row needs its own methods, independent of this one
        let mut needed = needed(&world);
        needed.retain(|need| Some(need) == read.as_ref() || need.starts_with("invoice"));
        assert_eq!(needed, read.into_iter().collect::<Vec<_>>(), "{known:?}, paid: {paid}");
    }
}

#[test]
fn without_the_customer_the_last_payment_counts() {
    let world = World::default()
        .put(r#"{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active","latest_invoice":"in_1"}"#)
        .put(&invoice(r#","charge":"ch_1""#))
        .put(&charge("ch_1", "3000"));
    assert_eq!(paid_by(&world), ["sepa_debit", "", "3000"]);
    let seen = world.put(CUSTOMER).put(&card("pm_c", "visa", "0001"));
    assert_eq!(paid_by(&seen), ["card", "visa", "0001"], "Stripe will charge the customer's default");
}

#[test]
fn an_unseen_method_has_the_details_of_its_last_payment() {
    let world = with(r#","default_payment_method":"pm_1","latest_invoice":"in_1""#)
        .put(&invoice(r#","charge":"ch_1""#))
        .put(&charge("ch_1", "3000").replace(r#""object":"charge""#, r#""object":"charge","payment_method":"pm_1""#));
    assert_eq!(paid_by(&world), ["sepa_debit", "", "3000"]);
    assert_eq!(needed(&world), ["payment_method/pm_1"]);
    assert_eq!(paid_by(&world.put(&card("pm_1", "amex", "0042"))), ["card", "amex", "0042"], "its own object first");
}

#[test]
fn an_older_card_source_or_bank_account_may_be_the_default_payment_method() {
    let objects = [
        ("card_1", r#"{"id":"card_1","object":"card","brand":"American Express","last4":"0042"}"#, ["card", "amex"]),
        ("ba_1", r#"{"id":"ba_1","object":"bank_account","last4":"0042"}"#, ["us_bank_account", ""]),
        (
            "src_1",
            r#"{"id":"src_1","object":"source","type":"sepa_debit","sepa_debit":{"last4":"0042"}}"#,
            ["sepa_debit", ""],
        ),
    ];
    for (id, object, [kind, brand]) in objects {
        let own = with(&format!(r#","default_payment_method":"{id}""#));
        assert_eq!(needed(&own), [format!("payment_method/{id}")], "{id}: Stripe shows it as a payment method, too");
        let type_of = json(object).get("object").text().unwrap();
        let world = own.put(object);
        assert_eq!(paid_by(&world), [kind, brand, "0042"], "{id}");
        assert_eq!(needed(&world), Vec::<String>::new(), "{id}");
        let gone = world.clone().delete(&type_of, id, 1);
        assert_eq!(paid_by(&gone), ["card", "visa", "0001"], "{id} was deleted");
        let as_method = format!(r#"{{"id":"{id}","object":"payment_method","type":"card","card":{{"last4":"1111"}}}}"#);
        assert_eq!(paid_by(&world.clone().put_later(1, &as_method))[2], "1111", "{id}: the newer shape counts");
        assert_eq!(paid_by(&world.clone().put_later(-1, &as_method))[2], "0042", "{id}");
        let detached = world.put(&as_method).delete("payment_method", id, 1);
        assert_eq!(paid_by(&detached), ["card", "visa", "0001"], "{id} was detached");
        let not_found = own_missing(id, object);
        assert_eq!(paid_by(&not_found)[2], "0042", "{id}: it is no payment method, and it is there");
    }
}

/// A method that is known in its own shape, and was not found as a payment method.
fn own_missing(id: &str, object: &str) -> World {
    with(&format!(r#","default_payment_method":"{id}""#)).put(object).missing("payment_method", id)
}

#[test]
fn a_customers_default_may_be_of_the_older_kind() {
    let customer = CUSTOMER.replace("pm_c", "card_c");
    let card = r#"{"id":"card_c","object":"card","brand":"Visa","last4":"4242"}"#;
    let row = World::default().put(&customer).put(card).contact().row;
    assert_eq!(row.default_payment_method.as_deref(), Some("card"));
    assert_eq!(row.default_payment_card_number_last_four_digits.as_deref(), Some("4242"));
}

#[test]
fn an_unseen_method_is_needed_and_not_replaced() {
    let world = with(r#","default_payment_method":"pm_1","latest_invoice":"in_1""#);
    assert_eq!((paid_by(&world), needed(&world)), (NOTHING.map(str::to_owned), vec!["payment_method/pm_1".to_owned()]));
}

#[test]
fn after_a_missing_method_the_next_step_decides() {
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
fn an_unseen_payment_intent_is_known_by_its_newest_charge() {
    let of_intent = |id: &str, last4: &str, created: i64| {
        let fields = format!(r#""object":"charge","payment_intent":"pi_1","created":{created}"#);
        charge(id, last4).replace(r#""object":"charge""#, &fields)
    };
    let world = invoiced()
        .put(&invoice(""))
        .put(&invoice_payment("inpay_1", &format!(r#""status":"paid",{}"#, by_intent("pi_1"))))
        .put(&of_intent("ch_1", "0002", 1_767_225_700))
        .put(&of_intent("ch_2", "0001", 1_767_225_600));
    assert_eq!(paid_by(&world), ["sepa_debit", "", "0002"]);
}

#[test]
fn the_default_invoice_payment_comes_first() {
    let payment = |world: World, id: &str, number: u8, fields: &str| {
        let charge = charge(&format!("ch_{number}"), &format!("000{number}"));
        world
            .put(&invoice_payment(id, &format!("{fields},{}", by_intent(&format!("pi_{number}")))))
            .put(&format!(r#"{{"id":"pi_{number}","object":"payment_intent","latest_charge":{charge}}}"#))
    };
    let last_four = |world: &World| paid_by(world)[2].clone();
    let canceled = payment(invoiced().put(&invoice("")), "inpay_8", 5, r#""status":"canceled","created":1767226000"#);
    assert_eq!(paid_by(&canceled), NOTHING, "a canceled payment moved no money");
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
fn a_charge_shows_the_last_four_of_an_iban_or_of_the_card_behind_a_wallet() {
    for (kind, details) in [
        ("bancontact", r#"{"iban_last4":"7061"}"#),
        ("ideal", r#"{"iban_last4":"7061"}"#),
        ("amazon_pay", r#"{"funding":{"type":"card","card":{"last4":"7061"}}}"#),
    ] {
        let charge = format!(
            r#"{{"id":"ch_1","object":"charge","payment_method_details":{{"type":"{kind}","{kind}":{details}}}}}"#
        );
        let world = invoiced().put(&invoice(r#","charge":"ch_1""#)).put(&charge);
        assert_eq!(paid_by(&world), [kind, "", "7061"]);
    }
}

#[test]
fn the_details_of_a_charge_outlive_the_method() {
    let world = invoiced().put(&invoice(r#","charge":"ch_1""#));
    let remembered = r#"{"id":"ch_1","object":"charge","payment_method":"pm_1",
        "payment_method_details":{"type":"card","card":{"brand":"amex","last4":"0042"}}}"#;
    let world = world.put(&card("pm_1", "visa", "1111")).put(remembered).delete("payment_method", "pm_1", 1);
    assert_eq!(paid_by(&world), ["card", "amex", "0042"]);
}

#[test]
fn an_invoice_is_needed_only_if_a_read_adds_data() {
    let asks = |world: &World| needed(world) == ["invoice/in_1"];
    assert!(asks(&invoiced()), "never seen");
    let open = invoiced().put(&invoice(""));
    assert!(asks(&open), "it bills, and no payment is known");
    assert!(!asks(&open.clone().expand("invoice", "in_1", 0, r#"{"payments":[]}"#)), "it was read");
    assert!(asks(&open.expand("invoice", "in_1", -1, r#"{"payments":[]}"#)), "it changed since");
    assert!(!asks(&invoiced().put(&invoice("").replace("1900", "0"))), "a trial bills nothing");
    assert!(!asks(&invoiced().put(&invoice("").replace("paid", "draft"))), "a draft cannot be paid");
    assert!(!asks(&invoiced().put(&invoice("")).delete("invoice", "in_1", 1)), "deleted");
    assert!(!asks(&invoiced().missing("invoice", "in_1")), "Stripe has none");
}

#[test]
fn without_a_payment_the_customers_method_counts() {
    assert_eq!(paid_by(&with("")), ["card", "visa", "0001"]);
    let trial = with(r#","latest_invoice":"in_1""#).put(&invoice("").replace("1900", "0"));
    assert_eq!(paid_by(&trial), ["card", "visa", "0001"], "the first invoice of a trial has no payment");
    assert_eq!(paid_by(&with("").delete("customer", "cus_1", 1)), NOTHING, "a deleted customer has none");
}
