//! Pools: each part of a process has one, so that a busy part cannot keep another from working.
//!
//! A connection is set up when it is made, and checked each time before it is handed out. What the check refuses is
//! closed and replaced at once.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool};
use tokio::time::timeout;

use super::Session;

/// A server that does not answer a trivial question in this time has probably vanished: a new connection finds out, and
/// there is still time for it.
const CHECK_LIMIT: Duration = Duration::from_millis(500);

/// A pool that connects when it is first used, and again after every loss. Waits for a connection for `acquire_timeout`.
pub fn pool(options: &PgConnectOptions, session: Session, connections: u32, acquire_timeout: Duration) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(acquire_timeout)
        .after_connect(move |conn, _| Box::pin(async move { session.set_up(conn).await }))
        // the check below is a question of its own
        .test_before_acquire(false)
        .before_acquire(|conn, _| Box::pin(async move { Ok(check_connection(conn).await) }))
        .connect_lazy_with(options.clone())
}

/// Whether the connection is alive and leads to a server that takes writes now.
///
/// After a failover an old connection, or the pooler behind it, may lead to a server that is a standby since. There every
/// transaction is read-only, and a new connection may lead to the new primary.
pub async fn check_connection(conn: &mut PgConnection) -> bool {
    let asked = sqlx::query_scalar::<_, bool>(
        "-- database.takes_writes\nSELECT NOT current_setting('transaction_read_only')::boolean",
    )
    .fetch_one(conn);
    match timeout(CHECK_LIMIT, asked).await {
        Ok(Ok(takes_writes)) => {
            if !takes_writes {
                tracing::debug!("a connection leads to a read-only server and is replaced");
            }
            takes_writes
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection of the pool was lost and is replaced");
            false
        }
        Err(_) => {
            tracing::debug!("a connection of the pool does not answer and is replaced");
            false
        }
    }
}
