//! Brings the objects of events that share a second into one shape, so that their states are comparable.
//!
//! Two events of one second can have different API versions: a webhook that of its endpoint, an event from Stripe's
//! list that of the account. A field that one of the versions does not have is left out of the comparison. PURE. Called
//! by [`super::history`], and only if events share a second.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::state::State;
use crate::stripe::moved;

/// An object as one event shows it.
#[derive(Debug, Clone, Copy)]
pub struct Rendering<'a> {
    /// The object.
    pub content: &'a str,
    /// `previous_attributes`.
    pub previous: Option<&'a str>,
    /// The API version, if it is known.
    pub api_version: Option<&'a str>,
}

/// An object before and after an event; `None` if the event has no state before, or if the object is nested too deep to
/// be parsed.
struct Shown<'a> {
    version: Option<&'a str>,
    before: Option<Value>,
    after: Option<Value>,
}

/// The parts whose fields may differ between API versions: the object itself and its items.
const PARTS: [&[&str]; 2] = [&[], &["items", "data"]];

/// The states before and after each event.
pub fn states(renderings: &[Rendering<'_>]) -> Vec<(Option<State>, State)> {
    let mut shown: Vec<Shown<'_>> = renderings.iter().map(read).collect();
    let versions: BTreeSet<&str> = renderings.iter().filter_map(|one| one.api_version).collect();
    if versions.len() > 1 {
        for part in PARTS {
            leave_out(&mut shown, part);
        }
    }
    let states = shown.iter().zip(renderings).map(|(one, rendering)| {
        let after = one.after.as_ref().map_or_else(|| State::of_text(rendering.content), State::of);
        (one.before.as_ref().map(State::of), after)
    });
    states.collect()
}

fn read<'a>(rendering: &Rendering<'a>) -> Shown<'a> {
    let after: Option<Value> = serde_json::from_str(rendering.content).ok();
    let previous: Option<Value> = rendering.previous.and_then(|text| serde_json::from_str(text).ok());
    let before = after.clone().zip(previous).map(|(mut object, previous)| {
        let object_type = type_of(&object).to_owned();
        moved::remove_moved(&object_type, &mut object, &previous);
        overlay(&mut object, previous);
        object
    });
    Shown { version: rendering.api_version, before, after }
}

fn type_of(object: &Value) -> &str {
    object.get("object").and_then(Value::as_str).unwrap_or_default()
}

/// Lays `previous_attributes` over an object. Stripe sends a changed array in full, and of a changed hash only the
/// changed keys.
fn overlay(value: &mut Value, previous: Value) {
    match (value, previous) {
        (Value::Object(value), Value::Object(previous)) => {
            for (key, previous) in previous {
                overlay(value.entry(key).or_insert(Value::Null), previous);
            }
        }
        (value, previous) => *value = previous,
    }
}

