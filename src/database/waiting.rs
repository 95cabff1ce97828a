//! Answers that do not come: does the server still work on a statement of ours, or has it vanished?
//!
//! Who stops waiting for a statement leaves it behind on the server. Time-outs of the session end most of them there. The
//! wait of a commit for a synchronous standby has no time-out, and must not be cancelled: the rows would become visible
//! before they are safe, and a second delivery of the same event would be acknowledged. So a connection keeps its place in
//! the pool until the server has answered, and the size of the pool bounds what is left behind. A host that vanished
//! without a word never answers; a second connection finds out that nobody works there any more.

use std::pin::pin;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Session, connect};

/// How long the answer to a statement may take that nobody waits for any more, before the server is asked about it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A statement that the server has worked on for less is too young to be the one that is waited for.
const AGE: Duration = Duration::from_secs(20);

/// Time to connect and to ask.
const LIMIT: Duration = Duration::from_secs(5);

/// What the server works on for us, in all sessions of this role in this database.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Working {
    /// Statements that are not answered.
    pub(super) statements: i64,
    /// What they wait for, by PostgreSQL's names of wait events; empty where they do not wait.
    pub(super) waits: String,
}

impl Working {
    /// The statements that are at least so old. `conn` is good for nothing else after this.
    pub(super) async fn for_at_least(conn: &mut PgConnection, age: Duration) -> Result<Self, sqlx::Error> {
        // only who logged in sees all of its sessions, and not the owner of the tables that it works as
        sqlx::raw_sql("-- database.as_login\nSET ROLE NONE").execute(&mut *conn).await?;
        let row = sqlx::query(
            "-- database.working
            SELECT count(*), coalesce(string_agg(DISTINCT wait_event, ', '), '')
            FROM pg_stat_activity
            WHERE datname = current_database() AND usename = session_user
                AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()
                AND state = 'active' AND query_start <= clock_timestamp() - $1::float8 * interval '1 second'",
        )
        .bind(age.as_secs_f64())
        .fetch_one(conn)
        .await?;
        Ok(Self { statements: row.try_get(0)?, waits: row.try_get(1)? })
    }

    /// The same by a connection of its own; `None` where the server cannot be asked.
    async fn ask(options: &PgConnectOptions) -> Option<Self> {
        let asked = async {
            let mut conn = connect(options, Session::OPS).await?;
            let working = Self::for_at_least(&mut conn, AGE).await;
            let _ = conn.close().await;
            working
        };
        timeout(LIMIT, asked).await.ok()?.ok()
    }
}

/// Waits until the server has answered everything that was sent on a connection on its way back to the pool. False where
/// the connection is lost, or the server works on nothing for us any more, so that no answer can come. A server that cannot
/// be asked counts as such: its sessions end with it, or by their keepalive.
///
/// `turn` belongs to the pool: at most one of its connections asks at a time.
pub(super) async fn is_answered(conn: &mut PgConnection, options: &PgConnectOptions, turn: &Mutex<()>) -> bool {
    // hidden in sqlx's documentation; unlike `ping` it costs nothing where no answer is outstanding
    let mut answer = pin!(conn.flush());
    loop {
        if let Ok(answered) = timeout(PATIENCE, answer.as_mut()).await {
            return answered.is_ok();
        }
        let _turn = turn.lock().await;
        if Working::ask(options).await.is_none_or(|working| working.statements == 0) {
            tracing::warn!("a connection to the database is given up: the server works on nothing for us any more");
            return false;
        }
    }
}

/// The result of `work`, however long the server works on it; asks it each time `limit` passes. `None` where it works on
/// nothing for us, or cannot be asked: the connection is dropped then, and `work` with it.
pub async fn until_answered<T>(pool: &PgPool, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        if let Ok(done) = timeout(limit, work.as_mut()).await {
            return Some(done);
        }
        match Working::ask(&pool.connect_options()).await {
            Some(working) if working.statements > 0 => {
                let seconds = limit.as_secs();
                tracing::warn!(waits = working.waits, "the database needs more than {seconds} s for a statement");
            }
            _ => return None,
        }
    }
}
