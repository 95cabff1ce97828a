//! The script: who does what and when, how each event is delivered, and what must come of it.
//!
//! Owns every expectation of the demo; that it is a check and not only a show hangs on this file. Dates are fixed and
//! in the past, so that the rows are the same on every run. Must not know HTTP or SQL. PURE.

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
    /// The same event once more, with a new signature.
    Again,
    /// Signed with a secret that is not ours.
    Forged,
    /// Truly signed, ten minutes ago.
    Stale,
    /// Without a signature.
    Unsigned,
}

/// What must come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// 200, and the worker settles it so.
    Stored {
        /// The outcome in the outbox.
        outcome: &'static str,
        /// The reason in the outbox.
        reason: Option<&'static str>,
    },
    /// 200: it is there already.
    Known,
    /// 400, with an answer that begins like this.
    Refused(&'static str),
}

/// One request.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) event: Event,
    pub(super) delivery: Delivery,
    pub(super) expected: Expected,
    /// Why it is answered and settled like that, for the reader.
    pub(super) why: &'static str,
}

/// A part of the story: some requests, and what the tables say after them.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) date: &'static str,
    pub(super) title: &'static str,
    pub(super) steps: Vec<Step>,
    pub(super) leaves: Row,
}

/// The whole story, in the order in which it is told.
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

/// The rows that nothing in the acts may have touched, looked at once more at the end.
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
