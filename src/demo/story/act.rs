//! The parts of a story: acts, their requests, and the expected result of each. PURE.

use crate::demo::rows::Row;
use crate::demo::sandbox::Event;

/// How an event is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Signed now, with the secret of this run.
    Signed,
    /// The same event again, with a new signature.
    Again,
    /// Signed with another secret.
    Forged,
    /// Signed correctly, but ten minutes ago.
    Stale,
    /// Without a signature.
    Unsigned,
}

/// The expected result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// 200, and the worker settles the event with this result.
    Stored {
        /// The outcome in the outbox.
        outcome: &'static str,
        /// The reason in the outbox.
        reason: Option<&'static str>,
    },
    /// 200: the event is already stored.
    Known,
    /// 400, with an answer that begins with this text.
    Refused(&'static str),
}

/// One request.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) event: Event,
    pub(crate) delivery: Delivery,
    pub(crate) expected: Expected,
    /// The reason for the result, for the output.
    pub(crate) why: &'static str,
}

/// A part of the story: some requests, and a row after them.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) date: &'static str,
    pub(crate) title: &'static str,
    pub(crate) steps: Vec<Step>,
    pub(crate) leaves: Row,
}

fn signed(event: Event, outcome: &'static str, reason: Option<&'static str>, why: &'static str) -> Step {
    Step { event, delivery: Delivery::Signed, expected: Expected::Stored { outcome, reason }, why }
}

pub(super) fn applied(event: Event, why: &'static str) -> Step {
    signed(event, "applied", None, why)
}

pub(super) fn noticed(event: Event, reason: &'static str, why: &'static str) -> Step {
    signed(event, "applied", Some(reason), why)
}

pub(super) fn superseded(event: Event, why: &'static str) -> Step {
    signed(event, "superseded", None, why)
}

pub(super) fn settled(event: Event, (outcome, reason): (&'static str, &'static str), why: &'static str) -> Step {
    signed(event, outcome, Some(reason), why)
}

pub(super) fn again(event: Event, why: &'static str) -> Step {
    Step { event, delivery: Delivery::Again, expected: Expected::Known, why }
}

pub(super) fn refused(event: Event, delivery: Delivery, answer: &'static str, why: &'static str) -> Step {
    Step { event, delivery, expected: Expected::Refused(answer), why }
}
