//! The parameters of writes: which fields there are, of which type, and Stripe's refusals of others.

use serde_json::{Map, Value, json};

use super::routes::Answer;

/// The type of a field.
pub(crate) enum Kind {
    /// An empty text unsets the field.
    Text,
    /// A text that cannot be empty, such as an id.
    Id,
    Integer,
    Boolean,
    OneOf(&'static [&'static str]),
    Texts,
    /// Types of events that an endpoint can be subscribed to, or all.
    EventTypes,
    Metadata,
    Hash(Fields),
    Array(Fields),
}

/// Fields by name.
pub(crate) type Fields = &'static [(&'static str, Kind)];

/// A form for each field that is accepted, and for each of its known values.
pub(crate) fn examples(fields: Fields) -> Vec<String> {
    fields.iter().flat_map(|(name, kind)| of_kind(kind, name)).collect()
}

fn of_kind(kind: &Kind, path: &str) -> Vec<String> {
    let within = |path: &str, fields: Fields| -> Vec<String> {
        fields.iter().flat_map(|(name, kind)| of_kind(kind, &nested(path, name))).collect()
    };
    match kind {
        Kind::Text | Kind::Id => vec![format!("{path}=x")],
        Kind::Integer => vec![format!("{path}=1")],
        Kind::Boolean => vec![format!("{path}=true")],
        Kind::OneOf(known) => known.iter().map(|value| format!("{path}={value}")).collect(),
        Kind::Texts => vec![format!("{path}[0]=x")],
        Kind::EventTypes => ["*", "customer.created"].map(|one| format!("{path}[0]={one}")).to_vec(),
        Kind::Metadata => vec![format!("{path}[x]=x")],
        Kind::Hash(fields) => within(path, fields),
        Kind::Array(fields) => within(&nested(path, "0"), fields),
    }
}

/// Limits of metadata: keys, characters of a key, characters of a value.
const METADATA: (usize, usize, usize) = (50, 40, 500);

/// Converts the texts of a form to the types of their fields. Fields to unset are null.
pub(crate) fn read(form: &Value, fields: Fields) -> Result<Value, Answer> {
    hash(form, fields, "")
}

fn hash(form: &Value, fields: Fields, within: &str) -> Result<Value, Answer> {
    let given = form.as_object().ok_or_else(|| Answer::invalid("Invalid object", within))?;
    let read = |(name, value): (&String, &Value)| {
        let path = nested(within, name);
        let field = fields.iter().find(|(field, _)| field == name);
        let (_, kind) = field.ok_or_else(|| Answer::unknown_parameter(&path))?;
        Ok((name.clone(), one(value, kind, &path)?))
    };
    given.iter().map(read).collect::<Result<Map<String, Value>, Answer>>().map(Value::Object)
}

fn one(value: &Value, kind: &Kind, path: &str) -> Result<Value, Answer> {
    if value == "" {
        let is_unset = matches!(kind, Kind::Text | Kind::Texts | Kind::Metadata | Kind::Hash(_));
        return if is_unset { Ok(Value::Null) } else { Err(Answer::empty_parameter(path)) };
    }
    match kind {
        Kind::Hash(fields) => hash(value, fields, path),
        Kind::Array(fields) => each(value, path, |element, path| hash(element, fields, path)),
        Kind::Texts => texts(value, path),
        Kind::EventTypes => event_types(value, path),
        Kind::Metadata => metadata(value, path),
        kind => scalar(value.as_str().ok_or_else(|| Answer::invalid("Invalid string", path))?, kind, path),
    }
}

fn scalar(text: &str, kind: &Kind, path: &str) -> Result<Value, Answer> {
    match kind {
        Kind::Integer => text.parse::<i64>().map(|number| json!(number)).map_err(|_| {
            Answer::invalid(&format!("Invalid integer: {text}"), path).with_code("parameter_invalid_integer")
        }),
        Kind::Boolean => text
            .parse::<bool>()
            .map(|is| json!(is))
            .map_err(|_| Answer::invalid(&format!("Invalid boolean: {text}"), path)),
        Kind::OneOf(known) if !known.contains(&text) => {
            Err(Answer::invalid(&format!("Invalid {path}: must be one of {}", known.join(", ")), path))
        }
        _ => Ok(json!(text)),
    }
}

