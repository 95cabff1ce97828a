//! Formats a payload for an operator: indented, with secret values redacted.
//!
//! Works on the original text: order, numbers and duplicate keys stay as Stripe sent them. PURE. Called by
//! `outbox show --payload`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Keys whose values give access: to a payment (`client_secret`), an ephemeral key or webhook endpoint (`secret`).
const SECRET_KEYS: [&str; 2] = ["client_secret", "secret"];
/// The replacement of their values.
const REDACTED: &str = "\"[redacted]\"";
/// Maximum depth, more than Stripe uses. Deeper values are not searched for secrets, so the payload is not shown.
const MAX_DEPTH: usize = 64;
const INDENT: usize = 2;

/// The payload, indented, with secret values replaced. `None` if it is not JSON, because it cannot be searched then.
pub fn redacted(payload: &[u8]) -> Option<String> {
    let value: &RawValue = serde_json::from_slice(payload).ok()?;
    let mut shown = String::new();
    write(&mut shown, value, 0)?;
    Some(shown)
}

fn write(shown: &mut String, value: &RawValue, depth: usize) -> Option<()> {
    let text = value.get();
    if depth > MAX_DEPTH {
        return None;
    }
    match text.as_bytes().first()? {
        b'{' => {
            let Members(members) = serde_json::from_str(text).ok()?;
            write_all(shown, ('{', '}'), depth, &members, |shown, (key, value)| {
                shown.push_str(&serde_json::to_string(key).ok()?);
                shown.push_str(": ");
                if SECRET_KEYS.contains(&key.as_str()) && value.get() != "null" {
                    shown.push_str(REDACTED);
                    return Some(());
                }
                write(shown, value, depth + 1)
            })
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            write_all(shown, ('[', ']'), depth, &elements, |shown, value| write(shown, value, depth + 1))
        }
        _ => {
            shown.push_str(text);
            Some(())
        }
    }
}

fn write_all<T>(
    shown: &mut String,
    (open, close): (char, char),
    depth: usize,
    all: &[T],
    each: impl Fn(&mut String, &T) -> Option<()>,
) -> Option<()> {
    shown.push(open);
    for (at, one) in all.iter().enumerate() {
        shown.push_str(if at == 0 { "\n" } else { ",\n" });
        shown.push_str(&" ".repeat((depth + 1) * INDENT));
        each(shown, one)?;
    }
    if !all.is_empty() {
        shown.push('\n');
        shown.push_str(&" ".repeat(depth * INDENT));
    }
    shown.push(close);
    Some(())
}

/// The members of an object in their original order, including duplicates.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_redacted_at_any_depth() {
        let payload =
            br#"{"id":"evt_1","data":{"object":{"client_secret":"pi_1_secret_x","list":[{"secret":{"a":1}}]}}}"#;
        let shown = redacted(payload).unwrap();
        assert!(!shown.contains("secret_x") && !shown.contains("\"a\""), "{shown}");
        assert_eq!(shown.matches(REDACTED).count(), 2, "{shown}");
    }

    #[test]
    fn escaped_and_duplicate_secret_keys_are_redacted() {
        let shown = redacted(br#"{"client\u005fsecret":"x1","client_secret":null,"client_secret":"x2"}"#).unwrap();
        assert!(!shown.contains("x1") && !shown.contains("x2"), "{shown}");
        assert!(shown.contains("\"client_secret\": null"), "{shown}");
    }

    #[test]
    fn other_values_stay_as_sent() {
        let shown = redacted(br#"{"b":1.50,"a":12345678901234567890123,"e":[],"o":{},"s":"\u00e9"}"#).unwrap();
        let expected =
            "{\n  \"b\": 1.50,\n  \"a\": 12345678901234567890123,\n  \"e\": [],\n  \"o\": {},\n  \"s\": \"\\u00e9\"\n}";
        assert_eq!(shown, expected);
    }

    #[test]
    fn invalid_json_is_not_shown() {
        assert_eq!(redacted(b"client_secret=x"), None);
        assert_eq!(redacted(format!("{}{}", "[".repeat(100), "]".repeat(100)).as_bytes()), None);
    }
}
