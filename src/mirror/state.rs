//! A state of an object in a comparable form: the fields that rows read, never the bytes.
//!
//! PURE. Used by [`super::same_second`]. For a type that no view reads, and for an object from which no row can be
//! made, the whole content is compared in canonical form: null equals absent, and the order of keys does not matter.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::Value;

use crate::stripe::json::Document;
use crate::stripe::views::any::AnyView;

/// A state of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct State(Form);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Read(Box<AnyView>),
    Text(String),
}

impl State {
    /// The state that `object` shows.
    pub fn of(object: &Value) -> Self {
        let text = object.to_string();
        let view = AnyView::read(Document::parse_or_null(text).root());
        Self(view.map_or_else(|| Form::Text(canonical(object)), |view| Form::Read(Box::new(view))))
    }

    /// The state of an object that is nested too deep to be parsed: its text is compared.
    pub fn of_text(text: &str) -> Self {
        Self(Form::Text(text.to_owned()))
    }
}

impl fmt::Debug for State {
    /// Only the kind, because content may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Form::Read(_) => "State(read)",
            Form::Text(_) => "State(text)",
        })
    }
}

fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

/// Appends the canonical form of `value`. The depth is bounded, because `serde_json` rejects deeper nesting.
fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Object(members) => {
            text.push('{');
            let members: BTreeMap<&String, &Value> = members.iter().filter(|(_, value)| !value.is_null()).collect();
            for (key, value) in members {
                let _ = write!(text, "{key:?}:");
                write_value(text, value);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(elements) => {
            text.push('[');
            for element in elements {
                write_value(text, element);
                text.push(',');
            }
            text.push(']');
        }
        other => _ = write!(text, "{other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_and_absent_and_the_order_of_keys_make_no_difference() {
        assert_eq!(State::of(&json!({"a": 1, "b": null, "c": "A"})), State::of(&json!({"c": "A", "a": 1})));
        assert_ne!(State::of(&json!({"a": 1})), State::of(&json!({"a": 2})));
        assert_ne!(State::of(&json!({"a": "1"})), State::of(&json!({"a": 1})));
        assert_ne!(State::of(&json!({"a": [1, 2]})), State::of(&json!({"a": [2, 1]})));
    }

    #[test]
    fn unread_fields_make_no_difference_if_there_is_a_view() {
        let customer = |phone: &str, name: &str| {
            State::of(&json!({"object": "customer", "id": "cus_1", "phone": phone, "name": name}))
        };
        assert_eq!(customer("1", "Ada"), customer("2", "Ada"));
        assert_ne!(customer("1", "Ada"), customer("1", "Bea"));
    }
}
