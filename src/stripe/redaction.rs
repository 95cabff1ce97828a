//! Removes personal data from Stripe's JSON. PURE.
//!
//! Kept are numbers, booleans, ids of Stripe, and the texts that rows are computed from: an allow-list, so that a field that
//! a later API version adds is removed, too. So a redacted object gives the same rows, except for their personal columns.

use uuid::Uuid;

use super::impersonal::{self, is_impersonal, is_structural};
use super::json::{Document, Json};
use super::views::workspace;

/// What replaces an invalid id of a workspace: a missing one would mean another workspace.
const INVALID_WORKSPACE: &str = "\"[redacted]\"";

/// Numbers about a payment card.
const CARD_NUMBERS: [&str; 2] = ["exp_month", "exp_year"];

/// The same JSON without personal data. What is no JSON has nothing that could be kept.
pub fn without_personal_data(json: &str) -> String {
    let mut kept = String::with_capacity(json.len());
    match Document::parse(json) {
        Ok(document) => write(&mut kept, "", document.root()),
        Err(_) => kept.push_str("null"),
    }
    kept
}

/// Writes a value. `field` is its field; of an element that of its array.
fn write(kept: &mut String, field: &str, value: Json<'_>) {
    if impersonal::is_personal_object(field) && value.has_members() {
        // the other names may be personal, too
        let members = value.object().unwrap_or_default();
        write_members(kept, members.iter().filter(|(key, _)| workspace::KEYS.contains(key)));
    } else if let Some(object) = value.object() {
        write_members(kept, object.iter());
    } else if let Some(elements) = value.array() {
        let elements = elements.into_iter().filter(|element| element.str().is_none_or(|text| is_kept(field, &text)));
        write_all(kept, ('[', ']'), elements, |kept, element| write(kept, field, element));
    } else if let Some(text) = value.str() {
        let removed = if workspace::KEYS.contains(&field) { INVALID_WORKSPACE } else { "null" };
        kept.push_str(if is_kept(field, &text) { value.raw() } else { removed });
    } else {
        kept.push_str(if CARD_NUMBERS.contains(&field) { "null" } else { value.raw() });
    }
}

/// Whether a text is the same in a redacted object.
fn is_kept(field: &str, text: &str) -> bool {
    if workspace::KEYS.contains(&field) || field == "client_reference_id" {
        return text.trim().is_empty() || Uuid::try_parse(text.trim()).is_ok();
    }
    is_impersonal(field, text) || is_structural(field)
}

fn write_members<'a>(kept: &mut String, members: impl Iterator<Item = (&'a str, Json<'a>)>) {
    write_all(kept, ('{', '}'), members, |kept, (key, value)| {
        kept.push_str(&serde_json::Value::from(key).to_string());
        kept.push(':');
        write(kept, key, value);
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rows_are_computed_from_is_kept_and_all_other_text_is_removed() {
        let json = r#"{"id":"cus_1ab","object":"customer","name":"Ada","email":"a@b.test","created":1,"livemode":false,
            "address":{"city":"Porto","line1":null},"default_source":"card_123","metadata":{"workspace_id":
            "c4b1a7d2-3e58-4f06-9a7d-51b80c6e2f93","workspaceId":"Ada's","note":"pm_ada@home","status":"Ada","age":35},"preferred_locales":["pt"],
            "discounts":["di_1"],"list":["Ada"],"client_reference_id":"Ada","card":{"exp_month":12,"last4":"4242"},"new_field":"Ada"}"#;
        let expected = r#"{"address":{"city":null,"line1":null},"card":{"exp_month":null,"last4":null},"client_reference_id":null,"created":1,"default_source":"card_123","discounts":["di_1"],"email":null,"id":"cus_1ab","list":[],"livemode":false,"metadata":{"workspaceId":"[redacted]","workspace_id":"c4b1a7d2-3e58-4f06-9a7d-51b80c6e2f93"},"name":null,"new_field":null,"object":"customer","preferred_locales":[]}"#;
        assert_eq!(without_personal_data(json), expected);
        assert_eq!(without_personal_data(expected), expected, "a second time");
        assert_eq!(without_personal_data("not JSON"), "null");
    }
}
