//! Metrics of the retention.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::families::{counter, counters, gauge};

/// What the retention of this process removed, and what it had to leave.
#[derive(Debug, Clone)]
pub struct RetentionMetrics {
    dropped: IntCounterVec,
    deleted: IntCounterVec,
    redacted: IntCounter,
    failed: IntCounter,
    overdue: IntGauge,
}

impl RetentionMetrics {
    /// Declares the metrics.
    ///
    /// # Errors
    /// When a metric is declared twice.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let dropped = counters(
            registry,
            "billing_sync_retention_dropped_months_total",
            "Monthly partitions that were dropped, because all their events were older than BILLING_SYNC_RETENTION, by \
             table.",
            "table",
            ["events", "outbox"],
        )?;
        let deleted = counters(
            registry,
            "billing_sync_retention_deleted_rows_total",
            "Rows that were deleted, because they were older than BILLING_SYNC_RETENTION, by table. Those of outbox are \
             events of months without a partition.",
            "table",
            ["outbox", "row_changes", "reads"],
        )?;
        let redacted = counter(
            registry,
            "billing_sync_redacted_rows_total",
            "Events and changes of rows from which redaction by `serve` removed personal data.",
        )?;
        let failed = counter(
            registry,
            "billing_sync_retention_failures_total",
            "Rounds of the retention or of the redaction that failed; the next one continues.",
        )?;
        let overdue = gauge(
            registry,
            "billing_sync_retention_overdue_months",
            "Months that are older than BILLING_SYNC_RETENTION and still stored after the last round, because they have \
             pending or dead events, or because other sessions used the table.",
        )?;
        Ok(Self { dropped, deleted, redacted, failed, overdue })
    }

    /// Counts a dropped month of a table.
    pub fn dropped(&self, table: &str) {
        self.dropped.with_label_values(&[table]).inc();
    }

    /// Counts deleted rows of a table.
    pub fn deleted(&self, table: &str, rows: u64) {
        self.deleted.with_label_values(&[table]).inc_by(rows);
    }

    /// Counts redacted events and changes of rows.
    pub fn redacted(&self, rows: u64) {
        self.redacted.inc_by(rows);
    }

    /// Counts a failed round.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// Sets the number of months that a round left.
    pub fn overdue(&self, months: usize) {
        self.overdue.set(i64::try_from(months).unwrap_or(i64::MAX));
    }
}
