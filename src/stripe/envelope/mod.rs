//! Parses the few fields of an event that become columns; the rest of the payload stays bytes.
//!
//! Accepts both formats, snapshot (`"object": "event"`) and thin (`"object": "v2.core.event"`), of every API version.
//! Strict for values that become keys, tolerant otherwise: a text that does not fit into its column unchanged is
//! rejected, a field of an unexpected type counts as absent, and fields that are not read cannot fail.
//!
//! PURE. Called by the receiver, for signed bytes only, and by `reconcile` for what Stripe lists.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::json::{self, Document, Json, Object};
use super::views::is_forbidden_in_keys;
use crate::domain::event::{Envelope, EventKey, Format};

/// Maximum length of a text. Stripe guarantees it for ids, and an index row must be much smaller than a page.
const MAX_TEXT_BYTES: usize = 255;

/// Valid years of an event's creation. They limit the number of monthly partitions.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2100;

/// Why bytes are not a valid event. Contains the field, never its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON, or JSON of another kind.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// `object` is neither `event` nor `v2.core.event`.
    #[error("the body is not an event: object must be \"event\" or \"v2.core.event\"")]
    NotAnEvent,
    /// A mandatory text is absent, empty or not a string.
    #[error("the event has no {0}")]
    Missing(&'static str),
    /// A text does not fit into its column unchanged.
    #[error("the event's {0} is longer than 255 bytes or not plain text")]
    Text(&'static str),
    /// `created` is absent, of the wrong type or out of range.
    #[error("the event's created is not a time between the years 2000 and 2100")]
    Created,
}

/// Parses the envelope of a body.
///
/// # Errors
/// [`EnvelopeError`] if the bytes are not an event or contain invalid keys.
pub fn read(body: &[u8]) -> Result<Envelope, EnvelopeError> {
    let document = Document::parse(json::decode(body)).map_err(|_| EnvelopeError::NotAnObject)?;
    let event = document.root().object().ok_or(EnvelopeError::NotAnObject)?;
    match event.get("object").text().as_deref() {
        Some("event") => snapshot(&event),
        Some("v2.core.event") => thin(&event),
        _ => Err(EnvelopeError::NotAnEvent),
    }
}

fn snapshot(event: &Object<'_>) -> Result<Envelope, EnvelopeError> {
    let object = event.get("data").get("object").object().unwrap_or_default();
    let object_type = optional(object.get("object"), "data.object.object")?;
    let object_id = optional(object.get("id"), "data.object.id")?;
    let customer_id = if object_type.as_deref() == Some("customer") {
        object_id.clone()
    } else {
        // under Accounts v2 an account replaces the customer
        match optional(id_of(object.get("customer")), "data.object.customer")? {
            None => optional(object.get("customer_account"), "data.object.customer_account")?,
            customer => customer,
        }
    };
    let created = event.get("created").integer().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    Ok(Envelope {
        key: key(event, created)?,
        format: Format::Snapshot,
        event_type: mandatory(event, "type")?,
        object_type,
        object_id,
        customer_id,
        // only events of Connect have `account`; those of an organization's endpoint have only `context`
        account: match optional(event.get("account"), "account")? {
            None => context(event)?,
            Some(account) => account,
        },
        livemode: event.get("livemode").boolean(),
        api_version: optional(event.get("api_version"), "api_version")?,
    })
}

fn thin(event: &Object<'_>) -> Result<Envelope, EnvelopeError> {
    let object = event.get("related_object").object().unwrap_or_default();
    let object_type = optional(object.get("type"), "related_object.type")?;
    let object_id = optional(object.get("id"), "related_object.id")?;
    let created = event.get("created").text().and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
    Ok(Envelope {
        key: key(event, created)?,
        format: Format::Thin,
        event_type: mandatory(event, "type")?,
        // the customer of any other object is known only after a fetch
        customer_id: object_id.clone().filter(|_| object_type.as_deref() == Some("customer")),
        object_type,
        object_id,
        account: context(event)?,
        livemode: event.get("livemode").boolean(),
        api_version: None,
    })
}

fn key(event: &Object<'_>, created: Option<OffsetDateTime>) -> Result<EventKey, EnvelopeError> {
    let created = created.and_then(|time| time.checked_to_offset(UtcOffset::UTC)).ok_or(EnvelopeError::Created)?;
    if !YEARS.contains(&created.year()) {
        return Err(EnvelopeError::Created);
    }
    // PostgreSQL stores microseconds: the key in memory must equal the stored one
    let created = created.replace_nanosecond(created.microsecond() * 1000).map_err(|_| EnvelopeError::Created)?;
    Ok(EventKey { event_id: mandatory(event, "id")?, created })
}

/// The account of the event: `context` is its id, or a path that ends with it (`org_…/acct_…`).
fn context(event: &Object<'_>) -> Result<String, EnvelopeError> {
    let path = optional(event.get("context"), "context")?.unwrap_or_default();
    Ok(path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default().to_owned())
}

/// The id of a reference, which is an id or an expanded object.
fn id_of(reference: Json<'_>) -> Json<'_> {
    match reference.object() {
        Some(object) => object.get("id"),
        None => reference,
    }
}

fn mandatory(event: &Object<'_>, field: &'static str) -> Result<String, EnvelopeError> {
    optional(event.get(field), field)?.ok_or(EnvelopeError::Missing(field))
}

/// Returns a text; an empty one counts as absent.
///
/// The reader has replaced NUL, lone surrogates and invalid bytes by U+FFFD. A text that contains it is rejected,
/// because two different ids must not become one key. So is a text with a control character; Stripe's ids contain
/// neither.
fn optional(value: Json<'_>, field: &'static str) -> Result<Option<String>, EnvelopeError> {
    let Some(text) = value.text().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.len() > MAX_TEXT_BYTES || text.contains(is_forbidden_in_keys) {
        return Err(EnvelopeError::Text(field));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
