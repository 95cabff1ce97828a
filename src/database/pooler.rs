//! Detects a pooler between billing-sync and the server that shares sessions, although it is not declared.
//!
//! Behind such a pooler, statements of a session reach several backends, or several sessions reach one backend. Session
//! settings, LISTEN, advisory locks and prepared statements do not survive that, and the errors appear much later and
//! elsewhere. So it is detected at the start: without such a pooler, two concurrent sessions have one backend each and
//! keep it.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::time::timeout;

use super::address::{Address, Pooler};

/// SQLSTATE of a message that the other side does not allow.
const PROTOCOL_VIOLATION: &str = "08P01";

/// Timeout for the second session, because a session-mode pooler may have only one connection.
const LIMIT: Duration = Duration::from_secs(2);
/// Number of queries to each session. Several, because other clients of the pooler may take a backend between two
/// queries.
const ROUNDS: usize = 5;

/// The fix.
pub const FIX: &str = "set BILLING_SYNC_POOLER=transaction if the pooler is in transaction mode; or give DATABASE_URL a \
                       direct connection, or the pooler's port or pool in session mode (pgbouncer: pool_mode = \
                       session; Supabase: port 5432 instead of 6543; Neon: the host without -pooler)";

/// What a pooler does that the settings do not say; `None` if they agree, or if that cannot be determined.
pub async fn contradiction(address: &Address) -> Option<&'static str> {
    match address.pooler {
        Pooler::Session => shares_sessions(&address.options).await.then_some(
            "a pooler in transaction or statement mode, which is not declared: it loses the settings, locks, \
             notifications and prepared statements of a session",
        ),
        Pooler::Transaction => refuses_transactions(&address.options)
            .await
            .then_some("a pooler in statement mode: it allows no transactions"),
    }
}

/// Whether BEGIN is a mistake of the protocol.
async fn refuses_transactions(options: &PgConnectOptions) -> bool {
    let attempt = async {
        let mut conn = options.connect().await?;
        let begun = sqlx::raw_sql("-- database.begin\nBEGIN").execute(&mut conn).await;
        let _ = conn.close().await;
        begun
    };
    let begun = timeout(LIMIT, attempt).await;
    let Ok(Err(sqlx::Error::Database(error))) = begun else { return false };
    error.code().as_deref() == Some(PROTOCOL_VIOLATION)
}

/// Whether sessions share their backends. Also `false` if that cannot be determined: a later step then reports the
/// cause.
async fn shares_sessions(options: &PgConnectOptions) -> bool {
    match timeout(LIMIT, compare(options)).await {
        Ok(Ok(shared)) => shared,
        Ok(Err(error)) => {
            tracing::debug!(%error, "could not check for a pooler between this process and the server");
            false
        }
        Err(_) => {
            tracing::debug!("timeout while checking for a pooler between this process and the server");
            false
        }
    }
}

/// Keeps both sessions open to the end, outside of transactions.
async fn compare(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let (mut first, mut second) = (options.connect().await?, options.connect().await?);
    let (mut of_first, mut of_second) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        of_first.insert(backend(&mut first).await?);
        of_second.insert(backend(&mut second).await?);
    }
    // a pooler treats a regular close as the end of the session only
    let (_, _) = (first.close().await, second.close().await);
    Ok(of_first.len() > 1 || of_second.len() > 1 || !of_first.is_disjoint(&of_second))
}

/// Process id and start time of the backend that answers. Without a prepared statement, because another session behind
/// the pooler may have one with the same name.
async fn backend(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    let row = sqlx::raw_sql(
        "-- database.backend
        SELECT pg_catalog.concat_ws(' ', pid, backend_start) FROM pg_catalog.pg_stat_activity
        WHERE pid = pg_catalog.pg_backend_pid()",
    )
    .fetch_one(conn)
    .await?;
    row.try_get(0)
}
