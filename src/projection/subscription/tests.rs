//! What a subscription's row says, rule by rule, and the laws that hold for any payload.

use proptest::prelude::*;
use time::macros::datetime;

use super::*;
use crate::projection::{contact, plan};
use crate::stripe::json::Json;
use crate::stripe::views::item::embedded;
use crate::stripe::views::price::PriceView;

const OWN: &str = "0c8f5a54-3b1e-4f57-9a53-61d1f8a6e901";
const OF_CUSTOMER: &str = "7f3f2d0e-94ab-4c39-8a0a-0d6c5a1a7b02";
const STRICT: Rules = Rules { past_due_active: false };
const LENIENT: Rules = Rules { past_due_active: true };

fn customer(metadata: &str) -> CustomerView {
    CustomerView::read(Json::parse(&format!(r#"{{"id":"cus_1","metadata":{metadata}}}"#)).unwrap()).unwrap()
}

fn project_with(fields: &str, customer: Option<&CustomerView>, rules: Rules) -> Projected<Subscription> {
    let text = format!(r#"{{"id":"sub_1","customer":"cus_1","status":"active",{fields}}}"#);
    subscription("", &SubscriptionView::read(Json::parse(&text).unwrap()).unwrap(), customer, &rules)
}

fn project(fields: &str) -> Projected<Subscription> {
    project_with(fields, Some(&customer("{}")), LENIENT)
}

fn notes(reasons: &[Reason]) -> BTreeSet<Reason> {
    reasons.iter().copied().collect()
}

#[test]
fn each_status_is_active_or_not() {
    let cases = [
        ("active", true, true),
        ("trialing", true, true),
        ("past_due", true, false),
        ("incomplete", false, false),
        ("incomplete_expired", false, false),
        ("unpaid", false, false),
        ("canceled", false, false),
        ("paused", false, false),
        ("dormant", false, false),
    ];
    for (status, lenient, strict) in cases {
        let active = |rules| project_with(&format!(r#""status":"{status}""#), None, rules).row.active;
        assert_eq!((active(LENIENT), active(STRICT)), (lenient, strict), "{status}");
    }
}

#[test]
fn an_unknown_status_is_kept_inactive_and_noted() {
    let projected = project(r#""status":"dormant""#);
    assert_eq!((projected.row.stripe_status.as_str(), projected.row.active), ("dormant", false));
    assert_eq!(projected.notes, notes(&[Reason::UnknownEnum]));
}

#[test]
fn paused_payment_makes_inactive_and_leaves_the_status() {
    for pause in [r#"{"behavior":"void","resumes_at":null}"#, r#"{"behavior":"keep_as_draft","resumes_at":1590000000}"#]
    {
        let row = project(&format!(r#""pause_collection":{pause}"#)).row;
        assert!(row.payment_paused && !row.active && row.stripe_status == "active", "{pause}");
    }
    assert!(!project(r#""pause_collection":null"#).row.payment_paused);
}

#[test]
fn the_status_paused_is_not_a_paused_payment() {
    let row = project(r#""status":"paused","pause_collection":null"#).row;
    assert!(!row.active && !row.payment_paused);
}

#[test]
fn what_has_ended_is_inactive_whatever_its_status() {
    assert!(!project(r#""ended_at":1790000000"#).row.active);
}

#[test]
fn the_start_of_a_trial_is_there_only_while_it_runs_and_its_end_stays() {
    let trial = r#""trial_start":1764547200,"trial_end":1767225600"#;
    let (start, end) = (Some(datetime!(2025-12-01 0:00 UTC)), Some(datetime!(2026-01-01 0:00 UTC)));
    let running = project(&format!(r#""status":"trialing",{trial}"#)).row;
    assert_eq!((running.is_trial, running.trial_started_at, running.trial_ends_at), (true, start, end));
    for status in ["active", "canceled", "paused", "past_due"] {
        let over = project(&format!(r#""status":"{status}",{trial}"#)).row;
        assert_eq!((over.is_trial, over.trial_started_at, over.trial_ends_at), (false, None, end), "{status}");
    }
}

#[test]
fn item_and_price_are_those_of_the_oldest_item() {
    let items = r#""items":{"has_more":false,"data":[
        {"id":"si_2","created":1750000000,"price":{"id":"price_2"}},
        {"id":"si_1","created":1700000000,"price":{"id":"price_1"}}]}"#;
    let projected = project(items);
    assert_eq!(projected.row.stripe_subscription_item_id.as_deref(), Some("si_1"));
    assert_eq!(projected.row.stripe_price_id.as_deref(), Some("price_1"));
    assert_eq!(projected.row.pricing_plan_id, Some(row_id("", "price_1")));
    assert_eq!(projected.notes, notes(&[Reason::SeveralItems]));
}

#[test]
fn a_bare_price_id_names_no_plan_and_is_noted() {
    let projected = project(r#""items":{"data":[{"id":"si_1","price":"price_1"}]}"#);
    assert_eq!(projected.row.stripe_price_id.as_deref(), Some("price_1"));
    assert_eq!(projected.row.pricing_plan_id, None);
    assert_eq!(projected.notes, notes(&[Reason::UnknownPrice]));
}

#[test]
fn a_very_old_item_names_the_plan_of_its_plan_object() {
    let projected = project(r#""items":{"data":[{"id":"si_1","plan":{"id":"gold","object":"plan","amount":5}}]}"#);
    assert_eq!(projected.row.stripe_price_id.as_deref(), Some("gold"));
    assert_eq!(projected.row.pricing_plan_id, Some(row_id("", "gold")));
    assert!(projected.notes.is_empty());
}

#[test]
fn no_items_leave_the_item_fields_empty() {
    let projected = project(r#""items":{"data":[],"has_more":false}"#);
    assert_eq!(projected.row.stripe_subscription_item_id, None);
    assert_eq!((projected.row.stripe_price_id, projected.row.pricing_plan_id), (None, None));
    assert!(projected.notes.is_empty());
}

#[test]
fn items_beyond_the_payload_are_noted() {
    let projected = project(r#""items":{"has_more":true,"data":[{"id":"si_1","price":{"id":"price_1"}}]}"#);
    assert_eq!(projected.notes, notes(&[Reason::MoreItems]));
}

#[test]
fn the_workspace_is_the_subscriptions_and_then_the_customers() {
    let workspace = |own: &str, customers: &str| {
        let projected = project_with(&format!(r#""metadata":{own}"#), Some(&customer(customers)), LENIENT);
        (projected.row.workspace_id.map(|id| id.to_string()), projected.notes)
    };
    let link = |id: &str| format!(r#"{{"workspace_id":"{id}"}}"#);
    let clean = |id: &str| (Some(id.to_owned()), notes(&[]));
    let bad = (None, notes(&[Reason::BadWorkspaceId]));
    assert_eq!(workspace(&link(OWN), &link(OF_CUSTOMER)), clean(OWN));
    assert_eq!(workspace("{}", &link(OF_CUSTOMER)), clean(OF_CUSTOMER));
    assert_eq!(workspace("null", &format!(r#"{{"workspaceId":"{OF_CUSTOMER}"}}"#)), clean(OF_CUSTOMER));
    assert_eq!(workspace("{}", "{}"), (None, notes(&[])));
    assert_eq!(workspace(&link("42"), &link(OF_CUSTOMER)), bad, "a bad link does not fall through");
    assert_eq!(workspace("{}", &link("42")), bad);
    assert_eq!(workspace(&link(OWN), &link("42")), clean(OWN), "a bad link that is not used is not noted");
}

#[test]
fn a_customer_that_was_never_seen_is_noted_and_named_all_the_same() {
    let projected = project_with(&format!(r#""metadata":{{"workspaceId":"{OWN}"}}"#), None, LENIENT);
    assert_eq!(projected.notes, notes(&[Reason::UnknownCustomer]));
    assert_eq!(projected.row.workspace_id.map(|id| id.to_string()).as_deref(), Some(OWN));
    assert_eq!(projected.row.billing_contact_id, contact("", &customer("{}"), None).row.id);
}

#[test]
fn discounts_and_their_ends_stand_at_the_same_place() {
    let row = project(
        r#""discounts":[{"source":{"coupon":"B"},"end":1767225600},"di_9",{"source":{"coupon":"A"},"end":null}]"#,
    )
    .row;
    assert_eq!(row.active_discounts, ["A", "B"]);
    assert_eq!(row.active_discount_ends, [None, Some(datetime!(2026-01-01 0:00 UTC))]);
}

/// The fields that the projection reads, `items` and below last, with values as Stripe gives them.
const FIELDS: [(&str, &str); 22] = [
    ("id", r#""sub_1""#),
    ("customer", r#""cus_1""#),
    ("status", r#""active""#),
    ("livemode", "false"),
    ("pause_collection", "null"),
    ("trial_start", "1764547200"),
    ("trial_end", "1767225600"),
    ("cancel_at", "null"),
    ("cancel_at_period_end", "true"),
    ("ended_at", "null"),
    ("current_period_end", "1798761600"),
    ("currency", r#""eur""#),
    ("discount", r#"{"coupon":{"id":"A"},"end":null}"#),
    ("discounts", r#"[{"source":{"coupon":"B"},"end":1767225600}]"#),
    ("metadata", r#"{"workspace_id":"0c8f5a54-3b1e-4f57-9a53-61d1f8a6e901"}"#),
    ("created", "1764547200"),
    ("start_date", "1764547200"),
    ("item.id", r#""si_1""#),
    ("item.created", "1764547200"),
    ("item.current_period_end", "1798761600"),
    ("item.price", r#"{"id":"price_1","unit_amount":1990,"recurring":{"interval":"month"}}"#),
    ("item.discounts", "[]"),
];

/// The subscription with `changes` put at fields by their number.
fn payload(changes: &[(usize, String)]) -> String {
    let mut values = FIELDS.map(|(_, value)| value.to_owned());
    for (field, value) in changes {
        values[*field].clone_from(value);
    }
    let members = |item: bool| {
        let fields = FIELDS.iter().zip(&values).filter(|((key, _), _)| key.starts_with("item.") == item);
        let texts = fields.map(|((key, _), value)| format!(r#""{}":{value}"#, key.trim_start_matches("item.")));
        texts.collect::<Vec<_>>().join(",")
    };
    format!(r#"{{{},"items":{{"data":[{{{}}}],"has_more":false}}}}"#, members(false), members(true))
}

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "1e999",
            "99999999999999999999",
            "\"\\ud800\"",
            "\"\"",
            "-0"
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        (946_684_800_i64..4_133_980_800).prop_map(|seconds| seconds.to_string()),
        any::<f64>().prop_filter("JSON has no such number", |number| number.is_finite()).prop_map(|n| n.to_string()),
        "[a-z_]{0,12}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let key = prop::sample::select(vec!["id", "coupon", "source", "end", "workspace_id", "recurring", "deleted"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|elements| format!("[{}]", elements.join(","))),
            prop::collection::vec((key, inner), 0..3).prop_map(|members| {
                let members: Vec<_> = members.into_iter().map(|(key, value)| format!(r#""{key}":{value}"#)).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// The row, with no state but the text. What is embedded can always be read, because it has an id.
fn project_text(text: &str) -> Option<Projected<Subscription>> {
    let json = Json::parse(text).unwrap();
    for price in embedded(json) {
        assert_eq!(plan("", &PriceView::read(price.content).unwrap()).stripe_price_id, price.object_id);
    }
    SubscriptionView::read(json).ok().map(|view| subscription("", &view, None, &LENIENT))
}

proptest! {
    // no file of past failures: a failing payload becomes a test of its own here
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_value_at_a_known_field_stops_the_projection(
        changes in prop::collection::vec((0..FIELDS.len(), any_value()), 0..6),
    ) {
        let text = payload(&changes);
        let projected = project_text(&text);
        prop_assert_eq!(&projected, &project_text(&text), "not deterministic");
        // what the tables' own checks demand
        if let Some(Projected { row, .. }) = projected {
            prop_assert!(!(row.active && row.payment_paused));
            prop_assert!(!row.is_grace_period || row.end_date.is_some());
            prop_assert_eq!(row.active_discounts.len(), row.active_discount_ends.len());
            prop_assert!(row.is_trial || row.trial_started_at.is_none());
        } else {
            prop_assert!(changes.iter().any(|(field, _)| *field < 3), "only id, customer and status are needed");
        }
    }
}

#[test]
fn the_unchanged_payload_of_the_law_is_a_clean_row() {
    let projected = project_text(&payload(&[])).unwrap();
    assert_eq!(projected.notes, notes(&[Reason::UnknownCustomer]));
    assert_eq!(projected.row.pricing_plan_id, Some(row_id("", "price_1")));
}
