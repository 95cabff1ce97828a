//! Removes personal data from Stripe's JSON. PURE.
//!
//! Kept are numbers, booleans, ids of Stripe, and the texts that rows are computed from: an allow-list, so that a field that
//! a later API version adds is removed, too. So a redacted object gives the same rows, except for their personal columns.

use super::json::{Document, Json};

/// Fields whose text says what an object is or does, or is an id that merchants choose for objects of their catalogue.
const KEPT: [&str; 27] = [
    "behavior",
    "billing_scheme",
    "collection_method",
    "coupon",
    "currency",
    "default_price",
    "duration",
    "end_behavior",
    "id",
    "interval",
    "missing_payment_method",
    "mode",
    "object",
    "payment_status",
    "plan",
    "price",
    "product",
    "promotion_code",
    "proration_behavior",
    "reason",
    "status",
    "tiers_mode",
    "type",
    "unit_amount_decimal",
    "amount_decimal",
    "flat_amount_decimal",
    "usage_type",
];

/// Fields that refer to an object by its id.
const REFERENCES: [&str; 22] = [
    "account",
    "charge",
    "customer",
    "customer_account",
    "default_payment_method",
    "default_source",
    "discount",
    "discounts",
    "invoice",
    "latest_charge",
    "latest_invoice",
    "mandate",
    "payment_intent",
    "payment_link",
    "payment_method",
    "pending_setup_intent",
    "schedule",
    "setup_intent",
    "source",
    "subscription",
    "subscription_item",
    "test_clock",
];

/// Fields in which a workspace may be named. Its id says nothing about a person.
const WORKSPACE: [&str; 3] = ["workspace_id", "workspaceId", "client_reference_id"];

/// Numbers about a payment card.
const CARD_NUMBERS: [&str; 2] = ["exp_month", "exp_year"];

/// Prefixes of Stripe's ids, without the underscore.
const ID_PREFIXES: [&str; 40] = [
    "acct",
    "ba",
    "bps",
    "card",
    "cbtxn",
    "ch",
    "clock",
    "cs",
    "cus",
    "di",
    "du",
    "evt",
    "fee",
    "ii",
    "il",
    "in",
    "inpay",
    "link",
    "mandate",
    "pi",
    "plan",
    "plink",
    "pm",
    "price",
    "prod",
    "promo",
    "pst",
    "py",
    "pyr",
    "re",
    "req",
    "seti",
    "setatt",
    "si",
    "sli",
    "src",
    "sub",
    "txn",
    "txr",
    "sub_sched",
];

/// The same JSON without personal data. What is no JSON has nothing that could be kept.
pub fn without_personal_data(json: &str) -> String {
    let mut kept = String::with_capacity(json.len());
    match Document::parse(json) {
        Ok(document) => write(&mut kept, Place { key: "", is_free: false }, document.root()),
        Err(_) => kept.push_str("null"),
    }
    kept
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The name of its field; of an element that of its array.
    key: &'a str,
    /// Whether merchants choose the names of the fields, as in metadata: then a name says nothing about the value.
    is_free: bool,
}

fn write(kept: &mut String, place: Place<'_>, value: Json<'_>) {
    if let Some(object) = value.object() {
        let is_free = place.is_free || place.key == "metadata";
        write_all(kept, ('{', '}'), object.iter(), |kept, (key, value)| {
            kept.push_str(&serde_json::Value::from(key).to_string());
            kept.push(':');
            write(kept, Place { key, is_free }, value);
        });
    } else if let Some(elements) = value.array() {
        let elements = elements.into_iter().filter(|element| element.str().is_none_or(|text| is_kept(place, &text)));
        write_all(kept, ('[', ']'), elements, |kept, element| write(kept, place, element));
    } else if let Some(text) = value.str() {
        kept.push_str(if is_kept(place, &text) { value.raw() } else { "null" });
    } else if CARD_NUMBERS.contains(&place.key) || place.is_free {
        kept.push_str("null");
    } else {
        kept.push_str(value.raw());
    }
}

fn write_all<T>(
    kept: &mut String,
    (open, close): (char, char),
    all: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    kept.push(open);
    for (at, one) in all.enumerate() {
        if at > 0 {
            kept.push(',');
        }
        write(kept, one);
    }
    kept.push(close);
}

fn is_kept(place: Place<'_>, text: &str) -> bool {
    if WORKSPACE.contains(&place.key) {
        return uuid::Uuid::try_parse(text.trim()).is_ok();
    }
    !place.is_free && (KEPT.contains(&place.key) || REFERENCES.contains(&place.key) || is_stripe_id(text))
}

/// Shortest id of Stripe. A shorter text may be a word that a person chose.
const SHORTEST_ID: usize = 14;

/// Whether a text is an id that Stripe chose: a known prefix, and letters and digits.
fn is_stripe_id(text: &str) -> bool {
    text.len() >= SHORTEST_ID
        && text.rsplit_once('_').is_some_and(|(prefix, rest)| {
            let prefix = prefix.strip_suffix("_test").or(prefix.strip_suffix("_live")).unwrap_or(prefix);
            ID_PREFIXES.contains(&prefix) && rest.chars().all(|it| it.is_ascii_alphanumeric())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rows_are_computed_from_is_kept_and_all_other_text_is_removed() {
        let json = r#"{"id":"cus_1ab","object":"customer","name":"Ada","email":"a@b.test","created":1,"livemode":false,
            "address":{"city":"Porto","line1":null},"default_source":"card_123","metadata":{"workspace_id":
            "c4b1a7d2-3e58-4f06-9a7d-51b80c6e2f93","workspaceId":"Ada's","note":"pm_ada@home","status":"Ada","age":35},"preferred_locales":["pt"],
            "list":["di_1NvHyx2eZvKY","Ada"],"card":{"exp_month":12,"last4":"4242"},"new_field":"Ada"}"#;
        let expected = r#"{"address":{"city":null,"line1":null},"card":{"exp_month":null,"last4":null},"created":1,"default_source":"card_123","email":null,"id":"cus_1ab","list":["di_1NvHyx2eZvKY"],"livemode":false,"metadata":{"age":null,"note":null,"status":null,"workspaceId":null,"workspace_id":"c4b1a7d2-3e58-4f06-9a7d-51b80c6e2f93"},"name":null,"new_field":null,"object":"customer","preferred_locales":[]}"#;
        assert_eq!(without_personal_data(json), expected);
        assert_eq!(without_personal_data(expected), expected, "a second time");
        assert_eq!(without_personal_data("not JSON"), "null");
    }

    #[test]
    fn a_text_that_looks_like_an_id_is_one_of_stripe() {
        for id in ["cus_NffrFeUfNV2Hib", "cs_test_a1b2c3d4", "sub_sched_1Abc2De", "pm_1NvHyx2eZvKY"] {
            assert!(is_stripe_id(id), "{id}");
        }
        for text in [
            "ada_lovelace_1815",
            "cus_",
            "cus_a b c d e f",
            "pm_ada@home.example",
            "Ada",
            "in_love",
            "_abcdefghijklmnop",
        ] {
            assert!(!is_stripe_id(text), "{text}");
        }
    }
}
