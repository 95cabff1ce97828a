//! An event with a new id and the current time, so that it is a new event for the receiver instead of a duplicate. PURE.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// The event with this id and time; all else keeps its bytes. A thin event writes its time as text.
///
/// # Errors
/// If the body is not a JSON object.
pub(super) fn new_event(body: &[u8], id: Uuid, now: OffsetDateTime) -> anyhow::Result<Vec<u8>> {
    let mut event: BTreeMap<&str, Box<RawValue>> = serde_json::from_slice(body)?;
    let is_thin = event.get("created").is_some_and(|created| created.get().starts_with('"'));
    let created = if is_thin { to_raw_value(&now.format(&Rfc3339)?)? } else { to_raw_value(&now.unix_timestamp())? };
    event.insert("id", to_raw_value(&format!("evt_{}", id.simple()))?);
    event.insert("created", created);
    Ok(serde_json::to_vec(&event)?)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn made_new(event: &str) -> String {
        let body = new_event(event.as_bytes(), Uuid::nil(), datetime!(2026-11-30 16:00 UTC)).unwrap();
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn only_id_and_time_change() {
        let id = "evt_00000000000000000000000000000000";
        let data = r#"{"object": {"id": "cus_1",  "created": 3}}"#;
        assert_eq!(
            made_new(&format!(r#"{{"id": "evt_1", "created": 17, "data": {data}}}"#)),
            format!(r#"{{"created":1796054400,"data":{data},"id":"{id}"}}"#)
        );
        assert_eq!(
            made_new(r#"{"id":"evt_1","created":"2025-01-01T00:00:00Z"}"#),
            format!(r#"{{"created":"2026-11-30T16:00:00Z","id":"{id}"}}"#)
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(new_event(b"[]", Uuid::nil(), OffsetDateTime::UNIX_EPOCH).is_err());
    }
}
