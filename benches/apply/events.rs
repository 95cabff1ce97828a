//! Fills the queue with the events of a month.

#[path = "../../tests/support/month.rs"]
mod month;

use billing_sync::database::Connection;
use billing_sync::outbox::enqueue::{EventSource, Incoming, store};
use billing_sync::stripe::envelope;

/// Rows in one statement.
const CHUNK: usize = 500;

/// Stores the events of `customers`, beginning with number `first`, as the receiver does, in order of delivery. Returns
/// their bytes.
pub(crate) async fn fill(conn: &mut Connection, first: u32, customers: u32) -> u64 {
    let mut texts = month::events(first, customers).peekable();
    let mut bytes = 0;
    while texts.peek().is_some() {
        let events: Vec<Incoming> = (texts.by_ref().take(CHUNK))
            .map(|text| Incoming { envelope: envelope::read(text.as_bytes()).unwrap(), payload: text.into() })
            .collect();
        bytes += events.iter().map(|event| event.payload.len() as u64).sum::<u64>();
        assert_eq!(store(conn, &events, EventSource::Webhook).await.unwrap().len(), events.len());
    }
    bytes
}
