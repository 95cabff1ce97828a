//! Statistics of a comparison, which grow page by page.

use std::collections::BTreeMap;

use super::page::Page;
use crate::domain::event::Envelope;

/// Maximum number of example ids for each type.
const EXAMPLES: usize = 3;

/// Statistics of a comparison so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReconcileStats {
    /// Listed events.
    pub compared: u64,
    /// Events that were not stored before, by type.
    pub found: BTreeMap<String, NewEvents>,
    /// Events in `found` that count as missed.
    pub missed: u64,
    /// Events that could not be stored; the log contains their ids.
    pub unreadable: u64,
}

/// Events of one type that were not stored before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewEvents {
    /// Number of events.
    pub events: u64,
    /// Ids of the first ones.
    pub examples: Vec<String>,
}

impl ReconcileStats {
    /// Number of events that were not stored before.
    pub fn inserted(&self) -> u64 {
        self.found.values().map(|found| found.events).sum()
    }

    /// Adds a page, and those of its events that were not stored before.
    pub(super) fn add(&mut self, page: &Page, found: &[&Envelope], missed: usize, refused: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.compared += number(page.events.len() + page.unreadable.len());
        self.unreadable += number(page.unreadable.len() + refused);
        self.missed += number(missed);
        for event in found {
            let of_type = self.found.entry(event.event_type.clone()).or_default();
            of_type.events += 1;
            if of_type.examples.len() < EXAMPLES {
                of_type.examples.push(event.key.event_id.clone());
            }
        }
    }
}
