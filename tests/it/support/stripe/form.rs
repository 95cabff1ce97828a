//! Forms with nested names, as Stripe's clients send them (`a[b][0][c]=1`).

use serde_json::{Map, Value, json};
use url::form_urlencoded;

/// Reads a form into nested hashes of texts. Arrays become hashes with the indexes as names.
pub(crate) fn parse(text: &str) -> Value {
    let mut form = json!({});
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let names: Vec<&str> = name.split('[').map(|name| name.trim_end_matches(']')).collect();
        put(&mut form, &names, &value);
    }
    form
}

fn put(holder: &mut Value, names: &[&str], value: &str) {
    let Some((name, rest)) = names.split_first() else {
        *holder = json!(value);
        return;
    };
    if !holder.is_object() {
        *holder = json!({});
    }
    let hash = holder.as_object_mut().expect("it was just made a hash");
    let name = if name.is_empty() { index(hash, rest) } else { (*name).to_owned() };
    put(hash.entry(name).or_insert(Value::Null), rest, value);
}

/// The index of an element written without one (`a[][b]`): it continues the last element until a field repeats.
fn index(array: &Map<String, Value>, rest: &[&str]) -> String {
    let last = array.len().checked_sub(1).map(|last| last.to_string());
    let continued = last.filter(|last| match (array.get(last), rest.first()) {
        (Some(Value::Object(element)), Some(field)) => !element.contains_key(*field),
        _ => false,
    });
    continued.unwrap_or_else(|| array.len().to_string())
}
