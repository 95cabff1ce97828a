//! Whether a pooler that shares connections by transaction stands between us and the server.
//!
//! Behind one, statements of a session reach several backends, or several sessions reach one backend. Session settings,
//! LISTEN, advisory locks and prepared statements do not survive that, and fail much later and elsewhere. So it is found
//! out first: two sessions that are open at the same time have a backend each, and keep it, unless it is so.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::time::timeout;

/// The second session must not hold anything up: a session-mode pooler may have only one connection to give.
const LIMIT: Duration = Duration::from_secs(2);
/// Rounds of a question to each session: other clients of the pooler may take a backend between two of them.
const ROUNDS: usize = 5;

/// What to do about it.
pub const FIX: &str = "give DATABASE_URL a direct connection, or the pooler's port or pool in session mode (pgbouncer: \
                       pool_mode = session; Supabase: port 5432 instead of 6543; Neon: the host without -pooler)";

/// Whether sessions share their backends. `false` also where that cannot be found out: what follows will say why.
pub async fn shares_sessions(options: &PgConnectOptions) -> bool {
    match timeout(LIMIT, compare(options)).await {
        Ok(Ok(shared)) => shared,
        Ok(Err(error)) => {
            tracing::debug!(%error, "whether a pooler shares sessions cannot be found out");
            false
        }
        Err(_) => {
            tracing::debug!("whether a pooler shares sessions cannot be found out in time");
            false
        }
    }
}

/// Both sessions stay open to the end, outside of transactions.
async fn compare(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let (mut first, mut second) = (options.connect().await?, options.connect().await?);
    let (mut of_first, mut of_second) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        of_first.insert(backend(&mut first).await?);
        of_second.insert(backend(&mut second).await?);
    }
    // a pooler takes a polite end for an end of the session only
    let (_, _) = (first.close().await, second.close().await);
    Ok(of_first.len() > 1 || of_second.len() > 1 || !of_first.is_disjoint(&of_second))
}

/// Which process of the server answers, and since when it has run. Without a prepared statement, of which another
/// session behind the pooler may have one by the same name.
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
