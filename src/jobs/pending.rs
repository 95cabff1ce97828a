//! Counts the reads that are queued, for the progress of a backfill.

use crate::database::Connection;

/// The reads that are queued and not done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PendingReads {
    /// Their number.
    pub left: u64,
    /// Number of those that failed and wait for a retry.
    pub failing: u64,
    /// Their objects, as type and id, and the errors; at most a hundred.
    pub failures: Vec<(String, String)>,
}

/// The reads that are left.
///
/// # Errors
/// Database errors.
pub async fn pending_reads(conn: &mut Connection) -> Result<PendingReads, sqlx::Error> {
    let counts = sqlx::query!(
        r#"-- jobs.pending_reads
        SELECT count(*) AS "left!", count(last_error) AS "failing!" FROM billing.jobs WHERE kind IN ('fetch', 'confirm')"#
    )
    .fetch_one(&mut *conn)
    .await?;
    let failures = sqlx::query!(
        r#"-- jobs.failing_reads
        SELECT concat_ws(' ', object_type, object_id) AS "object!", last_error AS "error!"
        FROM billing.jobs WHERE kind IN ('fetch', 'confirm') AND last_error IS NOT NULL
        ORDER BY kind, account, object_type, object_id
        LIMIT 100"#
    )
    .fetch_all(conn)
    .await?;
    Ok(PendingReads {
        left: u64::try_from(counts.left).unwrap_or_default(),
        failing: u64::try_from(counts.failing).unwrap_or_default(),
        failures: failures.into_iter().map(|row| (row.object, row.error)).collect(),
    })
}