/// Removes the fields of a part that one of the versions does not have, because their absence there is not a change. A
/// field that moved is compared wherever it is.
fn leave_out(shown: &mut [Shown<'_>], part: &[&str]) {
    let mut keys: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for one in shown.iter() {
        let Some(version) = one.version else { continue };
        for object in one.after.iter().chain(&one.before) {
            members(object, part, &mut |members| {
                keys.entry(version).or_default().extend(members.keys().cloned());
            });
        }
    }
    let object_type = shown.iter().find_map(|one| one.after.as_ref()).map(type_of).unwrap_or_default().to_owned();
    let all: BTreeSet<&String> = keys.values().flatten().collect();
    let absent = all.into_iter().filter(|key| keys.values().any(|of_version| !of_version.contains(*key)));
    for key in absent {
        let path: Vec<&str> = part.iter().copied().chain([key.as_str()]).collect();
        if !moved::is_moved(&object_type, &path) {
            for one in shown.iter_mut() {
                one.after.iter_mut().chain(&mut one.before).for_each(|object| moved::remove(object, &path));
            }
        }
    }
}

fn members(value: &Value, path: &[&str], visit: &mut dyn FnMut(&Map<String, Value>)) {
    match (value, path) {
        (Value::Array(elements), _) => elements.iter().for_each(|element| members(element, path, visit)),
        (Value::Object(object), []) => visit(object),
        (Value::Object(object), [key, rest @ ..]) => {
            if let Some(value) = object.get(*key) {
                members(value, rest, visit);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<'a>(content: &'a str, previous: Option<&'a str>, version: &'a str) -> Rendering<'a> {
        Rendering { content, previous, api_version: Some(version) }
    }

    fn before(content: &str, previous: &str) -> State {
        states(&[one(content, Some(previous), "x")]).remove(0).0.unwrap()
    }

    fn state(content: &str) -> State {
        State::of(&serde_json::from_str(content).unwrap())
    }

    #[test]
    fn the_state_before_overlays_hash_keys_and_whole_arrays() {
        let object = r#"{"id":"x","metadata":{"a":"2","b":"1"},"items":[1,2,3],"pause":{"behavior":"void"}}"#;
        let previous = r#"{"metadata":{"a":"1","b":null},"items":[9],"pause":null}"#;
        assert_eq!(before(object, previous), state(r#"{"id":"x","metadata":{"a":"1"},"items":[9]}"#));
        let cleared = before(r#"{"id":"x","pause":null}"#, r#"{"pause":{"behavior":"void","resumes_at":null}}"#);
        assert_eq!(cleared, state(r#"{"id":"x","pause":{"behavior":"void"}}"#), "what became null comes back whole");
    }

    #[test]
    fn deep_nesting_is_compared_as_text() {
        let deep = |inner: &str| format!(r#"{{"a":{}{inner}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        let (same, other) = (deep("1"), deep("2"));
        let states = states(&[one(&same, Some("{}"), "x"), one(&same, None, "x"), one(&other, None, "x")]);
        assert!(states[0].0.is_none() && states[0].1 == states[1].1 && states[0].1 != states[2].1);
    }

    const OLD: &str = r#"{"object":"subscription","id":"sub_1","customer":"cus_1","status":"active",
        "current_period_end":1767225600,"metadata":{},"items":{"data":[{"id":"si_1","plan":{"id":"p"}}]}}"#;
    const NEW: &str = r#"{"object":"subscription","id":"sub_1","customer":"cus_1","status":"active","currency":"eur",
        "metadata":{},"items":{"data":[{"id":"si_1","plan":{"id":"p"},"current_period_end":1767225600}]}}"#;

    #[test]
    fn only_fields_of_all_versions_are_compared() {
        let mixed = states(&[one(OLD, None, "2020-08-27"), one(NEW, None, "2025-03-31.basil")]);
        assert_eq!(mixed[0].1, mixed[1].1);
        let later = NEW.replace("1767225600", "1769904000");
        let mixed = states(&[one(OLD, None, "2020-08-27"), one(&later, None, "2025-03-31.basil")]);
        assert_ne!(mixed[0].1, mixed[1].1, "another period");
        let alike = states(&[one(OLD, None, "x"), one(NEW, None, "x")]);
        assert_ne!(alike[0].1, alike[1].1, "in one version, a currency is a change");
        let unknown = Rendering { api_version: None, ..one(NEW, None, "") };
        assert_ne!(states(&[one(OLD, None, "x"), unknown])[1].1, states(&[one(OLD, None, "x")])[0].1);
    }

    #[test]
    fn metadata_keys_are_not_version_fields() {
        let named = NEW.replace(r#""metadata":{}"#, r#""metadata":{"workspace_id":"x"}"#);
        let mixed = states(&[one(OLD, None, "2020-08-27"), one(&named, None, "2025-03-31.basil")]);
        assert_ne!(mixed[0].1, mixed[1].1);
    }

    #[test]
    fn previous_attributes_of_another_version_are_applied() {
        let earlier = state(&NEW.replace("1767225600", "1764547200"));
        assert_eq!(before(NEW, r#"{"current_period_end":1764547200}"#), earlier);
        let items = r#"{"items":{"data":[{"id":"si_1","plan":{"id":"p"},"current_period_end":1764547200}]}}"#;
        assert_eq!(before(OLD, items), state(&OLD.replace("1767225600", "1764547200")));
    }
}
