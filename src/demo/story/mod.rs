//! The script: the events, how each is delivered, what the product consumes, and the expected results.
//!
//! Owns every expectation of the demo; they make it a check and not only a show. The dates of Ada and Bo are fixed and
//! in the past, so their rows are the same on every run. Those of Cleo follow from the time of the run, which is an
//! argument. Must not know HTTP or SQL. PURE.

mod act;
mod ada;
mod bo;
mod calendar;
mod cleo;

use time::OffsetDateTime;

pub(super) use self::act::{Act, Consume, Consumed, Delivery, Expected, Renewal, Request, Step};
use self::ada::Ada;
pub(super) use self::ada::{ADA_SUB, history};
use self::cleo::Cleo;
pub(super) use self::cleo::{CLEO, WORDS, WORKSPACE};
use super::rows::Row;
use super::sandbox::{ENDIVE, Sandbox};

/// The acts of Ada and Bo, with fixed dates. Those of Cleo come before and after them.
pub(super) struct Story {
    pub(super) acts: Vec<Act>,
    sandbox: Sandbox,
}

impl Story {
    pub(super) fn new() -> Self {
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
        Self { acts, sandbox }
    }

    /// Cleo's first act.
    pub(super) fn opening(&mut self, now: OffsetDateTime) -> Act {
        cleo::gets_metadata(&mut self.sandbox, now)
    }

    /// Cleo's other acts: she upgrades now, and her month ends at `month_end`, a whole second.
    pub(super) fn cleo(&mut self, now: OffsetDateTime, month_end: OffsetDateTime) -> Cleo {
        Cleo::new(&mut self.sandbox, now, month_end)
    }
}

/// The rows of Ada and Bo at the end.
pub(super) fn ending() -> Vec<Row> {
    ada::ending().into_iter().chain(bo::ending()).collect()
}
