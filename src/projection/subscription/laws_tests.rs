//! What holds for a subscription's row whatever the payload says.

use proptest::prelude::*;

use super::*;
use crate::projection::world::World;

const LENIENT: Rules = Rules { past_due_active: true };

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
    ("item.price", r#"{"id":"price_1","object":"price","unit_amount":1990,"recurring":{"interval":"month"}}"#),
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

/// The row, with no state but the text.
fn project_text(text: &str) -> Option<Projected<Subscription>> {
    let json = Json::parse(text).unwrap();
    let view = SubscriptionView::read(json).ok()?;
    let world = World::default().put(&text.replacen('{', r#"{"object":"subscription","#, 1));
    let node_of = |graph: &Graph| graph.get("subscription", &view.id).and_then(|node| row(graph, node, None, LENIENT));
    world.ask(node_of)
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
    assert_eq!(projected.notes, BTreeSet::from([Reason::UnknownCustomer, Reason::NeedsFetch]));
    assert_eq!(projected.row.pricing_plan_id, Some(row_id("", "price_1")));
}
