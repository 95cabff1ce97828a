//! Removes client secrets from Stripe's JSON before it is merged or stored. PURE.
//!
//! With a client secret, a payment can be continued. Reads and events of checkout sessions, payment intents and
//! setup intents contain one; no row needs it. The archive of events alone keeps what Stripe sent, byte for byte.

use std::borrow::Cow;

/// The name of the field, as it stands in JSON. Within a text its quotes would be escaped.
const FIELD: &str = "\"client_secret\"";

/// The same JSON with null for every text in a field `client_secret`, at any depth.
pub fn without_client_secrets(json: Cow<'_, str>) -> Cow<'_, str> {
    let mut kept = String::new();
    let mut rest = json.as_ref();
    while let Some(at) = rest.find(FIELD) {
        let (before, field) = rest.split_at(at + FIELD.len());
        kept.push_str(before);
        rest = field;
        if let Some(secret) = secret(field) {
            kept.push_str(&field[..secret.start]);
            kept.push_str("null");
            rest = &field[secret.end..];
        }
    }
    if kept.is_empty() {
        return json;
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

/// The position of the text after the name of a field, with its quotes; `None` if it has another value, or is no field.
fn secret(field: &str) -> Option<std::ops::Range<usize>> {
    let value = field.trim_start().strip_prefix(':')?.trim_start();
    let start = field.len() - value.len();
    let text = value.strip_prefix('"')?;
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' if !is_escaped => return Some(start..start + 1 + at + 1),
            _ => is_escaped = character == '\\' && !is_escaped,
        }
    }
    None
}

/// The text of the field `client_secret` of an object.
pub fn client_secret(object: super::json::Json<'_>) -> Option<String> {
    object.get("client_secret").text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(json: &str) -> Cow<'_, str> {
        without_client_secrets(Cow::Borrowed(json))
    }

    #[test]
    fn secrets_become_null_at_any_depth_and_in_any_spelling() {
        assert_eq!(cut(r#"{"client_secret":"cs_1_secret_x","id":"cs_1"}"#), r#"{"client_secret":null,"id":"cs_1"}"#);
        assert_eq!(
            cut("{\"data\": [{\"client_secret\" :\n \"a\\\"b\\\\\", \"n\": {\"client_secret\": \"c\"}}]}"),
            "{\"data\": [{\"client_secret\" :\n null, \"n\": {\"client_secret\": null}}]}"
        );
    }

    #[test]
    fn other_json_is_not_changed_nor_copied() {
        for json in [r#"{"id":"cus_1","name":"client_secret"}"#, r#"{"name":"say \"client_secret\":\"x\""}"#] {
            assert_eq!(cut(json), json);
        }
        for json in [r#"{"client_secret":null}"#, r#"["client_secret","x"]"#, r#"{"client_secret":"#, ""] {
            assert_eq!(cut(json), json);
        }
        assert!(matches!(cut(r#"{"id":"cus_1"}"#), Cow::Borrowed(_)));
    }
}
