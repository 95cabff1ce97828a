//! Formats a payload for an operator: indented, without secrets, and with personal data masked unless it is requested.
//!
//! Works on the original text: order, numbers and duplicate keys stay as Stripe sent them. PURE. Called by
//! `outbox show`.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::stripe::impersonal::{is_impersonal, is_impersonal_content, is_impersonal_name, is_personal_object};

/// Keys whose values give access: to a payment (`client_secret`), an ephemeral key or webhook endpoint (`secret`).
const SECRET_KEYS: [&str; 2] = ["client_secret", "secret"];
/// The replacement of their values.
const REDACTED: &str = "\"[redacted]\"";
/// The replacement of a personal value or name.
const MASKED: &str = "\"[masked]\"";
/// Maximum depth, more than Stripe uses. Deeper values are not searched for secrets, so the payload is not shown.
const MAX_DEPTH: usize = 64;
const INDENT: usize = 2;

/// What happens to personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonalData {
    /// It is replaced. Ids, types, states, numbers, booleans and times stay.
    Masked,
    /// It is shown.
    Revealed,
}

/// The payload, indented, with secret values replaced. `None` if it is not JSON, because it cannot be searched then.
pub fn indented(payload: &[u8], personal_data: PersonalData) -> Option<String> {
    let value: &RawValue = serde_json::from_slice(payload).ok()?;
    let mut shown = Shown { text: String::new(), personal_data };
    shown.write(value, Place { field: "", is_personal: false, depth: 0 })?;
    Some(shown.text)
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Its field, or that of its array.
    field: &'a str,
    /// Whether it is in an object whose content is personal.
    is_personal: bool,
    depth: usize,
}

impl<'a> Place<'a> {
    /// The place of an element of the array here.
    fn element(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    /// The place of a value in the object here.
    fn member(self, field: &'a str) -> Self {
        Self { field, is_personal: self.is_personal || is_personal_object(field), depth: self.depth + 1 }
    }
}

/// The text written so far.
struct Shown {
    text: String,
    personal_data: PersonalData,
}

impl Shown {
    fn write(&mut self, value: &RawValue, place: Place<'_>) -> Option<()> {
        let text = value.get();
        if place.depth > MAX_DEPTH {
            return None;
        }
        match text.as_bytes().first()? {
            b'{' => {
                let Members(members) = serde_json::from_str(text).ok()?;
                self.write_all(('{', '}'), place.depth, &members, |shown, (key, value)| {
                    shown.write_name(key, place)?;
                    if SECRET_KEYS.contains(&key.as_str()) && value.get() != "null" {
                        shown.text.push_str(REDACTED);
                        return Some(());
                    }
                    shown.write(value, place.member(key))
                })
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                self.write_all(('[', ']'), place.depth, &elements, |shown, value| shown.write(value, place.element()))
            }
            _ => {
                let is_shown = self.personal_data == PersonalData::Revealed || is_shown_masked(text, place)?;
                self.text.push_str(if is_shown { text } else { MASKED });
                Some(())
            }
        }
    }

    fn write_name(&mut self, name: &str, place: Place<'_>) -> Option<()> {
        if self.personal_data == PersonalData::Revealed || is_impersonal_name(name, place.is_personal) {
            self.text.push_str(&serde_json::to_string(name).ok()?);
        } else {
            self.text.push_str(MASKED);
        }
        self.text.push_str(": ");
        Some(())
    }

    fn write_all<T>(
        &mut self,
        (open, close): (char, char),
        depth: usize,
        all: &[T],
        each: impl Fn(&mut Self, &T) -> Option<()>,
    ) -> Option<()> {
        self.text.push(open);
        for (at, one) in all.iter().enumerate() {
            self.text.push_str(if at == 0 { "\n" } else { ",\n" });
            self.text.push_str(&" ".repeat((depth + 1) * INDENT));
            each(self, one)?;
        }
        if !all.is_empty() {
            self.text.push('\n');
            self.text.push_str(&" ".repeat(depth * INDENT));
        }
        self.text.push(close);
        Some(())
    }
}

/// Whether a text, number, boolean or null stays while personal data is masked. `None` if it is not JSON.
fn is_shown_masked(json: &str, place: Place<'_>) -> Option<bool> {
    if !json.starts_with('"') {
        return Some(!place.is_personal || json == "null");
    }
    let text: String = serde_json::from_str(json).ok()?;
    Some(if place.is_personal { is_impersonal_content(&text) } else { is_impersonal(place.field, &text) })
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
