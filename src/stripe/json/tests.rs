//! The reader returns the same values as `serde_json`, and invalid values do no harm.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn odd_values_in_unused_fields_do_no_harm() {
    let deep =
        format!(r#"{{"deep":{}{},"n":1e999999,"s":"\ud800","\ud800":1,"id":"x"}}"#, "[".repeat(5000), "]".repeat(5000));
    let object = json(&deep).object().unwrap();
    assert_eq!(object.get("id").text().as_deref(), Some("x"));
    assert_eq!(json(&deep).get("id").text().as_deref(), Some("x"));
    assert!(json(&deep).get("nothing").is_null() && json("[1]").get("id").is_null());
    assert_eq!(object.get("n").integer(), None);
    assert_eq!(object.get("s").text().as_deref(), Some("\u{FFFD}\u{FFFD}\u{FFFD}"));
}

#[test]
fn the_last_of_duplicate_keys_wins() {
    assert_eq!(json(r#"{"a":1,"a":2}"#).get("a").integer(), Some(2));
    assert_eq!(json(r#"{"\u0061":1,"b":2}"#).get("a").integer(), Some(1));
    assert_eq!(json(r#"{"a":1,"a":2}"#).object().unwrap().get("a").integer(), Some(2));
}

#[test]
fn nul_becomes_the_replacement_character() {
    assert_eq!(json(r#""a\u0000b""#).text().as_deref(), Some("a\u{FFFD}b"));
}

#[test]
fn whole_numbers_are_read_in_every_notation() {
    assert_eq!(json("7").integer(), Some(7));
    assert_eq!(json("7.0").integer(), Some(7));
    assert_eq!(json("7e2").integer(), Some(700));
    assert_eq!(json("7.5").integer(), None);
    assert_eq!(json("1e300").integer(), None);
    assert_eq!(json("\"7\"").integer(), None);
}

/// Any value, including difficult ones for a fast reader: quotes, escapes and brackets in strings, empty containers.
fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-c]{0,2}", r#"[\\"{}\[\]:, \n/é𝄞]{0,6}"#];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        text.clone().prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let members = prop::collection::vec((text.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The complete value, read by the reader.
fn value_of(json: Json<'_>) -> Value {
    if let Some(object) = json.object() {
        let members = object.iter().map(|(key, value)| {
            assert_eq!(json.get(key).raw(), value.raw());
            (key.to_owned(), value_of(value))
        });
        return Value::Object(members.collect());
    }
    if let Some(elements) = json.array() {
        return elements.into_iter().map(value_of).collect();
    }
    json.text().map_or_else(|| serde_json::from_str(json.raw()).unwrap(), Value::from)
}

proptest! {
    #[test]
    fn what_is_read_is_what_serde_json_reads(value in any_value(), is_pretty in any::<bool>()) {
        let text = if is_pretty { format!(" {value:#}\n") } else { value.to_string() };
        let document = Document::parse(&text).unwrap();
        prop_assert_eq!(value_of(document.root()), value);
        prop_assert_eq!(document.root().raw(), text.trim());
    }

    #[test]
    fn what_serde_json_refuses_is_refused(value in any_value(), at in any::<prop::sample::Index>(), byte in 0x20..0x7f_u8) {
        let mut text = value.to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let text = String::from_utf8_lossy(&text).into_owned();
        match (Document::parse(&text), serde_json::from_str::<Value>(&text)) {
            (Ok(document), Ok(value)) => prop_assert_eq!(value_of(document.root()), value),
            (Err(_), Err(_)) => {}
            // a number beyond `f64` is a value until it is parsed
            (Ok(_), Err(error)) => prop_assert!(error.to_string().starts_with("number out of range"), "{}", error),
            (Err(error), Ok(_)) => prop_assert!(false, "{} is JSON: {}", text, error),
        }
    }
}

proptest! {
    /// Covers the path for few members and that for many; with so few keys, some occur twice.
    #[test]
    fn the_nested_members_are_those_of_all_members(
        members in prop::collection::vec((0..40_usize, 0..5_usize), 0..400),
        is_escaped in any::<bool>(),
    ) {
        let values = ["1", "\"{\"", "{}", "{\"k\":[1]}", "[[]]"];
        let key = |n: usize| if is_escaped { format!("\\u006b{n}") } else { format!("k{n}") };
        let members: Vec<String> = members.iter().map(|(n, value)| format!("\"{}\":{}", key(*n), values[*value])).collect();
        let text = format!("{{{}}}", members.join(","));
        let document = Document::parse(&text).unwrap();
        let mut nested: Vec<(String, &str)> =
            document.root().nested().into_iter().map(|(key, value)| (key.into_owned(), value.raw())).collect();
        nested.sort();
        let all = document.root().object().unwrap();
        let expected = all.iter().filter(|(_, value)| value.raw().starts_with(['{', '[']));
        let expected: Vec<(String, &str)> = expected.map(|(key, value)| (key.to_owned(), value.raw())).collect();
        prop_assert_eq!(nested, expected);
    }
}

#[test]
fn absent_reads_as_null() {
    assert!(json(r#"{"a":{}}"#).get("a").get("b").get("c").is_null());
    assert!(json("[1]").get("a").is_null());
}
