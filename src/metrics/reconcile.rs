//! What this process counts of comparing the stored events with Stripe's list.

use prometheus::{IntCounterVec, Opts, Registry};

use super::instance::counters;
use crate::stripe::catalogue;

/// How the comparison of one account ended: the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// Every event of the list is stored.
    Complete,
    /// The list came to its end, and some of its events could not be stored.
    Unreadable,
    /// Stripe or the database failed; what was found until then is stored, and the next run begins at the same place.
    Failed,
    /// The key was not shown to be of the account of the stored events: nothing was listed.
    Refused,
}

impl RunOutcome {
    /// All outcomes, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Complete, Self::Unreadable, Self::Failed, Self::Refused];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Unreadable => "unreadable",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// The metrics of the comparison.
#[derive(Debug, Clone)]
pub(super) struct ReconcileMetrics {
    missed: IntCounterVec,
    runs: IntCounterVec,
}

impl ReconcileMetrics {
    /// Declares them.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Events that act here, were not delivered within five minutes, and were found in Stripe's list, by \
                    the family of their type.";
        let missed = IntCounterVec::new(Opts::new("billing_sync_reconcile_missed_events_total", help), &["family"])?;
        for family in catalogue::families() {
            missed.with_label_values(&[family]).reset();
        }
        registry.register(Box::new(missed.clone()))?;
        let runs = counters(
            registry,
            "billing_sync_reconcile_runs_total",
            "Comparisons of an account's events with Stripe's list, by how they ended.",
            "outcome",
            RunOutcome::ALL.map(RunOutcome::as_str),
        )?;
        Ok(Self { missed, runs })
    }

    /// Counts one event that had been missed.
    pub(super) fn missed(&self, event_type: &str) {
        self.missed.with_label_values(&[catalogue::family(event_type)]).inc();
    }

    /// Counts one comparison.
    pub(super) fn run(&self, outcome: RunOutcome) {
        self.runs.with_label_values(&[outcome.as_str()]).inc();
    }
}
