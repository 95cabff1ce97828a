//! A snapshot event: the content of its object, the state before, and the time.
//!
//! PURE. Called by the worker for the events of a batch, and by the merge for archived events.

use time::OffsetDateTime;

use super::rendering::Rendering;
use super::same_second::{ChangeKind, Transition};
use super::state::State;
use crate::stripe::json::{Document, Json};
use crate::stripe::lifecycle;

/// The content of an object at one event, owned and ready to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The event.
    pub event_id: String,
    /// Creation time of the event, in whole seconds.
    pub created: OffsetDateTime,
    /// Created, updated or deleted.
    pub stage: ChangeKind,
    /// The object's JSON; `None` if a deletion carries only the stub `{id, object, deleted}`.
    pub content: Option<String>,
    /// `previous_attributes`, if the event has any.
    pub previous: Option<String>,
    /// The API version of the event, if it is contained.
    pub api_version: Option<String>,
}

impl Snapshot {
    /// Reads a snapshot event.
    ///
    /// `None` if it contains no object.
    pub fn read(event_id: &str, created: OffsetDateTime, event_type: &str, event: Json<'_>) -> Option<Self> {
        let data = event.get("data");
        let object = data.get("object");
        if !object.is_object() {
            return None;
        }
        let stage = match event_type.rsplit('.').next() {
            Some("created") => ChangeKind::Created,
            // a detached payment method can never be used or attached again, and has no other final event
            Some("deleted" | "detached") => ChangeKind::Deleted,
            _ => ChangeKind::Updated,
        };
        let is_stub = object.get("deleted").boolean() == Some(true);
        let previous = data.get("previous_attributes");
        let says_something = previous.has_members();
        Some(Self {
            event_id: event_id.to_owned(),
            created,
            stage,
            content: (!is_stub).then(|| object.raw().to_owned()),
            previous: says_something.then(|| previous.raw().to_owned()),
            api_version: event.get("api_version").text(),
        })
    }

    /// The object as the event shows it; `None` for a stub, which has no state.
    pub fn rendering(&self) -> Option<Rendering<'_>> {
        let (previous, api_version) = (self.previous.as_deref(), self.api_version.as_deref());
        Some(Rendering { content: self.content.as_deref()?, previous, api_version })
    }

    /// The event as a transition between these states.
    pub fn as_transition(&self, before: Option<State>, after: State) -> Transition {
        let document = Document::parse_or_null(self.content.as_deref().unwrap_or("null"));
        let object = document.root();
        let rank = lifecycle::rank(&object.get("object").text().unwrap_or_default(), object);
        Transition { event_id: self.event_id.clone(), stage: self.stage, before, after, rank }
    }
}

impl std::fmt::Debug for Snapshot {
    /// Without the content, which may be personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("event_id", &self.event_id)
            .field("created", &self.created)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    #[test]
    fn deletion_and_detachment_are_final() {
        let event = r#"{"data":{"object":{"id":"pm_1"},"previous_attributes":{"customer":"cus_1"}}}"#;
        let event = json(event);
        let stage = |kind| Snapshot::read("evt_1", OffsetDateTime::UNIX_EPOCH, kind, event).unwrap().stage;
        assert_eq!(stage("payment_method.attached"), ChangeKind::Updated);
        assert_eq!(stage("payment_method.detached"), ChangeKind::Deleted);
        assert_eq!(stage("customer.source.deleted"), ChangeKind::Deleted);
    }

    fn read(event_type: &str, data: &str) -> Option<Snapshot> {
        let event = format!(r#"{{"api_version":"2026-10-28.endive","data":{data}}}"#);
        Snapshot::read("evt_1", OffsetDateTime::UNIX_EPOCH, event_type, json(&event))
    }

    #[test]
    fn only_an_update_has_a_state_before() {
        let created = read("customer.created", r#"{"object":{"id":"cus_1","name":"Ada"}}"#).unwrap();
        assert_eq!((created.stage, created.previous.clone()), (ChangeKind::Created, None));
        assert_eq!(created.content.as_deref(), Some(r#"{"id":"cus_1","name":"Ada"}"#), "byte for byte");
        let data = r#"{"object":{"id":"cus_1","name":"Ada"},"previous_attributes":{"name":"A"}}"#;
        let updated = read("customer.updated", data).unwrap();
        let rendering = updated.rendering().unwrap();
        assert_eq!((rendering.previous, rendering.api_version), (Some(r#"{"name":"A"}"#), Some("2026-10-28.endive")));
        let state = State::of_text("x");
        let moved = updated.as_transition(None, state.clone());
        assert_eq!((moved.stage, moved.rank, moved.after), (ChangeKind::Updated, None, state));
    }

    #[test]
    fn empty_previous_attributes_are_none() {
        for previous in ["{}", "null", "[]"] {
            let data = format!(r#"{{"object":{{"id":"in_1"}},"previous_attributes":{previous}}}"#);
            assert_eq!(read("invoice.paid", &data).unwrap().previous, None, "{previous}");
        }
    }

    #[test]
    fn the_stub_of_a_deleted_object_has_no_content() {
        let stub = read("customer.deleted", r#"{"object":{"id":"cus_1","deleted":true}}"#).unwrap();
        assert_eq!((stub.stage, stub.content.is_none(), stub.rendering().is_none()), (ChangeKind::Deleted, true, true));
        let whole = read("customer.deleted", r#"{"object":{"id":"cus_1","deleted":false}}"#).unwrap();
        assert!(whole.content.is_some());
        assert_eq!(read("customer.updated", r#"{"object":"cus_1"}"#), None);
    }
}
