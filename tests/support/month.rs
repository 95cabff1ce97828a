//! The events of a month in which every customer buys: ten for each, with the fixtures' objects under separate ids.
//!
//! For the benchmark `apply` and for the tests that limit its costs, so that both use the same events.

use serde_json::{Value, json};

/// Time at which the first customer buys; each further one a second later.
const OPENED: i64 = 1_790_000_000;

/// The events of one customer, each with its second.
const STORY: [(i64, &str, &str); 10] = [
    (0, "customer.created", include_str!("../../fixtures/events/2026-10-28.endive/customer.created.json")),
    (
        1,
        "payment_method.attached",
        include_str!("../../fixtures/events/2026-10-28.endive/payment_method.attached.json"),
    ),
    (2, "customer.updated", include_str!("../../fixtures/events/2026-10-28.endive/customer.updated.json")),
    (
        3,
        "customer.subscription.created",
        include_str!("../../fixtures/events/2026-10-28.endive/customer.subscription.created.json"),
    ),
    (3, "invoice.created", include_str!("../../fixtures/events/2026-10-28.endive/invoice.created.json")),
    (4, "invoice.finalized", include_str!("../../fixtures/events/2026-10-28.endive/invoice.finalized.json")),
    (6, "charge.succeeded", include_str!("../../fixtures/events/2026-10-28.endive/charge.succeeded.card.json")),
    (
        6,
        "payment_intent.succeeded",
        include_str!("../../fixtures/events/2026-10-28.endive/payment_intent.succeeded.json"),
    ),
    (6, "invoice.paid", include_str!("../../fixtures/events/2026-10-28.endive/invoice.paid.json")),
    (
        7,
        "customer.subscription.updated",
        include_str!("../../fixtures/events/2026-10-28.endive/customer.subscription.updated.metadata.json"),
    ),
];

/// The events of `customers`, beginning with number `first`, in order of delivery: events within a few seconds of
/// Stripe's time are mixed.
pub(crate) fn events(first: u32, customers: u32) -> impl Iterator<Item = String> {
    let templates = templates();
    let mut order: Vec<(i64, u32, usize)> = (first..first + customers)
        .flat_map(|n| templates.iter().enumerate().map(move |(index, (second, _))| (i64::from(n) + second, n, index)))
        .collect();
    order.sort_unstable();
    order.into_iter().map(move |(second, n, index)| {
        let created = (OPENED + second).to_string();
        templates[index].1.replace("{n}", &n.to_string()).replace("\"{created}\"", &created)
    })
}

/// The events as texts with `{n}` and `"{created}"` in place of the customer's number and the time.
fn templates() -> Vec<(i64, String)> {
    STORY.iter().enumerate().map(|(index, (second, kind, text))| (*second, template(index, kind, text))).collect()
}

fn template(index: usize, kind: &str, text: &str) -> String {
    let mut event: Value = serde_json::from_str(text).unwrap();
    event["id"] = json!(format!("evt_{{n}}_{index}"));
    event["type"] = json!(kind);
    event["created"] = json!("{created}");
    let object = &mut event["data"]["object"];
    for (field, id) in [
        ("customer", "cus_{n}"),
        ("latest_invoice", "in_{n}"),
        ("payment_intent", "pi_{n}"),
        ("latest_charge", "ch_{n}"),
        ("default_payment_method", "pm_{n}"),
    ] {
        if object[field].is_string() {
            object[field] = json!(id);
        }
    }
    let own = match object["object"].as_str().unwrap() {
        "customer" => "cus",
        "payment_method" => "pm",
        "subscription" => "sub",
        "invoice" => "in",
        "charge" => "ch",
        _ => "pi",
    };
    object["id"] = json!(format!("{own}_{{n}}"));
    if own == "sub" {
        object["items"]["data"][0]["id"] = json!("si_{n}");
        object["items"]["data"][0]["subscription"] = json!("sub_{n}");
        object["schedule"] = Value::Null;
        object["discounts"] = json!([]);
    }
    if own == "in" {
        object["parent"]["subscription_details"]["subscription"] = json!("sub_{n}");
    }
    if own == "cus" {
        object["invoice_settings"]["default_payment_method"] = json!("pm_{n}");
        object["default_source"] = Value::Null;
    }
    event.to_string()
}
