//! The data that one transaction merges into the mirror: events, nested objects and reads.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::snapshot::Snapshot;
use crate::domain::object::{KnownContent, ObjectKey};

/// A snapshot event of an object.
#[derive(Debug)]
pub struct Arrival {
    /// The object.
    pub key: ObjectKey,
    /// Its content at the event.
    pub snapshot: Snapshot,
}

/// An object nested in another one.
pub struct Nested {
    /// The object.
    pub key: ObjectKey,
    /// The event that carried it, or `read`.
    pub event_id: String,
    /// The version of the carrier.
    pub version: OffsetDateTime,
    /// Whether it shows the state at that time. Otherwise it is a copy, used only until the object itself is seen.
    pub is_current: bool,
    /// Its JSON.
    pub json: String,
}

/// A read of an object from Stripe's API, or the answer to a write.
pub struct Read {
    /// The object.
    pub key: ObjectKey,
    /// Start of the read minus the staleness margin; the start of a write, whose answer is not stale.
    pub version: OffsetDateTime,
    /// Result of the read.
    pub found: ReadResult,
    /// The fields that only reads carry, as a JSON object.
    pub expansion: Option<String>,
}

/// Result of a read.
pub enum ReadResult {
    /// The object's JSON.
    Object(String),
    /// The object's JSON in the answer to a write.
    Written(String, Written),
    /// The stub that Stripe keeps of a deleted object.
    Deleted,
    /// Stripe returned 404.
    NotFound,
}

/// A write of ours, and what was known of its object before it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Identifies the write in the mirror and in `row_changes`.
    pub cause: String,
    /// The content of the mirror before: it is older than the write, even if both have the same second.
    pub known: Option<KnownContent>,
}

/// Everything that one transaction merges.
#[derive(Default)]
pub struct Incoming {
    /// Events.
    pub arrivals: Vec<Arrival>,
    /// The objects nested in those of events and reads.
    pub nested: Vec<Nested>,
    /// Reads.
    pub reads: Vec<Read>,
}

impl Incoming {
    /// Every object that is merged.
    pub fn keys(&self) -> BTreeSet<ObjectKey> {
        let arrivals = self.arrivals.iter().map(|one| &one.key);
        arrivals
            .chain(self.nested.iter().map(|one| &one.key))
            .chain(self.reads.iter().map(|one| &one.key))
            .cloned()
            .collect()
    }
}
