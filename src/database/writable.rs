//! Whether the database takes writes: not on a standby, not where transactions are read-only, not on a full disk.
//!
//! The disk is tried by a write: a row of a temporary table, whose file is emptied at each commit, so that the row has to
//! extend it. That leaves nothing behind, locks nothing and writes no WAL. Called by the ops listener, the metrics and
//! `doctor`.

use std::time::Duration;

use sqlx::{PgConnection, Row};

/// A commit that waits longer for its synchronous standby than a delivery may take.
const STANDBY_WAIT: Duration = Duration::from_secs(5);

/// SQLSTATE of a disk without space.
const DISK_FULL: &str = "53100";

/// One row in the file of a table of this session. `temp_tablespaces` would put it on another disk; to create the table must
/// not wait for a standby.
const WRITE: &str = "
-- database.write
SET temp_tablespaces = '';
SET synchronous_commit = local;
CREATE TEMPORARY TABLE IF NOT EXISTS billing_sync_write_check (written boolean) ON COMMIT DELETE ROWS;
INSERT INTO pg_temp.billing_sync_write_check VALUES (true);
";

/// A database that takes writes, and how far that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writable {
    /// A row was written.
    Written,
    /// The role may not create temporary tables, so that the disk was not tried.
    DiskUnchecked,
}

impl Writable {
    /// What is worth saying of it, if anything.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::Written => None,
            Self::DiskUnchecked => Some(
                "whether the disk is full is not checked, because the role may not create temporary tables (GRANT TEMPORARY \
                 ON DATABASE)",
            ),
        }
    }
}

/// Why nothing can be stored.
#[derive(Debug, thiserror::Error)]
pub enum NotWritable {
    /// It follows another server.
    #[error("the database is a standby, which takes no writes: promote it, or let DATABASE_URL lead to the primary")]
    Standby,
    /// Somebody wants no writes, for example a platform whose disk is nearly full.
    #[error(
        "the database takes no writes: default_transaction_read_only is on for the server, the database or the role; find \
         out why, and set it off"
    )]
    ReadOnly,
    /// 53100.
    #[error("the database's disk is full (53100): make room")]
    DiskFull,
    /// Commits of ours wait, and have for `STANDBY_WAIT`.
    #[error(
        "commits wait for a synchronous standby that does not answer: start it, or take it out of \
         synchronous_standby_names"
    )]
    NoStandby,
    /// Whatever else the database said.
    #[error("the database cannot be written to: {0}")]
    Failed(#[from] sqlx::Error),
}

/// Tries to write.
///
/// # Errors
/// With the reason why nothing can be written.
pub async fn check_writable(conn: &mut PgConnection) -> Result<Writable, NotWritable> {
    let found = sqlx::query(
        "-- database.read_only
        SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only')::boolean AS read_only,
            has_database_privilege(current_database(), 'TEMPORARY') AS may_try,
            EXISTS (
                SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND usename = session_user AND wait_event = 'SyncRep'
                    AND query_start < clock_timestamp() - $1::float8 * interval '1 second'
            ) AS waiting",
    )
    .bind(STANDBY_WAIT.as_secs_f64())
    .fetch_one(&mut *conn)
    .await?;
    if found.try_get("standby")? {
        return Err(NotWritable::Standby);
    }
    if found.try_get("read_only")? {
        return Err(NotWritable::ReadOnly);
    }
    if found.try_get("waiting")? {
        return Err(NotWritable::NoStandby);
    }
    if !found.try_get("may_try")? {
        return Ok(Writable::DiskUnchecked);
    }
    sqlx::raw_sql(WRITE).execute(conn).await.map_err(of_error)?;
    Ok(Writable::Written)
}

fn of_error(error: sqlx::Error) -> NotWritable {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if code.as_deref() == Some(DISK_FULL) { NotWritable::DiskFull } else { NotWritable::Failed(error) }
}
