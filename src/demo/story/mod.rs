//! The script: the events, how each is delivered, and the expected results.
//!
//! Owns every expectation of the demo; they make it a check and not only a show. Dates are fixed and in the past, so
//! the rows are the same on every run. Must not know HTTP or SQL. PURE.

mod ada;
mod bo;

use self::ada::Ada;
use super::rows::Row;
use super::sandbox::{ENDIVE, Event, Sandbox};

/// How an event is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
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
pub(super) enum Expected {
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
pub(super) struct Step {
    pub(super) event: Event,
    pub(super) delivery: Delivery,
    pub(super) expected: Expected,
    /// The reason for the result, for the output.
    pub(super) why: &'static str,
}

/// A part of the story: some requests, and a row after them.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) date: &'static str,
    pub(super) title: &'static str,
    pub(super) steps: Vec<Step>,
    pub(super) leaves: Row,
}

/// The whole story, in order.
pub(super) fn acts() -> Vec<Act> {
    let mut sandbox = Sandbox::new(ENDIVE);
    let mut ada = Ada::new();
    let mut acts = vec![
        ada.signs_up(&mut sandbox),
        ada.trial_converts(&mut sandbox),
        ada.upgrades_twice(&mut sandbox),
        ada.is_paused(&mut sandbox),
        ada.is_resumed(&mut sandbox),
        ada.moves_twice(&mut sandbox),
    ];
    let (cancels, captured) = ada.cancels(&mut sandbox);
    acts.extend([cancels, ada.changes_her_mind(&mut sandbox)]);
    acts.extend(bo::acts(&mut sandbox));
    acts.push(ada.strangers(&mut sandbox, captured));
    acts
}

/// The rows that must be unchanged at the end.
pub(super) fn ending() -> Vec<Row> {
    vec![ada::subscription(), ada::contact(), bo::contact()]
}

fn signed(event: Event, outcome: &'static str, reason: Option<&'static str>, why: &'static str) -> Step {
    Step { event, delivery: Delivery::Signed, expected: Expected::Stored { outcome, reason }, why }
}

fn applied(event: Event, why: &'static str) -> Step {
    signed(event, "applied", None, why)
}

fn noticed(event: Event, reason: &'static str, why: &'static str) -> Step {
    signed(event, "applied", Some(reason), why)
}

fn superseded(event: Event, why: &'static str) -> Step {
    signed(event, "superseded", None, why)
}

fn settled(event: Event, (outcome, reason): (&'static str, &'static str), why: &'static str) -> Step {
    signed(event, outcome, Some(reason), why)
}

fn again(event: Event, why: &'static str) -> Step {
    Step { event, delivery: Delivery::Again, expected: Expected::Known, why }
}

fn refused(event: Event, delivery: Delivery, answer: &'static str, why: &'static str) -> Step {
    Step { event, delivery, expected: Expected::Refused(answer), why }
}
