//! Missing answers: finds out whether the server is still running our statement or has vanished.
//!
//! A client that stops waiting for a statement leaves it running on the server. Session timeouts end most of these
//! statements. A commit's wait for a synchronous standby has no timeout, and must not be cancelled: the rows would
//! become visible before they are safe, and a second delivery of the same event would be acknowledged. So a connection
//! keeps its place in the pool until the server has answered, and the pool size limits the number of abandoned
//! statements. A host that vanished never answers; then a second connection finds that no statement is running.

use std::pin::pin;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::address::Address;
use super::connection::{Connection, connect};
use super::pool::Pool;
use super::session::Session;

/// Time after which an abandoned statement without an answer is looked up on the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Minimum running time: a younger statement cannot be the one that is waited for.
const AGE: Duration = Duration::from_secs(20);

/// Timeout for connecting and asking.
const LIMIT: Duration = Duration::from_secs(5);

/// Statements that the server is running for us, in all sessions of this role in this database.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RunningStatements {
    /// Number of unanswered statements.
    pub(super) statements: i64,
    /// PostgreSQL's wait events of these statements; empty if they do not wait.
    pub(super) waits: String,
}

impl RunningStatements {
    /// Finds the statements that have run for at least `age`.
    pub(super) async fn for_at_least(conn: &mut Connection, age: Duration) -> Result<Self, sqlx::Error> {
        let mut tx = conn.begin().await?;
        // only the login role sees all of its sessions; the tables' owner, to which the session has changed, does not
        sqlx::raw_sql("-- database.as_login\nSET LOCAL ROLE NONE").execute(&mut *tx).await?;
        let row = sqlx::query(
            "-- database.running_statements
            SELECT count(*), coalesce(string_agg(DISTINCT wait_event, ', '), '')
            FROM pg_stat_activity
            WHERE datname = current_database() AND usename = session_user
                AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()
                AND state = 'active' AND query_start <= clock_timestamp() - $1::float8 * interval '1 second'",
        )
        .bind(age.as_secs_f64())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Self { statements: row.try_get(0)?, waits: row.try_get(1)? })
    }

    /// Asks over a separate connection; `None` if the server cannot be asked.
    async fn query(address: &Address) -> Option<Self> {
        let answer = async {
            let mut conn = connect(address, Session::OPS).await?;
            let working = Self::for_at_least(&mut conn, AGE).await;
            let _ = conn.close().await;
            working
        };
        timeout(LIMIT, answer).await.ok()?.ok()
    }
}

/// Waits until the server has answered everything sent on a connection that is returning to the pool. False if the
/// connection is lost, or the server is running no statement of ours, so that no answer can come. A server that cannot
/// be asked counts as running none: its sessions end with it, or by their keepalive.
///
/// `turn` belongs to the pool: at most one of its connections asks at a time.
pub(super) async fn is_answered(conn: &mut PgConnection, address: &Address, turn: &Mutex<()>) -> bool {
    // hidden in sqlx's documentation; unlike `ping` it costs nothing where no answer is outstanding
    let mut answer = pin!(conn.flush());
    loop {
        if let Ok(answered) = timeout(ANSWER_TIMEOUT, answer.as_mut()).await {
            return answered.is_ok();
        }
        let _turn = turn.lock().await;
        if RunningStatements::query(address).await.is_none_or(|working| working.statements == 0) {
            tracing::warn!("closing an unanswered database connection: the server runs no statement for it");
            return false;
        }
    }
}

/// Returns the result of `work`, however long it takes; asks the server each time `limit` passes. `None` if the server
/// is running no statement of ours, or cannot be asked: then `work` is dropped, with its connection.
pub async fn until_answered<T>(pool: &Pool, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        if let Ok(done) = timeout(limit, work.as_mut()).await {
            return Some(done);
        }
        match RunningStatements::query(&pool.address()).await {
            Some(working) if working.statements > 0 => {
                let seconds = limit.as_secs();
                tracing::warn!(waits = working.waits, "a statement has been running for more than {seconds} s");
            }
            _ => return None,
        }
    }
}
