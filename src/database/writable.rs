//! Checks whether the database accepts writes: not if it is a standby, transactions are read-only, or the disk is full.
//!
//! The disk is tested by a write: a row of a temporary table whose file is emptied at each commit, so that the row must
//! extend the file. That leaves nothing behind, locks nothing and writes no WAL. Called by the ops listener, the
//! metrics and `doctor`.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};

use super::connection::Connection;
use super::sql_error::message;

/// A commit that waits longer for its synchronous standby exceeds the time for a delivery.
const STANDBY_WAIT: Duration = Duration::from_secs(5);

/// SQLSTATE of a disk without space.
const DISK_FULL: &str = "53100";

/// Writes one row to a temporary table. `temp_tablespaces` could put it on another disk; creating the table must not
/// wait for a standby.
const WRITE: &str = "
-- database.write
SET LOCAL temp_tablespaces = '';
SET LOCAL synchronous_commit = local;
CREATE TEMPORARY TABLE IF NOT EXISTS billing_sync_write_check (written boolean) ON COMMIT DELETE ROWS;
INSERT INTO pg_temp.billing_sync_write_check VALUES (true);
";

/// Removes the table from a session that others use next.
const FORGET: &str = "DROP TABLE pg_temp.billing_sync_write_check";

/// A database that accepts writes, and how that was tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writable {
    /// A row was written.
    Written,
    /// The role may not create temporary tables, so the disk was not tested.
    DiskUnchecked,
}

impl Writable {
    /// A note for the operator, if any.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::Written => None,
            Self::DiskUnchecked => Some(
                "free disk space is not checked, because the role may not create temporary tables (GRANT TEMPORARY \
                 ON DATABASE)",
            ),
        }
    }
}

/// Why nothing can be stored.
#[derive(Debug, thiserror::Error)]
pub enum NotWritable {
    /// The server is a standby.
    #[error("the database is a standby and accepts no writes: promote it, or set DATABASE_URL to the primary")]
    Standby,
    /// Writes are switched off, for example by a hosting platform whose disk is nearly full.
    #[error(
        "the database accepts no writes: default_transaction_read_only is on for the server, the database or the role; \
         find out why, and turn it off"
    )]
    ReadOnly,
    /// 53100.
    #[error("the database's disk is full (53100): free disk space")]
    DiskFull,
    /// Our commits have been waiting for longer than `STANDBY_WAIT`.
    #[error(
        "commits wait for a synchronous standby that does not answer: start it, or take it out of \
         synchronous_standby_names"
    )]
    NoStandby,
    /// Any other error of the database.
    #[error("the database cannot be written to: {}", message(.0))]
    Failed(#[from] sqlx::Error),
}

/// Tests a write.
///
/// # Errors
/// The reason why nothing can be written.
pub async fn check_writable(conn: &mut Connection) -> Result<Writable, NotWritable> {
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
    write(conn).await.map_err(of_error)?;
    Ok(Writable::Written)
}

async fn write(conn: &mut Connection) -> Result<(), sqlx::Error> {
    let forget = if conn.shares_session() { FORGET } else { "" };
    // several statements in one message are one transaction
    sqlx::raw_sql(AssertSqlSafe(format!("{WRITE}{forget}"))).execute(conn).await.map(|_| ())
}

fn of_error(error: sqlx::Error) -> NotWritable {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if code.as_deref() == Some(DISK_FULL) { NotWritable::DiskFull } else { NotWritable::Failed(error) }
}
