//! Metrics of the changes that this process makes at Stripe for the workspace API.

use prometheus::{IntCounterVec, Opts, Registry};

/// Outcomes of an attempt, as values of a label.
const OUTCOMES: [&str; 4] = ["done", "refused", "retried", "unknown"];

/// The counters of changes at Stripe.
#[derive(Debug, Clone)]
pub struct WriteMetrics {
    writes: IntCounterVec,
}

impl WriteMetrics {
    /// Declares the metrics and sets the series of every operation to 0.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn new(registry: &Registry, operations: &[&str]) -> Result<Self, prometheus::Error> {
        let help = "Attempts at changes at Stripe for the workspace API, by operation and outcome.";
        let writes =
            IntCounterVec::new(Opts::new("billing_sync_api_write_attempts_total", help), &["operation", "outcome"])?;
        for operation in operations {
            for outcome in OUTCOMES {
                writes.with_label_values(&[operation, outcome]).reset();
            }
        }
        registry.register(Box::new(writes.clone()))?;
        Ok(Self { writes })
    }

    /// Counts one attempt.
    pub fn write(&self, operation: &str, outcome: &'static str) {
        self.writes.with_label_values(&[operation, outcome]).inc();
    }
}
