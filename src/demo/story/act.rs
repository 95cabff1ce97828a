//! The parts of a story: acts, their steps, and the expected result of each. PURE.

use time::OffsetDateTime;
use uuid::Uuid;

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

/// One step of an act.
#[derive(Debug)]
pub(crate) enum Step {
    /// Stripe posts an event.
    Request(Request),
    /// The product consumes some of a limit.
    Consume(Consume),
    /// A period of a limit ends, and the scheduler renews the limit.
    Renewal(Renewal),
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) event: Event,
    pub(crate) delivery: Delivery,
    pub(crate) expected: Expected,
    /// The reason for the result, for the output.
    pub(crate) why: &'static str,
}

/// One call of `billing.consume`.
#[derive(Debug)]
pub(crate) struct Consume {
    pub(crate) workspace: Uuid,
    pub(crate) limit_key: &'static str,
    pub(crate) amount: i64,
    pub(crate) expected: Consumed,
}

/// The result of a call of `billing.consume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consumed {
    /// The amount was available, and this much is left.
    Left(i64),
    /// `LM001`: only this much is left, and nothing was consumed.
    Refused(i64),
}

/// The end of a period of a subscription's limits.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) subscription: &'static str,
    pub(crate) period_end: OffsetDateTime,
}

/// A part of the story: some steps, and a row after them.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) date: &'static str,
    pub(crate) title: &'static str,
    pub(crate) steps: Vec<Step>,
    pub(crate) leaves: Row,
}

impl Act {
    /// Its requests, in order.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.steps.iter().filter_map(|step| match step {
            Step::Request(request) => Some(request),
            Step::Consume(_) | Step::Renewal(_) => None,
        })
    }

    /// Its calls of `billing.consume`, in order.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Consume> {
        self.steps.iter().filter_map(|step| match step {
            Step::Consume(call) => Some(call),
            Step::Request(_) | Step::Renewal(_) => None,
        })
    }
}

fn signed(event: Event, outcome: &'static str, reason: Option<&'static str>, why: &'static str) -> Step {
    Step::Request(Request { event, delivery: Delivery::Signed, expected: Expected::Stored { outcome, reason }, why })
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
    Step::Request(Request { event, delivery: Delivery::Again, expected: Expected::Known, why })
}

pub(super) fn refused(event: Event, delivery: Delivery, answer: &'static str, why: &'static str) -> Step {
    Step::Request(Request { event, delivery, expected: Expected::Refused(answer), why })
}
