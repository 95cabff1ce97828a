//! The data of `v2.core.health.event_generation_failure.resolved`: the event that Stripe failed to generate, and its
//! object.
//!
//! PURE. A delivered notification may have no data; the fetched event has it.

use super::is_key;
use crate::stripe::json::Document;

/// The type under which the event itself is fetched.
pub const EVENT: &str = "v2.core.event";

/// The fields read from the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationFailure {
    /// `impact.event_type`: the event that does not exist.
    pub event_type: Option<String>,
    /// `impact.context`, if it is about a connected account.
    pub account: Option<String>,
    /// `impact.related_object.type`.
    pub object_type: String,
    /// `impact.related_object.id`.
    pub object_id: String,
}

/// Reads an event; `None` if it references no object.
pub fn read(event: &str) -> Option<GenerationFailure> {
    let event = Document::parse(event).ok()?;
    let impact = event.root().get("data").get("impact");
    let object = impact.get("related_object");
    let context = impact.get("context").text();
    Some(GenerationFailure {
        event_type: impact.get("event_type").text(),
        account: context.and_then(|path| path.rsplit('/').find(|part| is_key(part)).map(str::to_owned)),
        object_type: object.get("type").text().filter(|kind| is_key(kind))?,
        object_id: object.get("id").text().filter(|id| is_key(id))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_is_named_in_the_impact() {
        let event = r#"{"data":{"impact":{"event_type":"customer.subscription.updated","context":"org_1/acct_1",
            "related_object":{"id":"sub_1","type":"subscription","url":"/v1/subscriptions/sub_1"}}}}"#;
        let failure = read(event).unwrap();
        assert_eq!((failure.object_type.as_str(), failure.object_id.as_str()), ("subscription", "sub_1"));
        assert_eq!(failure.account.as_deref(), Some("acct_1"));
        assert_eq!(failure.event_type.as_deref(), Some("customer.subscription.updated"));
    }

    #[test]
    fn without_data_there_is_none() {
        for event in ["{}", "[]", r#"{"data":{}}"#, r#"{"data":{"impact":{"related_object":{"id":5,"type":"x"}}}}"#] {
            assert_eq!(read(event), None, "{event}");
        }
    }
}
