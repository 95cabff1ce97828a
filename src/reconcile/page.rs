//! Parses one page of Stripe's event list into events for the outbox.
//!
//! PURE. An event is stored with exactly its bytes in the list.

use crate::outbox::enqueue::Incoming;
use crate::stripe::envelope::{self, EnvelopeError};
use crate::stripe::json::Document;

/// A page of Stripe's event list.
#[derive(Debug)]
pub(super) struct Page {
    /// Its events, each once.
    pub(super) events: Vec<Incoming>,
    /// Events that cannot be stored.
    pub(super) unreadable: Vec<Unreadable>,
    /// The last id on the page: the cursor of the next page.
    pub(super) last: Option<String>,
    /// Whether there is a next page.
    pub(super) has_more: bool,
}

/// An event that cannot be stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Its id, if it is printable.
    pub(super) id: Option<String>,
    /// Why it cannot be stored.
    pub(super) error: EnvelopeError,
}

/// Parses a page of the events of `account`; `None` if `body` is not a page.
///
/// All events get the account of the request. In a list, an event may omit `account`, or contain the id of the key's
/// own account, which is the empty string here.
pub(super) fn read(body: &str, account: &str) -> Option<Page> {
    let document = Document::parse(body).ok()?;
    let list = document.root().object()?;
    let mut page =
        Page { events: Vec::new(), unreadable: Vec::new(), last: None, has_more: list.get("has_more").boolean()? };
    for event in list.get("data").array()? {
        let id = event.get("id").text().filter(|id| id.len() <= 255 && id.bytes().all(|byte| byte.is_ascii_graphic()));
        match envelope::read(event.raw().as_bytes()) {
            Ok(mut envelope) => {
                account.clone_into(&mut envelope.account);
                page.events.push(Incoming { envelope, payload: event.raw().to_owned().into() });
            }
            Err(error) => page.unreadable.push(Unreadable { id: id.clone(), error }),
        }
        page.last = id.or(page.last);
    }
    page.events.sort_by(|a, b| a.envelope.key.cmp(&b.envelope.key));
    page.events.dedup_by(|a, b| a.envelope.key == b.envelope.key);
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "{\"object\": \"list\", \"url\": \"/v1/events\", \"has_more\": true, \"data\": [
        {\"id\":\"evt_2\", \"object\":\"event\",\t\"type\":\"t\",\"created\":1700000001,\"account\":\"acct_x\", \"n\": 1.50e1},
        {\"id\": \"evt_odd\", \"object\": \"event\", \"type\": \"t\"}, 7,
        {\"id\":\"evt_1\",\"object\":\"event\",\"type\":\"t\",\"created\":1700000000}, {\"id\":\"\\u0000\"} ] }";

    #[test]
    fn an_event_keeps_its_bytes_and_has_the_requested_account() {
        for account in ["", "acct_1"] {
            let page = read(BODY, account).unwrap();
            let found: Vec<_> = page.events.iter().map(|event| event.envelope.key.event_id.as_str()).collect();
            assert_eq!(found, ["evt_1", "evt_2"]);
            assert!(page.events.iter().all(|event| event.envelope.account == account));
            let bytes = "{\"id\":\"evt_2\", \"object\":\"event\",\t\"type\":\"t\",\"created\":1700000001,\"account\":\"acct_x\", \"n\": 1.50e1}";
            assert_eq!(page.events[1].payload, bytes.as_bytes());
        }
    }

    #[test]
    fn an_unreadable_event_is_reported_by_its_id() {
        let page = read(BODY, "").unwrap();
        let ids: Vec<_> = page.unreadable.iter().map(|event| event.id.as_deref()).collect();
        assert_eq!(ids, [Some("evt_odd"), None, None]);
        assert_eq!(page.unreadable[0].error, EnvelopeError::Created);
        assert_eq!((page.last.as_deref(), page.has_more), (Some("evt_1"), true));
    }

    #[test]
    fn a_duplicate_event_counts_once() {
        let twice = r#"{"has_more": false, "data": [
            {"id":"evt_1","object":"event","type":"t","created":1}, {"id":"evt_1","object":"event","type":"t","created":1}]}"#;
        let twice = twice.replace(":1}", ":1700000000}");
        assert_eq!(read(&twice, "").unwrap().events.len(), 1);
    }

    #[test]
    fn an_invalid_page_is_none() {
        for body in ["", "[]", "{}", r#"{"data": []}"#, r#"{"has_more": false}"#, r#"{"has_more": 1, "data": []}"#] {
            assert!(read(body, "").is_none(), "{body}");
        }
    }
}