/// An array of texts.
pub(crate) fn texts(array: &Value, path: &str) -> Result<Value, Answer> {
    each(array, path, |text, path| {
        text.as_str().map(|text| json!(text)).ok_or_else(|| Answer::invalid("Invalid string", path))
    })
}

fn event_types(array: &Value, path: &str) -> Result<Value, Answer> {
    let known = include_str!("../../../../fixtures/event-types.txt");
    each(array, path, |text, path| {
        let is_known = |text: &str| text == "*" || known.lines().any(|one| one == text && !one.starts_with('v'));
        let text = text.as_str().filter(|text| is_known(text));
        text.map(|text| json!(text)).ok_or_else(|| Answer::invalid("Invalid event type", path))
    })
}

/// The elements of an array in the order of their indexes.
fn each(array: &Value, path: &str, read: impl Fn(&Value, &str) -> Result<Value, Answer>) -> Result<Value, Answer> {
    let invalid = || Answer::invalid("Invalid array", path);
    let hash = array.as_object().ok_or_else(invalid)?;
    let numbered = hash.iter().map(|(index, element)| Some((index.parse::<u32>().ok()?, element)));
    let mut elements = numbered.collect::<Option<Vec<_>>>().ok_or_else(invalid)?;
    elements.sort_by_key(|(index, _)| *index);
    let read = |(index, element): (u32, &Value)| read(element, &nested(path, &index.to_string()));
    elements.into_iter().map(read).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn metadata(form: &Value, path: &str) -> Result<Value, Answer> {
    let given = form.as_object().ok_or_else(|| Answer::invalid("Invalid object", path))?;
    let (_, of_key, of_value) = METADATA;
    let read = |(key, value): (&String, &Value)| {
        let path = nested(path, key);
        let value = value.as_str().ok_or_else(|| Answer::invalid("Metadata values must be strings", &path))?;
        let (key_length, length) = (key.chars().count(), value.chars().count());
        if key_length > of_key {
            let message = format!("Metadata keys can have up to {of_key} characters. Invalid key: {key}");
            return Err(Answer::invalid(&message, &path));
        }
        if length > of_value {
            let message = format!(
                "Metadata values can have up to {of_value} characters, but you passed in a value that is \
                 {length} characters. Invalid value: {value}"
            );
            return Err(Answer::invalid(&message, &path));
        }
        Ok((key.clone(), if value.is_empty() { Value::Null } else { json!(value) }))
    };
    given.iter().map(read).collect::<Result<Map<String, Value>, Answer>>().map(Value::Object)
}

/// Sets the metadata of an object: null clears it, null for a key unsets the key.
pub(crate) fn set_metadata(metadata: &mut Value, params: &Value) -> Result<(), Answer> {
    let Some(given) = params.get("metadata") else { return Ok(()) };
    let mut kept = if given.is_null() { Map::new() } else { metadata.as_object().cloned().unwrap_or_default() };
    kept.extend(given.as_object().cloned().unwrap_or_default());
    kept.retain(|_, value| !value.is_null());
    let (most, ..) = METADATA;
    if kept.len() > most {
        return Err(Answer::invalid(&format!("Metadata can have up to {most} keys"), "metadata"));
    }
    *metadata = Value::Object(kept);
    Ok(())
}

/// Refuses parameters without a required field, which may be nested (`after_completion[type]`).
pub(crate) fn require(params: &Value, path: &str) -> Result<(), Answer> {
    let pointer = format!("/{}", path.replace(']', "").replace('[', "/"));
    let given = params.pointer(&pointer).filter(|value| !value.is_null());
    given.map(|_| ()).ok_or_else(|| Answer::missing_parameter(path))
}

fn nested(within: &str, name: &str) -> String {
    if within.is_empty() { name.to_owned() } else { format!("{within}[{name}]") }
}
