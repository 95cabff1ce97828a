//! The facts that each object states, and the SEPA flag that follows from facts in every order.

use std::collections::{BTreeMap, BTreeSet};

use time::macros::datetime;

use super::*;
use crate::domain::payment::Payment;
use crate::mirror::facts::report::READ;
use crate::projection::payment::sepa_payment_failed;
use crate::stripe::json::json;

const REPORTED: OffsetDateTime = datetime!(2026-03-01 0:00 UTC);

fn at(second: i64) -> OffsetDateTime {
    datetime!(2026-01-01 0:00 UTC) + time::Duration::seconds(second)
}

fn facts(object_type: &str, text: &str) -> Vec<Fact> {
    let report = Report { at: REPORTED, source: "evt_1", previous: Json::NULL, all_items: Json::NULL };
    fold(object_type, json(text), report)
}

/// Of a charge: its time, the time of its first report, its payment intent, and whether it is SEPA, failed and
/// succeeded.
type Charge = (Option<OffsetDateTime>, OffsetDateTime, Option<String>, [bool; 3]);

/// The facts as the tables keep them: a known value stays, and a time only becomes earlier.
#[derive(Default)]
struct Known {
    charges: BTreeMap<String, Charge>,
    payments: BTreeSet<(String, PaymentType, String)>,
    invoices: BTreeMap<String, (Option<String>, Option<OffsetDateTime>)>,
    disputes: BTreeMap<String, (String, OffsetDateTime, bool)>,
}

impl Known {
    fn add(&mut self, fact: Fact) {
        let earlier = |one: Option<OffsetDateTime>, other: Option<OffsetDateTime>| one.into_iter().chain(other).min();
        match fact {
            Fact::Charge {
                charge_id, payment_intent_id, charged_at, first_seen_at, sepa, failed, succeeded, ..
            } => {
                let known = self.charges.entry(charge_id).or_insert((None, first_seen_at, None, [false; 3]));
                known.0 = earlier(known.0, charged_at);
                known.1 = known.1.min(first_seen_at);
                known.2 = known.2.take().max(payment_intent_id);
                for (known, stated) in known.3.iter_mut().zip([sepa, failed, succeeded]) {
                    *known |= stated;
                }
            }
            Fact::Payment { invoice_id, payment_type, payment_id } => {
                self.payments.insert((invoice_id, payment_type, payment_id));
            }
            Fact::Invoice { invoice_id, subscription_id, paid_at } => {
                let known = self.invoices.entry(invoice_id).or_default();
                known.0 = known.0.take().max(subscription_id);
                known.1 = earlier(known.1, paid_at);
            }
            Fact::Dispute { dispute_id, charge_id, disputed_at, won } => {
                let known = self.disputes.entry(dispute_id).or_insert((charge_id, disputed_at, false));
                known.2 |= won;
            }
            Fact::Trial { .. } | Fact::Timeline { .. } | Fact::Phase { .. } => {}
        }
    }

    fn flag(&self, subscription: &str) -> bool {
        let of = |invoice: &str| self.invoices.get(invoice).filter(|known| known.0.as_deref() == Some(subscription));
        let mut payments = Vec::new();
        for (charge_id, (charged_at, first_seen_at, intent, [sepa, failed, succeeded])) in &self.charges {
            let is_this = |kind: PaymentType, id: &String| match kind {
                PaymentType::Charge => id == charge_id,
                PaymentType::PaymentIntent => Some(id) == intent.as_ref(),
            };
            let mut invoices = self.payments.iter().filter(|(_, kind, id)| is_this(*kind, id));
            let Some(invoice) = invoices.find_map(|(invoice, ..)| of(invoice)) else { continue };
            let disputes = self.disputes.values().filter(|(charge, _, won)| charge == charge_id && !won);
            payments.push(Payment {
                charge_id: charge_id.clone(),
                created: charged_at.unwrap_or(*first_seen_at),
                sepa: *sepa,
                failed: *failed,
                succeeded: *succeeded,
                invoice_paid_at: invoice.1,
                disputed_at: disputes.map(|(_, at, _)| *at).collect(),
            });
        }
        sepa_payment_failed(&payments)
    }
}

fn charge_text(id: &str, invoice: &str, method: &str, status: &str, second: i64) -> String {
    let created = at(second).unix_timestamp();
    format!(
        r#"{{"id":"{id}","customer":"cus_1","invoice":"{invoice}","status":"{status}","amount":1900,"created":{created},
            "payment_intent":"pi_{invoice}","payment_method_details":{{"type":"{method}"}}}}"#
    )
}

