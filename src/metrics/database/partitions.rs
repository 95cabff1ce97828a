//! The default partitions: events of months that have no partition of their own.

use prometheus::{GaugeVec, Opts, Registry};
use sqlx::PgConnection;
use time::OffsetDateTime;

/// Maximum count of the rows of a default partition.
pub const MOST_ROWS: i64 = 1000;

/// A default partition.
#[derive(Debug, Clone, PartialEq)]
pub struct DefaultPartition {
    /// Its name in the schema `billing`.
    pub name: String,
    /// Its size on disk in bytes, without indexes.
    pub bytes: i64,
    /// Number of its rows, exact below [`MOST_ROWS`].
    pub rows: i64,
    /// Creation time of its oldest event; `None` if it is empty.
    pub oldest: Option<OffsetDateTime>,
    /// Creation time of its newest event; `None` if it is empty.
    pub newest: Option<OffsetDateTime>,
    /// Whether it is being split by month.
    pub is_splitting: bool,
}

/// Both default partitions. Costs some index look-ups.
///
/// # Errors
/// Database errors.
pub async fn default_partitions(conn: &mut PgConnection) -> Result<Vec<DefaultPartition>, sqlx::Error> {
    sqlx::query_as!(
        DefaultPartition,
        r#"
        -- metrics.default_partitions
        SELECT 'events_default' AS "name!",
            pg_table_size('billing.events_default') AS "bytes!",
            (SELECT count(*) FROM (SELECT FROM billing.events_default LIMIT $1) AS counted) AS "rows!",
            (SELECT min(created) FROM billing.events_default) AS oldest,
            (SELECT max(created) FROM billing.events_default) AS newest,
            to_regclass('billing.events_split') IS NOT NULL AS "is_splitting!"
        UNION ALL
        SELECT 'outbox_default',
            pg_table_size('billing.outbox_default'),
            (SELECT count(*) FROM (SELECT FROM billing.outbox_default LIMIT $1) AS counted),
            (SELECT min(created) FROM billing.outbox_default),
            (SELECT max(created) FROM billing.outbox_default),
            to_regclass('billing.outbox_split') IS NOT NULL
        "#,
        MOST_ROWS
    )
    .fetch_all(conn)
    .await
}

pub(super) fn set_default_partitions(
    registry: &Registry,
    partitions: &[DefaultPartition],
) -> Result<(), prometheus::Error> {
    let help = "Size in bytes of a default partition, which holds events of months without a partition of their own.";
    let gauges = GaugeVec::new(Opts::new("billing_sync_default_partition_bytes", help), &["table"])?;
    registry.register(Box::new(gauges.clone()))?;
    for partition in partitions {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
        gauges.with_label_values(&[&partition.name]).set(partition.bytes as f64);
    }
    Ok(())
}
