//! An object as a read returned it: read by itself, on a page of a list, or because a row needed it.
//!
//! PURE. Knows which fields only reads carry; must not know why the object was read, nor the database. Built from the
//! client's responses, and added to the change set of a transaction.

use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};

use crate::domain::object::ObjectKey;
use crate::mirror::incoming::Written;
use crate::stripe::json::{Document, Json};

/// An object as a read returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchedObject {
    /// The object.
    pub(crate) key: ObjectKey,
    /// Time of the read minus the staleness margin.
    pub(crate) version: OffsetDateTime,
    /// Its JSON; `None` if Stripe has no such object.
    pub(crate) json: Option<String>,
    /// The fields that only reads carry, as a JSON object.
    pub(crate) expansion: Option<String>,
    /// Set if this is the answer to a write.
    pub(crate) written: Option<Written>,
}

impl FetchedObject {
    /// Builds the object from a response to a request made at `at`. The request expanded the fields that only reads
    /// carry; they are copied into `expansion`.
    pub(crate) fn of_json(key: ObjectKey, json: String, at: OffsetDateTime, margin: std::time::Duration) -> Self {
        let fields = Document::parse_or_null(&json);
        let fields = fields.root();
        let version = version(fields, at, margin);
        let expansion = carried_by(&key.object_type, fields);
        Self { key, version, json: Some(json), expansion, written: None }
    }

    /// Builds an object that a list of another one contains, with the version of the read.
    pub(crate) fn part(key: ObjectKey, version: OffsetDateTime, json: String) -> Self {
        Self { key, version, json: Some(json), expansion: None, written: None }
    }

    /// Builds the object from the answer to a write, with the version of that answer.
    pub(crate) fn of_write(key: ObjectKey, json: String, version: OffsetDateTime, written: Written) -> Self {
        let fields = Document::parse_or_null(&json);
        let expansion = carried_by(&key.object_type, fields.root());
        Self { key, version, json: Some(json), expansion, written: Some(written) }
    }

    /// Records that Stripe returned 404 for this object.
    pub(crate) fn not_found(key: ObjectKey, at: OffsetDateTime, margin: std::time::Duration) -> Self {
        Self { key, version: read_version(at, margin), json: None, expansion: None, written: None }
    }
}

/// The fields of an object that only reads carry, as a JSON object; `None` if its type has none.
fn carried_by(object_type: &str, fields: Json<'_>) -> Option<String> {
    let carried = expansions_of(object_type).iter().map(|field| (*field, fields.get(field).raw().to_owned()));
    let carried = carried.collect::<Vec<_>>();
    (!carried.is_empty()).then(|| object_of(&carried))
}

/// The fields of a type that only reads carry.
fn expansions_of(object_type: &str) -> &'static [&'static str] {
    match object_type {
        "price" => &["currency_options"],
        "checkout.session" => &["line_items"],
        _ => &[],
    }
}

/// The version of an object in a response: everything before it is older than its content. An object on a test clock
/// has the time of that clock.
pub(crate) fn version(object: Json<'_>, at: OffsetDateTime, margin: std::time::Duration) -> OffsetDateTime {
    let frozen = object.get("test_clock").get("frozen_time").integer();
    let frozen = frozen.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    read_version(frozen.unwrap_or(at), margin)
}

/// The version of a read: its time minus the staleness margin.
pub(crate) fn read_version(at: OffsetDateTime, margin: std::time::Duration) -> OffsetDateTime {
    at - Duration::try_from(margin).unwrap_or(Duration::MINUTE)
}

/// Builds a JSON object from members that are JSON already.
pub(super) fn object_of(members: &[(&str, String)]) -> String {
    let raw = |text: &String| RawValue::from_string(text.clone()).unwrap_or_else(|_| RawValue::NULL.to_owned());
    let members: std::collections::BTreeMap<&str, Box<RawValue>> =
        members.iter().map(|(name, text)| (*name, raw(text))).collect();
    serde_json::to_string(&members).unwrap_or_else(|_| "{}".to_owned())
}

/// Whether a payment of this invoice was attempted and the invoice is still unpaid.
pub(crate) fn is_unpaid_invoice(part: &FetchedObject) -> bool {
    let invoice = Document::parse_or_null(part.json.as_deref().unwrap_or("null"));
    let invoice = invoice.root();
    let status = invoice.get("status").text();
    let tried = invoice.get("attempt_count").integer() != Some(0);
    tried && ["open", "uncollectible"].contains(&status.as_deref().unwrap_or_default())
}
