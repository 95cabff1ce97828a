//! The events of one object, newest second first, read back only as far as the head needs.
//!
//! PURE. The merge fills it from the batch and, if events share a second, from the archive.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::rendering::{self, Rendering};
use super::same_second::{Before, End, Transition, end_of_second};
use super::snapshot::Snapshot;
use super::state::State;

/// The known events of an object, complete from some second onwards.
#[derive(Debug, Default)]
pub struct History {
    seconds: BTreeMap<OffsetDateTime, Vec<Snapshot>>,
    /// Every event after this time is known; `None`: all events are.
    complete_after: Option<OffsetDateTime>,
    /// The object before all known events, if the mirror holds more than the archive.
    remembered: Option<String>,
    /// Time at which the state was seen other than by an event of the object: by a read, or nested in another object.
    otherwise: Option<OffsetDateTime>,
    /// The answer to a write of ours, and its second.
    written: Option<(OffsetDateTime, String)>,
}

/// The newest state of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The event that carries it.
    pub snapshot: Snapshot,
    /// The order of the events within this second is ambiguous.
    pub ambiguous: bool,
    /// The state depends on the second before, so a late event may change it.
    pub circuit: bool,
    /// The answer to a write of ours in this second is the newer state: no known event of the second shows it.
    pub is_before_write: bool,
}

/// The head of a history, or what is needed to find it.
#[derive(Debug, PartialEq, Eq)]
pub enum HeadResult {
    /// The head.
    Head(Box<Head>),
    /// No known event carries any content.
    Nothing,
    /// Events of an earlier second are needed: those at or before this time.
    Needs(OffsetDateTime),
}

impl History {
    /// A history to which every event after `complete_after` will be added.
    pub fn complete_after(complete_after: Option<OffsetDateTime>) -> Self {
        Self { complete_after, ..Self::default() }
    }

    /// Adds an event; a duplicate changes nothing.
    pub fn add(&mut self, snapshot: Snapshot) {
        let second = self.seconds.entry(snapshot.created).or_default();
        if second.iter().all(|known| known.event_id != snapshot.event_id) {
            second.push(snapshot);
        }
    }

    /// Sets the time after which all events are now known.
    pub fn now_complete_after(&mut self, complete_after: Option<OffsetDateTime>) {
        self.complete_after = complete_after;
    }

    /// Sets the content that the object had before all archived events.
    pub fn remember(&mut self, at: OffsetDateTime, content: &str) {
        if self.seconds.keys().next().is_none_or(|earliest| at < *earliest) {
            self.remembered = Some(content.to_owned());
        }
    }

    /// Records that a state was seen at this time without a known event. A circuit that began later may have begun in
    /// that state, so the events before it prove nothing.
    pub fn seen_without_event_at(&mut self, at: OffsetDateTime) {
        self.otherwise = Some(at);
    }

    /// Records the answer to a write of ours in this second.
    pub fn written_at(&mut self, at: OffsetDateTime, content: &str) {
        self.written = Some((at, content.to_owned()));
    }

    /// The newest state, or what is needed to find it.
    pub fn head(&self) -> HeadResult {
        let complete = |at: &OffsetDateTime| self.complete_after.is_none_or(|after| *at > after);
        let seconds: Vec<Second<'_>> = (self.seconds.iter().rev())
            .filter(|(at, _)| complete(at))
            .filter_map(|(_, snapshots)| Second::of(snapshots))
            .collect();
        // down to the first second whose end does not depend on an earlier one …
        let mut ends = Vec::new();
        for second in &seconds {
            ends.push(second.end(Known::NotAsked));
            if ends.last() != Some(&End::NeedsBefore) {
                break;
            }
        }
        match (ends.last(), self.complete_after) {
            (Some(End::NeedsBefore) | None, Some(after)) => HeadResult::Needs(after),
            (None, None) => HeadResult::Nothing,
            _ => HeadResult::Head(Box::new(self.climb(&seconds[..ends.len()]))),
        }
    }

    /// … and up again: each circuit ends where the second below it ended.
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
            let End::At { index, ambiguous, circuit } = second.end(before) else { continue };
            let is_before_write = self.written.as_ref().is_some_and(|(at, content)| second.is_before(*at, content));
            // the event of the write has not arrived, so neither has what else may have happened in the second
            let ambiguous =
                is_before_write || ambiguous || (circuit && below.as_ref().is_some_and(|head| head.ambiguous));
            below = Some(Head { snapshot: second.0[index].clone(), ambiguous, circuit, is_before_write });
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

/// The events of one second that carry content; at least one.
struct Second<'a>(Vec<&'a Snapshot>);

impl<'a> Second<'a> {
    fn of(snapshots: &'a [Snapshot]) -> Option<Self> {
        let carrying: Vec<&Snapshot> = snapshots.iter().filter(|one| one.content.is_some()).collect();
        (!carrying.is_empty()).then_some(Self(carrying))
    }

    /// Whether a state that a write has led to within this second came after the known events: none of them leads to it,
    /// nor away from it.
    fn is_before(&self, at: OffsetDateTime, written: &str) -> bool {
        if self.0.iter().any(|one| one.created != at) {
            return false;
        }
        let mut renderings: Vec<Rendering<'_>> = self.0.iter().filter_map(|one| one.rendering()).collect();
        renderings.push(Rendering { content: written, previous: None, api_version: None });
        let mut states = rendering::states(&renderings);
        let Some((_, written)) = states.pop() else { return false };
        states.iter().all(|(before, after)| before.as_ref() != Some(&written) && *after != written)
    }

    /// Where this second ends. A single event, the usual case, is the end whatever it contains. Only events that share
    /// a second are made into transitions, which requires reading the whole object.
    fn end(&self, before: Known<'_>) -> End {
        if self.0.len() == 1 {
            return End::At { index: 0, ambiguous: false, circuit: false };
        }
        let mut renderings: Vec<Rendering<'_>> = self.0.iter().filter_map(|one| one.rendering()).collect();
        if let Known::At(rendering) = before {
            renderings.push(rendering);
        }
        let mut states = rendering::states(&renderings);
        let at: Option<State> = states.split_off(self.0.len()).pop().map(|(_, after)| after);
        let transitions: Vec<Transition> =
            self.0.iter().zip(states).map(|(one, (before, after))| one.as_transition(before, after)).collect();
        let before = match (before, &at) {
            (Known::NotAsked, _) => Before::NotAsked,
            (_, Some(state)) => Before::At(state),
            _ => Before::Unknown,
        };
        end_of_second(&transitions, before)
    }
}

#[cfg(test)]
mod tests;
