//! The events of one object, newest second first, read back only as far as the head needs.
//!
//! PURE. The merge fills it from the batch and, where seconds tie, from the archive.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::rendering::{self, Rendering};
use super::snapshot::Snapshot;
use super::state::State;
use super::walk::{Before, End, Move, end_of_second};

/// Everything known of an object's events, complete from some second onwards.
#[derive(Debug, Default)]
pub struct History {
    seconds: BTreeMap<OffsetDateTime, Vec<Snapshot>>,
    /// Every event after this time is known; `None`: every event there is.
    complete_after: Option<OffsetDateTime>,
    /// The object before all known events, where the mirror remembers more than the archive.
    remembered: Option<String>,
    /// When something that is no event of the object told its state: a read, or another object that carried it.
    otherwise: Option<OffsetDateTime>,
}

/// The newest state of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The event that carries it.
    pub snapshot: Snapshot,
    /// The order within its second could not be told.
    pub doubt: bool,
    /// It depends on the second before, so that a late event may change it.
    pub circuit: bool,
}

/// Whether the head can be told.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Here it is.
    Head(Box<Head>),
    /// No known event carries a content.
    Nothing,
    /// The events of an earlier second are needed: those at or before this time.
    Needs(OffsetDateTime),
}

impl History {
    /// A history of which every event after `complete_after` will be added.
    pub fn complete_after(complete_after: Option<OffsetDateTime>) -> Self {
        Self { complete_after, ..Self::default() }
    }

    /// Adds an event; one that is there already changes nothing.
    pub fn add(&mut self, snapshot: Snapshot) {
        let second = self.seconds.entry(snapshot.created).or_default();
        if second.iter().all(|known| known.event_id != snapshot.event_id) {
            second.push(snapshot);
        }
    }

    /// Says how far back the events are all there now.
    pub fn now_complete_after(&mut self, complete_after: Option<OffsetDateTime>) {
        self.complete_after = complete_after;
    }

    /// Says what the object was before all events that the archive still has.
    pub fn remember(&mut self, at: OffsetDateTime, content: &str) {
        if self.seconds.keys().next().is_none_or(|earliest| at < *earliest) {
            self.remembered = Some(content.to_owned());
        }
    }

    /// Says that a state was seen at this time of which no event is known. A circuit that began after it may have begun
    /// there, so that the events before it say nothing.
    pub fn seen_otherwise(&mut self, at: OffsetDateTime) {
        self.otherwise = Some(at);
    }

    /// The newest state, or what is needed to tell it.
    pub fn head(&self) -> Answer {
        let complete = |at: &OffsetDateTime| self.complete_after.is_none_or(|after| *at > after);
        let seconds: Vec<Second<'_>> = (self.seconds.iter().rev())
            .filter(|(at, _)| complete(at))
            .filter_map(|(_, snapshots)| Second::of(snapshots))
            .collect();
        // down to the first second that ends by itself …
        let mut ends = Vec::new();
        for second in &seconds {
            ends.push(second.end(Known::NotAsked));
            if ends.last() != Some(&End::NeedsBefore) {
                break;
            }
        }
        match (ends.last(), self.complete_after) {
            (Some(End::NeedsBefore) | None, Some(after)) => Answer::Needs(after),
            (None, None) => Answer::Nothing,
            _ => Answer::Head(Box::new(self.climb(&seconds[..ends.len()]))),
        }
    }

    /// … and up again, each circuit ending where the second below it ended.
    fn climb(&self, seconds: &[Second<'_>]) -> Head {
        let mut below: Option<Head> = None;
        for second in seconds.iter().rev() {
            let before = match &below {
                Some(head) if self.otherwise.is_some_and(|at| head.snapshot.created < at) => None,
                Some(head) => head.snapshot.rendering(),
                None => {
                    self.remembered.as_deref().map(|content| Rendering { content, previous: None, api_version: None })
                }
            };
            let before = before.map_or(Known::Unknown, Known::At);
            let End::At { index, doubt, circuit } = second.end(before) else { continue };
            let doubt = doubt || (circuit && below.as_ref().is_some_and(|head| head.doubt));
            below = Some(Head { snapshot: second.0[index].clone(), doubt, circuit });
        }
        below.expect("there is at least one second, and a second whose before is given has an end")
    }
}

/// What is known of the end of the second before.
#[derive(Clone, Copy)]
enum Known<'a> {
    NotAsked,
    Unknown,
    At(Rendering<'a>),
}

/// The events of one second that carry a content; there is at least one.
struct Second<'a>(Vec<&'a Snapshot>);

impl<'a> Second<'a> {
    fn of(snapshots: &'a [Snapshot]) -> Option<Self> {
        let carrying: Vec<&Snapshot> = snapshots.iter().filter(|one| one.content.is_some()).collect();
        (!carrying.is_empty()).then_some(Self(carrying))
    }

    /// Where this second ends. A lone event, as nearly all are, is the end whatever it says: only events that
    /// share a second are made into moves, which means reading the whole object.
    fn end(&self, before: Known<'_>) -> End {
        if self.0.len() == 1 {
            return End::At { index: 0, doubt: false, circuit: false };
        }
        let mut renderings: Vec<Rendering<'_>> = self.0.iter().filter_map(|one| one.rendering()).collect();
        if let Known::At(rendering) = before {
            renderings.push(rendering);
        }
        let mut states = rendering::states(&renderings);
        let at: Option<State> = states.split_off(self.0.len()).pop().map(|(_, after)| after);
        let moves: Vec<Move> =
            self.0.iter().zip(states).map(|(one, (before, after))| one.as_move(before, after)).collect();
        let before = match (before, &at) {
            (Known::NotAsked, _) => Before::NotAsked,
            (_, Some(state)) => Before::At(state),
            _ => Before::Unknown,
        };
        end_of_second(&moves, before)
    }
}

#[cfg(test)]
mod tests;