fn stated(id: &str, invoice: &str, method: &str, status: &str, second: i64) -> Vec<Fact> {
    facts("charge", &charge_text(id, invoice, method, status, second))
}

fn invoice_of(id: &str, status: &str, amount_paid: i64, second: i64) -> Vec<Fact> {
    let paid_at = at(second).unix_timestamp();
    facts(
        "invoice",
        &format!(
            r#"{{"id":"{id}","subscription":"sub_1","status":"{status}","amount_paid":{amount_paid},
                "status_transitions":{{"paid_at":{paid_at}}}}}"#
        ),
    )
}

fn disputed(charge: &str, status: &str, second: i64) -> Vec<Fact> {
    let created = at(second).unix_timestamp();
    facts("dispute", &format!(r#"{{"id":"dp_{charge}","charge":"{charge}","status":"{status}","created":{created}}}"#))
}

/// Every order of `steps`.
fn orders<T: Clone>(steps: &[T]) -> Vec<Vec<T>> {
    if steps.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for place in 0..steps.len() {
        let mut rest = steps.to_vec();
        let first = rest.remove(place);
        for mut order in orders(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

/// The flag after these steps, which must be the same in every order, and with every step twice.
fn flag(name: &str, steps: &[Vec<Fact>]) -> bool {
    let mut flags = BTreeSet::new();
    for order in orders(steps) {
        let mut known = Known::default();
        order.iter().chain(&order).flatten().cloned().for_each(|fact| known.add(fact));
        flags.insert(known.flag("sub_1"));
    }
    assert_eq!(flags.len(), 1, "{name} depends on the order");
    flags.into_iter().next().unwrap()
}

#[test]
fn the_sepa_flag_follows_the_table_in_every_order() {
    let open = |id| invoice_of(id, "open", 0, 0);
    let failed = stated("ch_a", "in_1", "sepa_debit", "failed", 10);
    let cases: [(&str, Vec<Vec<Fact>>, bool); 9] = [
        ("P1", vec![open("in_1"), failed.clone()], true),
        ("P2", vec![open("in_1"), failed.clone(), stated("ch_b", "in_1", "sepa_debit", "succeeded", 20)], false),
        ("P3", vec![stated("ch_b", "in_1", "sepa_debit", "succeeded", 20), failed.clone(), open("in_1")], false),
        (
            "P4",
            vec![open("in_1"), failed.clone(), open("in_2"), stated("ch_c", "in_2", "card", "succeeded", 20)],
            false,
        ),
        ("P5", vec![open("in_1"), failed.clone(), invoice_of("in_1", "void", 0, 0)], true),
        ("P6", vec![open("in_1"), failed.clone(), invoice_of("in_2", "paid", 0, 20)], true),
        ("P7", vec![open("in_1"), stated("ch_a", "in_1", "card", "failed", 10)], false),
        (
            "P8",
            vec![
                open("in_1"),
                stated("ch_a", "in_1", "sepa_debit", "succeeded", 10),
                disputed("ch_a", "needs_response", 90),
            ],
            true,
        ),
        (
            "P9",
            vec![open("in_1"), failed.clone(), stated("ch_b", "in_1", "sepa_debit", "succeeded", 20), failed],
            false,
        ),
    ];
    for (name, steps, expected) in cases {
        assert_eq!(flag(name, &steps), expected, "{name}");
    }
}

#[test]
fn every_permutation_over_two_invoices_gives_one_answer() {
    let paid = invoice_of("in_1", "paid", 1900, 30);
    let steps = [
        [invoice_of("in_1", "open", 0, 0), invoice_of("in_2", "open", 0, 0)].concat(),
        stated("ch_1", "in_1", "sepa_debit", "failed", 10),
        stated("ch_2", "in_2", "sepa_debit", "failed", 11),
        paid.clone(),
        disputed("ch_3", "needs_response", 50),
        disputed("ch_3", "won", 50),
    ];
    assert!(flag("one of two failed invoices was paid out of band", &steps));
    let with_success = [&steps[..], &[stated("ch_3", "in_2", "sepa_debit", "succeeded", 20)]].concat();
    assert!(!flag("a later success clears, and its dispute was won", &with_success));
    let lost = [&with_success[..5], &with_success[6..]].concat();
    assert!(flag("a dispute that was not won holds", &lost));
}

/// An invoice as each version renders it after a payment out of band: the amount due stays in the payload.
fn out_of_band(id: &str, fields: &str, second: i64) -> Vec<Fact> {
    let paid_at = at(second).unix_timestamp();
    facts(
        "invoice",
        &format!(
            r#"{{"id":"{id}","subscription":"sub_1","status":"paid","total":1900,"amount_paid":0,
                "status_transitions":{{"paid_at":{paid_at}}},{fields}}}"#
        ),
    )
}

#[test]
fn a_payment_out_of_band_clears_in_every_version_and_order() {
    let failed = stated("ch_a", "in_1", "sepa_debit", "failed", 10);
    let open = invoice_of("in_1", "open", 0, 0);
    for rendered in [
        r#""amount_due":1900,"paid":true,"paid_out_of_band":true"#,
        r#""amount_due":1900"#,
        r#""amount_due":1900,"amount_paid_off_stripe":1900"#,
    ] {
        let paid = out_of_band("in_1", rendered, 20);
        assert!(!flag(rendered, &[open.clone(), failed.clone(), paid.clone()]));
        let other = stated("ch_b", "in_2", "sepa_debit", "failed", 11);
        let two = [open.clone(), invoice_of("in_2", "open", 0, 0), failed.clone(), other, paid];
        assert!(flag("the other one stays unpaid", &two));
    }
    for rendered in [r#""amount_due":0"#, r#""amount_due":1900,"pre_payment_credit_notes_amount":1900"#] {
        assert!(flag(rendered, &[open.clone(), failed.clone(), out_of_band("in_1", rendered, 20)]), "no money came");
    }
    let record = |status: &str| {
        let paid_at = at(20).unix_timestamp();
        let text = format!(
            r#"{{"id":"inpay_1","invoice":"in_1","status":"{status}","amount_paid":1900,
                "payment":{{"type":"payment_record","payment_record":"pr_1"}},
                "status_transitions":{{"paid_at":{paid_at}}}}}"#
        );
        facts("invoice_payment", &text)
    };
    assert!(!flag("a payment record", &[open.clone(), failed.clone(), record("paid")]));
    assert!(flag("a payment record that was canceled", &[open, failed, record("canceled")]));
}

#[test]
fn an_invoice_that_was_paid_clears_its_own_failure_only() {
    let open = invoice_of("in_1", "open", 0, 0);
    let failed = stated("ch_a", "in_1", "sepa_debit", "failed", 10);
    assert!(!flag("paid after", &[open.clone(), failed.clone(), invoice_of("in_1", "paid", 1900, 20)]));
    assert!(flag("paid with nothing", &[open.clone(), failed.clone(), invoice_of("in_1", "paid", 0, 20)]));
    let success = stated("ch_a", "in_1", "sepa_debit", "succeeded", 10);
    let paid = invoice_of("in_1", "paid", 1900, 95);
    assert!(flag("a dispute is not cleared", &[open, success, disputed("ch_a", "lost", 90), paid]));
}

#[test]
fn a_payment_intent_states_the_failure_of_an_unseen_charge() {
    let text = r#"{"id":"pi_1","customer":"cus_1","latest_charge":"ch_1","invoice":"in_1","status":"requires_payment_method",
        "last_payment_error":{"payment_method":{"type":"sepa_debit"}}}"#;
    let stated = facts("payment_intent", text);
    assert!(flag("before basil", &[stated.clone(), invoice_of("in_1", "open", 0, 0)]));
    let text = text.replace(r#""invoice":"in_1","#, "");
    let payment = facts("invoice_payment", r#"{"id":"inpay_1","invoice":"in_1","payment":{"payment_intent":"pi_1"}}"#);
    assert!(flag("basil", &[facts("payment_intent", &text), payment, invoice_of("in_1", "open", 0, 0)]));
    let Fact::Charge { charged_at, first_seen_at, .. } = &stated[1] else { panic!("no charge: {stated:?}") };
    assert_eq!((*charged_at, *first_seen_at), (None, REPORTED));
}

#[test]
fn an_invoice_states_when_it_was_paid_with_money() {
    let paid = |text: &str| match &facts("invoice", text)[0] {
        Fact::Invoice { paid_at, .. } => *paid_at,
        other => panic!("{other:?}"),
    };
    assert_eq!(paid(r#"{"id":"in_1","status":"paid","amount_paid":0}"#), None);
    assert_eq!(
        paid(r#"{"id":"in_1","status":"paid","amount_paid":5}"#),
        Some(REPORTED),
        "the event stands for the time"
    );
    assert_eq!(paid(r#"{"id":"in_1","status":"open","amount_paid":0}"#), None);
    assert_eq!(paid(r#"{"id":"in_1","status":"paid","amount_paid":0,"amount_due":5}"#), Some(REPORTED), "out of band");
}

#[test]
fn a_subscription_states_its_trial_and_its_timeline() {
    let text = r#"{"id":"sub_1","customer":"cus_1","status":"active","trial_start":1767225600,"start_date":1767225600,
        "billing_cycle_anchor":1769904000,"billing_cycle_anchor_config":{"day_of_month":31},
        "items":{"data":[{"id":"si_1","price":"price_2","quantity":3},{"id":"si_2","price":"price_1"}]}}"#;
    let stated = facts("subscription", text);
    assert_eq!(stated[1], Fact::Trial { subscription_id: "sub_1".to_owned(), started_at: at(0) });
    let Fact::Timeline { status, price_ids, quantities, anchor_day, billing_cycle_anchor, source, .. } = &stated[0]
    else {
        panic!("{stated:?}")
    };
    assert_eq!((status.as_str(), *anchor_day), ("active", Some(31)));
    assert_eq!(price_ids.as_deref(), Some(&["price_1".to_owned(), "price_2".to_owned()][..]));
    assert_eq!(quantities.as_deref(), Some(&[1, 3][..]), "in the order of the prices");
    assert_eq!((*billing_cycle_anchor, source.as_str()), (Some(datetime!(2026-02-01 0:00 UTC)), "evt_1"));
}

#[test]
fn truncated_items_are_stated_only_by_a_read() {
    let text =
        r#"{"id":"sub_1","customer":"cus_1","status":"active","items":{"has_more":true,"data":[{"price":"price_1"}]}}"#;
    let stated = |all_items: &str| {
        let all_items = json(all_items);
        let report = Report { at: REPORTED, source: READ, previous: Json::NULL, all_items };
        match fold("subscription", json(text), report).swap_remove(0) {
            Fact::Timeline { price_ids, .. } => price_ids,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(stated("null"), None);
    let all = stated(r#"[{"price":"price_2"},{"price":"price_1"}]"#);
    assert_eq!(all, Some(vec!["price_1".to_owned(), "price_2".to_owned()]));
}

#[test]
fn missing_data_of_an_event_is_wanted() {
    let wanted = |event_type, text: &str| wanted(event_type, json(text));
    let failed = "invoice.payment_failed";
    assert_eq!(wanted(failed, r#"{"id":"in_1","charge":"ch_1"}"#), Some(("invoice", "in_1".to_owned())));
    assert_eq!(wanted(failed, r#"{"id":"in_1","charge":{"id":"ch_1"}}"#), None, "the charge is expanded");
    let session = "checkout.session.async_payment_failed";
    assert_eq!(wanted(session, r#"{"subscription":"sub_1","invoice":"in_1"}"#), Some(("invoice", "in_1".to_owned())));
    assert_eq!(
        wanted(session, r#"{"subscription":"sub_1","invoice":null}"#),
        Some(("subscription", "sub_1".to_owned()))
    );
    assert_eq!(wanted("mandate.updated", r#"{"id":"mandate_1"}"#), None, "Stripe learns of it when a debit fails");
}

#[test]
fn only_received_money_is_a_success() {
    let ends = |text: &str| match &facts("charge", text)[0] {
        Fact::Charge { failed, succeeded, .. } => (*failed, *succeeded),
        other => panic!("{other:?}"),
    };
    assert_eq!(ends(r#"{"id":"ch_1","status":"succeeded","amount":1900}"#), (false, true));
    assert_eq!(ends(r#"{"id":"ch_1","status":"succeeded","amount":0}"#), (false, false), "nothing was taken");
    assert_eq!(ends(r#"{"id":"ch_1","status":"failed","amount":1900}"#), (true, false));
    assert_eq!(ends(r#"{"id":"ch_1","status":"pending","amount":1900}"#), (false, false));
}

#[test]
fn each_kind_of_payment_has_the_word_of_its_column() {
    assert_eq!(
        serde_json::to_value([PaymentType::PaymentIntent, PaymentType::Charge]).unwrap(),
        serde_json::json!(["payment_intent", "charge"])
    );
}
