//! The SQL of the retention. The functions that it calls are in `migrations/0017_retention.sql`.

use std::time::Duration;

use time::{Date, OffsetDateTime};

use crate::base::interval::interval;
use crate::database::Connection;
use crate::outbox::partitions::Parent;

/// Rows of one statement: some tens of milliseconds.
const AT_ONCE: i64 = 5000;

/// A month of the archive and the queue that is older than the retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// Its first day.
    pub month: Date,
    /// Whether a pending event keeps it.
    pub has_pending: bool,
    /// Whether a dead event keeps it.
    pub has_dead: bool,
}

impl Month {
    /// Whether an event keeps it that is not finished.
    pub fn is_kept(&self) -> bool {
        self.has_pending || self.has_dead
    }
}

/// A table that loses its oldest rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// `billing.row_changes`.
    RowChanges,
    /// `billing.reads`.
    Reads,
}

impl History {
    /// Both tables.
    pub const ALL: [Self; 2] = [Self::RowChanges, Self::Reads];

    /// The name of the table in the schema `billing`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RowChanges => "row_changes",
            Self::Reads => "reads",
        }
    }
}

/// What is older than this time is removed; `None` if nothing is.
///
/// # Errors
/// Database errors.
pub(super) async fn cutoff(conn: &mut Connection, retention: Duration) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- retention.cutoff
        SELECT billing.retention_cutoff($1)",
        interval(retention)
    )
    .fetch_one(conn)
    .await
}

/// The months before the cutoff that still exist, the oldest first.
///
/// # Errors
/// Database errors.
pub(super) async fn months(conn: &mut Connection, cutoff: OffsetDateTime) -> Result<Vec<Month>, sqlx::Error> {
    sqlx::query_as!(
        Month,
        r#"-- retention.months
        SELECT month AS "month!", pending AS "has_pending!", dead AS "has_dead!" FROM billing.expired_months($1)"#,
        cutoff
    )
    .fetch_all(conn)
    .await
}

/// Drops a month of a table; `false` if it does not exist, or must stay.
///
/// # Errors
/// Database errors, including a lock that was not available within half a second.
pub(super) async fn drop_month(conn: &mut Connection, parent: Parent, month: Date) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- retention.drop_month
        SELECT billing.drop_month($1, $2) AS "dropped!""#,
        parent.as_str(),
        month
    )
    .fetch_one(conn)
    .await
}

/// Deletes finished events in the default partitions. At most some thousand; returns the number.
///
/// # Errors
/// Database errors.
pub(super) async fn delete_events(conn: &mut Connection, cutoff: OffsetDateTime) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query!(
        "-- retention.delete_events
        WITH old AS MATERIALIZED (
            SELECT event_id, created FROM billing.outbox_default
            WHERE created < $1 AND state = 'done'
            ORDER BY created LIMIT $2 FOR UPDATE SKIP LOCKED
        ), archived AS (
            DELETE FROM billing.events AS e USING old WHERE e.event_id = old.event_id AND e.created = old.created
        )
        DELETE FROM billing.outbox_default AS o USING old WHERE o.event_id = old.event_id AND o.created = old.created",
        cutoff,
        AT_ONCE
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// Deletes the oldest rows of a history. At most some thousand; returns the number.
///
/// No row stays that was written before a deleted one: the API shows the history of a subscription from its last change
/// of the workspace on, and without that change the earlier ones would belong to the wrong workspace.
///
/// # Errors
/// Database errors.
pub(super) async fn delete_history(
    conn: &mut Connection,
    history: History,
    cutoff: OffsetDateTime,
) -> Result<u64, sqlx::Error> {
    let deleted = match history {
        History::RowChanges => {
            sqlx::query!(
                "-- retention.delete_row_changes
                WITH oldest AS MATERIALIZED (
                    SELECT id, changed_at FROM billing.row_changes ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
                ), kept AS (
                    SELECT min(id) AS id FROM oldest WHERE changed_at >= $1
                )
                DELETE FROM billing.row_changes AS c USING oldest, kept
                WHERE c.id = oldest.id AND (kept.id IS NULL OR c.id < kept.id)",
                cutoff,
                AT_ONCE
            )
            .execute(conn)
            .await?
        }
        History::Reads => {
            sqlx::query!(
                "-- retention.delete_reads
                WITH oldest AS MATERIALIZED (
                    SELECT id, read_at FROM billing.reads ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
                ), kept AS (
                    SELECT min(id) AS id FROM oldest WHERE read_at >= $1
                )
                DELETE FROM billing.reads AS r USING oldest, kept
                WHERE r.id = oldest.id AND (kept.id IS NULL OR r.id < kept.id)",
                cutoff,
                AT_ONCE
            )
            .execute(conn)
            .await?
        }
    };
    Ok(deleted.rows_affected())
}
