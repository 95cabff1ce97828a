//! Metrics of the samples of rows that this process compared with Stripe.

use std::collections::BTreeMap;

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::families::counters;

/// The tables whose rows are compared: the label `table`.
pub const TABLES: [&str; 6] =
    ["billing_contacts", "checkout_sessions", "coupons", "plan_limits", "pricing_plans", "subscriptions"];

/// The result of one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleStats {
    /// Customers that were compared.
    pub customers: u64,
    /// Rows that differ, by table.
    pub rows: BTreeMap<&'static str, u64>,
    /// Customers that could not be compared.
    pub failed: u64,
}

/// The metrics of the samples.
#[derive(Debug, Clone)]
pub(super) struct DriftMetrics {
    rows: IntGaugeVec,
    customers: IntCounterVec,
    samples: IntCounter,
}

impl DriftMetrics {
    /// Declares the metrics.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Rows of the last sample that differed from Stripe, by table. The process with the role reconcile \
                    compares a sample every hour (BILLING_SYNC_VERIFY_SAMPLE).";
        let rows = IntGaugeVec::new(Opts::new("billing_sync_drift_rows", help), &["table"])?;
        for table in TABLES {
            rows.with_label_values(&[table]).set(0);
        }
        registry.register(Box::new(rows.clone()))?;
        let customers = counters(
            registry,
            "billing_sync_drift_customers_total",
            "Customers of the samples, by outcome: compared, or failed (Stripe or the database did not answer).",
            "outcome",
            ["compared", "failed"],
        )?;
        let help = "Samples of customers that this process compared with Stripe.";
        let samples = IntCounter::new("billing_sync_drift_samples_total", help)?;
        registry.register(Box::new(samples.clone()))?;
        Ok(Self { rows, customers, samples })
    }

    /// Counts one sample.
    pub(super) fn verified(&self, verified: &SampleStats) {
        for table in TABLES {
            let rows = verified.rows.get(table).copied().unwrap_or_default();
            self.rows.with_label_values(&[table]).set(i64::try_from(rows).unwrap_or(i64::MAX));
        }
        self.customers.with_label_values(&["compared"]).inc_by(verified.customers);
        self.customers.with_label_values(&["failed"]).inc_by(verified.failed);
        self.samples.inc();
    }
}
