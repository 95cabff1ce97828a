//! Metrics of the comparisons of stored events with Stripe's event list.

use prometheus::{IntCounterVec, Opts, Registry};

use super::families::counters;
use crate::stripe::catalogue;

/// How the comparison of one account ended: the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// All listed events are stored.
    Complete,
    /// The list was read to its end, but some of its events could not be stored.
    Partial,
    /// Stripe or the database failed. Events found until then are stored, and the next run starts at the same
    /// watermark.
    Failed,
    /// The key is not verified for the account of the stored events; nothing was listed.
    Refused,
}

impl RunOutcome {
    /// All outcomes, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Complete, Self::Partial, Self::Failed, Self::Refused];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// The metrics of the comparisons.
#[derive(Debug, Clone)]
pub(super) struct ReconcileMetrics {
    missed: IntCounterVec,
    runs: IntCounterVec,
}

impl ReconcileMetrics {
    /// Declares the metrics.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Missed events, by family of their type: events that billing-sync handles, that were not delivered \
                    within 5 minutes, and that were loaded from Stripe's event list. A snapshot event whose thin \
                    counterpart was delivered is not counted.";
        let missed = IntCounterVec::new(Opts::new("billing_sync_reconcile_missed_events_total", help), &["family"])?;
        for family in catalogue::handled_families() {
            missed.with_label_values(&[family]).reset();
        }
        registry.register(Box::new(missed.clone()))?;
        let runs = counters(
            registry,
            "billing_sync_reconcile_runs_total",
            "Comparisons of an account's events with Stripe's event list, by outcome: complete, partial (some events \
             could not be stored; the log names them), failed (retried), refused (the key is not verified for the \
             account).",
            "outcome",
            RunOutcome::ALL.map(RunOutcome::as_str),
        )?;
        Ok(Self { missed, runs })
    }

    /// Counts one missed event.
    pub(super) fn missed(&self, event_type: &str) {
        self.missed.with_label_values(&[catalogue::family(event_type)]).inc();
    }

    /// Counts one comparison.
    pub(super) fn run(&self, outcome: RunOutcome) {
        self.runs.with_label_values(&[outcome.as_str()]).inc();
    }
}
