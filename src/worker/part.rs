//! One object as a read told it, whether it was read by itself, on a page of a list, or because something lacked it.
//!
//! PURE. Knows what only reads carry; must not know who asked, nor the database. Made from answers of the client, and put
//! into the work of a transaction.

use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};

use super::effect::Work;
use super::told::Told;
use crate::domain::object::ObjectKey;
use crate::mirror::facts::fold::{READ, Report};
use crate::mirror::merge::{Found, Read};
use crate::stripe::json::{Document, Json};

/// One object as a read told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The object.
    pub(crate) key: ObjectKey,
    /// When it was read, less the margin.
    pub(crate) version: OffsetDateTime,
    /// Its JSON; `None` where Stripe knows no such object.
    pub(crate) json: Option<String>,
    /// What only reads carry, as a JSON object.
    pub(crate) expansion: Option<String>,
}

impl Part {
    /// An object out of an answer that was asked for at `at`, and that was asked to carry what only reads do: a copy of those
    /// fields stands beside it.
    pub(crate) fn of_json(key: ObjectKey, json: String, at: OffsetDateTime, margin: std::time::Duration) -> Self {
        let fields = Document::parse_or_null(&json);
        let fields = fields.root();
        let version = version(fields, at, margin);
        let carried = expansions_of(&key.object_type).iter().map(|field| (*field, fields.get(field).raw().to_owned()));
        let carried = carried.collect::<Vec<_>>();
        let expansion = (!carried.is_empty()).then(|| object_of(&carried));
        Self { key, version, json: Some(json), expansion }
    }

    /// That there is no such object.
    pub(crate) fn nothing(key: ObjectKey, at: OffsetDateTime, margin: std::time::Duration) -> Self {
        Self { key, version: stamp(at, margin), json: None, expansion: None }
    }

    /// Puts it, and what it tells, into `work`. `cause` is what `row_changes` will say of it.
    pub(super) fn add_to(self, work: &mut Work, cause: &str) {
        let Self { key, version, json, expansion } = self;
        let document = Document::parse_or_null(json.as_deref().unwrap_or("null"));
        let object = document.root();
        let is_stub = object.get("deleted").boolean() == Some(true);
        let carried = Document::parse_or_null(expansion.as_deref().unwrap_or("null"));
        let carried = carried.root();
        let report = Report { at: version, source: READ, previous: Json::NULL, all_items: carried.get("items") };
        // nothing tells nothing
        let mut told = if is_stub { Told::default() } else { Told::by(&key, object, report) };
        // another read would show what this one shows
        told.beyond.remove(&key);
        let found = match json {
            None => Found::Nothing,
            Some(_) if is_stub => Found::Stub,
            Some(json) => Found::Content(json),
        };
        work.add_told(cause, &key, told);
        work.incoming.reads.push(Read { key, version, found, expansion });
    }
}

/// The fields of a type that only reads carry.
fn expansions_of(object_type: &str) -> &'static [&'static str] {
    match object_type {
        "price" => &["currency_options"],
        "checkout.session" => &["line_items"],
        _ => &[],
    }
}

/// When an answer's content is sure to be later than everything before: objects on a test clock live in its time.
pub(crate) fn version(object: Json<'_>, at: OffsetDateTime, margin: std::time::Duration) -> OffsetDateTime {
    let frozen = object.get("test_clock").get("frozen_time").integer();
    let frozen = frozen.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    stamp(frozen.unwrap_or(at), margin)
}

/// A read's version: reads may be stale by the margin.
pub(crate) fn stamp(at: OffsetDateTime, margin: std::time::Duration) -> OffsetDateTime {
    at - Duration::try_from(margin).unwrap_or(Duration::MINUTE)
}

/// A JSON object of members that are JSON already.
pub(super) fn object_of(members: &[(&str, String)]) -> String {
    let raw = |text: &String| RawValue::from_string(text.clone()).unwrap_or_else(|_| RawValue::NULL.to_owned());
    let members: std::collections::BTreeMap<&str, Box<RawValue>> =
        members.iter().map(|(name, text)| (*name, raw(text))).collect();
    serde_json::to_string(&members).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_with_too_many_objects_inside_does_not_ask_for_itself() {
        let cards: Vec<_> = (0..600)
            .map(|n| serde_json::json!({ "id": format!("card_{n}"), "object": "card", "customer": "cus_1" }))
            .collect();
        let customer = serde_json::json!({ "id": "cus_1", "object": "customer", "sources": { "data": cards } });
        let key = ObjectKey::new("", "customer", "cus_1");
        let mut work = Work::default();
        Part::of_json(key.clone(), customer.to_string(), OffsetDateTime::UNIX_EPOCH, std::time::Duration::ZERO)
            .add_to(&mut work, READ);
        assert_eq!(work.incoming.nested.len(), 500);
        assert!(!work.demands.has_fetch(&key), "it would be fetched for ever");
    }
}
