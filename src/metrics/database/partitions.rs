//! The default partitions, which hold events of months without a partition of their own, and the months that have one.

use prometheus::{GaugeVec, Opts, Registry};
use time::OffsetDateTime;

use crate::database::Connection;

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
pub async fn default_partitions(conn: &mut Connection) -> Result<Vec<DefaultPartition>, sqlx::Error> {
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

/// Months of a table that have a partition of their own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PartitionMonths {
    /// The partitioned table.
    pub(super) table: String,
    /// Consecutive months with a partition, from the current one on: at most [`MOST_MONTHS`].
    pub(super) months: i64,
}

/// Maximum count of months: the current one, and those that maintenance creates ahead.
const MOST_MONTHS: i32 = 4;

/// The months of both tables. Looks the months up by name, so the cost does not grow with the number of partitions.
pub(super) async fn partition_months(conn: &mut Connection) -> Result<Vec<PartitionMonths>, sqlx::Error> {
    sqlx::query_as!(
        PartitionMonths,
        r#"
        -- metrics.partition_months
        SELECT parent AS "table!",
            coalesce(min(ahead) FILTER (WHERE NOT EXISTS (
                SELECT FROM pg_inherits AS inherits
                WHERE inherits.inhparent = format('billing.%I', parent)::regclass
                    AND inherits.inhrelid = to_regclass(format('billing.%I', parent || to_char(month, '_YYYY_MM')))
            )), $1)::bigint AS "months!"
        FROM unnest(ARRAY['events', 'outbox']) AS parent,
            generate_series(0, $1 - 1) AS ahead,
            LATERAL (
                SELECT date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + ahead * interval '1 month' AS month
            ) AS starts
        GROUP BY parent
        "#,
        MOST_MONTHS
    )
    .fetch_all(conn)
    .await
}

pub(super) fn set_partition_months(registry: &Registry, months: &[PartitionMonths]) -> Result<(), prometheus::Error> {
    let help = "Consecutive months, from the current one on, that have a partition of their own: 4 while the role \
                maintenance creates them, 3 for some hours after the first of a month. Events of a month without a \
                partition are stored in the default partition.";
    let gauges = GaugeVec::new(Opts::new("billing_sync_partition_months", help), &["table"])?;
    registry.register(Box::new(gauges.clone()))?;
    for of_table in months {
        #[expect(clippy::cast_precision_loss, reason = "at most MOST_MONTHS")]
        gauges.with_label_values(&[&of_table.table]).set(of_table.months as f64);
    }
    Ok(())
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
