//! The canonical form of an object's content, in which two states compare.
//!
//! Null and absent are the same, the order of keys has no say, and whatever is nested too deep to be read is
//! compared as it was written. PURE; called by the walk.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::stripe::json::Json;

/// Stripe's objects are some ten levels deep. Below this one a value is compared as text, so that brackets
/// cannot exhaust the stack.
const DEEPEST: usize = 64;

/// The content of an object, in canonical form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct State(String);

impl State {
    /// The state in which `object` is.
    pub fn of(object: Json<'_>) -> Self {
        let mut text = String::new();
        write_value(&mut text, object, None, 0);
        Self(text)
    }

    /// The state that came before an update: `object` overlaid, deeply, with its `previous_attributes`.
    ///
    /// Stripe gives a changed array whole and a changed hash by its changed keys only.
    pub fn before(object: Json<'_>, previous_attributes: Json<'_>) -> Self {
        let mut text = String::new();
        write_value(&mut text, object, Some(previous_attributes), 0);
        Self(text)
    }
}

impl fmt::Debug for State {
    /// The length only: content may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} bytes)", self.0.len())
    }
}

/// Appends the canonical form of `value`, or of what `overlay` makes of it.
fn write_value(text: &mut String, value: Json<'_>, overlay: Option<Json<'_>>, depth: usize) {
    let Some(overlay) = overlay else { return write_plain(text, value, depth) };
    match (value.object(), overlay.object()) {
        (Some(value), Some(overlay)) if depth < DEEPEST => {
            let mut members: BTreeMap<&str, (Json<'_>, Option<Json<'_>>)> =
                value.iter().map(|(key, value)| (key, (value, None))).collect();
            for (key, over) in overlay.iter() {
                members.entry(key).or_insert((Json::NULL, None)).1 = Some(over);
            }
            write_members(text, members, depth);
        }
        _ => write_plain(text, overlay, depth),
    }
}

/// Appends the canonical form of `value`.
fn write_plain(text: &mut String, value: Json<'_>, depth: usize) {
    if depth >= DEEPEST {
        text.push_str(value.raw());
    } else if let Some(object) = value.object() {
        write_members(text, object.iter().map(|(key, value)| (key, (value, None))).collect(), depth);
    } else if let Some(elements) = value.array() {
        text.push('[');
        for element in elements {
            write_plain(text, element, depth + 1);
            text.push(',');
        }
        text.push(']');
    } else if let Some(string) = value.text() {
        let _ = write!(text, "{string:?}");
    } else {
        text.push_str(value.raw());
    }
}

/// Appends the members that are not null.
fn write_members(text: &mut String, members: BTreeMap<&str, (Json<'_>, Option<Json<'_>>)>, depth: usize) {
    text.push('{');
    for (key, (value, overlay)) in members {
        if overlay.unwrap_or(value).is_null() {
            continue;
        }
        let _ = write!(text, "{key:?}:");
        write_value(text, value, overlay, depth + 1);
        text.push(',');
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json<'_> {
        Json::parse(text).unwrap()
    }

    #[test]
    fn null_and_absent_and_the_order_of_keys_make_no_difference() {
        assert_eq!(State::of(json(r#"{"a":1,"b":null,"c":"\u0041"}"#)), State::of(json(r#"{"c":"A","a":1}"#)));
        assert_ne!(State::of(json(r#"{"a":1}"#)), State::of(json(r#"{"a":2}"#)));
        assert_ne!(State::of(json(r#"{"a":"1"}"#)), State::of(json(r#"{"a":1}"#)));
    }

    #[test]
    fn the_state_before_takes_changed_keys_of_hashes_and_whole_arrays() {
        let object = json(r#"{"id":"x","metadata":{"a":"2","b":"1"},"items":[1,2,3],"pause":{"behavior":"void"}}"#);
        let previous = json(r#"{"metadata":{"a":"1","b":null},"items":[9],"pause":null}"#);
        let before = json(r#"{"id":"x","metadata":{"a":"1"},"items":[9]}"#);
        assert_eq!(State::before(object, previous), State::of(before));
    }

    #[test]
    fn what_became_null_comes_back_whole() {
        let object = json(r#"{"id":"x","pause":null}"#);
        let previous = json(r#"{"pause":{"behavior":"void","resumes_at":null}}"#);
        assert_eq!(State::before(object, previous), State::of(json(r#"{"id":"x","pause":{"behavior":"void"}}"#)));
    }

    #[test]
    fn brackets_without_end_are_compared_as_text() {
        let deep = |inner: &str| format!(r#"{{"a":{}{inner}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(State::of(json(&deep("1"))), State::of(json(&deep("1"))));
        assert_ne!(State::of(json(&deep("1"))), State::of(json(&deep("2"))));
    }
}
