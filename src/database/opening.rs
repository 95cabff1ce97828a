//! Creates the connection pools: each part of a process has its own, so that a busy part cannot block another.
//!
//! A connection is set up when it is opened, and checked before each use: one that fails the check, for example because
//! it is still in a transaction, is closed and replaced at once. A pool may skip the check for connections used a
//! moment ago. A connection returns to the pool only after the server has answered everything sent on it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{PgExecutor, Row};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::address::{Address, Pooler};
use super::pool::Pool;
use super::session::Session;
use super::shortage::Shortage;
use super::sql_error::message;
use super::waiting::is_answered;

/// Timeout of the check. A server that does not answer in this time has probably vanished, and a new connection finds
/// out.
const CHECK_LIMIT: Duration = Duration::from_secs(1);

/// What a pool does with idle connections.
#[derive(Debug, Clone)]
pub enum Idle {
    /// Closes them after a few minutes.
    Closed,
    /// Keeps them, because another session could take the place of a closed one.
    Kept,
    /// Closes them after a few minutes, and at once in a shortage.
    GivenUp(Shortage),
}

/// Creates a pool that connects on first use and reconnects after a loss. Waits for a connection for `acquire_timeout`.
pub fn pool(address: impl Into<Address>, session: Session, connections: u32, acquire_timeout: Duration) -> Pool {
    pool_with(address, session, connections, acquire_timeout, Idle::Closed, Duration::ZERO)
}

/// Like [`pool`], with a policy for idle connections, and a time after the last use within which a connection is not
/// checked. The latter is for callers that send no `BEGIN` and repeat a statement whose connection was lost.
pub fn pool_with(
    address: impl Into<Address>,
    session: Session,
    connections: u32,
    acquire_timeout: Duration,
    idle: Idle,
    unchecked: Duration,
) -> Pool {
    let address = address.into();
    let (pooler, options) = (address.pooler, address.options.clone());
    // each use of a connection sends BEGIN there
    let unchecked = if pooler == Pooler::Transaction { Duration::ZERO } else { unchecked };
    // leaves the same time for the new connection
    let check_limit = CHECK_LIMIT.min(acquire_timeout / 2);
    let (address, turn) = (Arc::new(address), Arc::new(Mutex::new(())));
    let mut pool = PgPoolOptions::new();
    if matches!(idle, Idle::Kept) {
        pool = pool.idle_timeout(None).max_lifetime(None);
    }
    let shortage = if let Idle::GivenUp(shortage) = idle { shortage } else { Shortage::default() };
    let inner = pool
        .max_connections(connections)
        .acquire_timeout(acquire_timeout)
        .after_connect(move |conn, _| Box::pin(async move { session.set_up(conn, pooler).await }))
        // the check below replaces it
        .test_before_acquire(false)
        .before_acquire(move |conn, known| {
            Box::pin(async move { Ok(known.idle_for < unchecked || is_usable(conn, check_limit).await) })
        })
        .after_release(move |conn, _| {
            let (address, turn, shortage) = (Arc::clone(&address), Arc::clone(&turn), shortage.clone());
            Box::pin(async move {
                let is_kept = is_answered(conn, &address, &turn).await && !shortage.is_on();
                // in an open transaction an idle connection would keep a session of the pooler
                Ok(is_kept && (pooler == Pooler::Session || is_usable(conn, check_limit).await))
            })
        })
        .connect_lazy_with(options);
    Pool::new(inner, pooler, session)
}

/// Whether the connection is alive, its server accepts writes now, and it is not in a transaction. Waits for at most
/// `limit`.
///
/// After a failover an old connection, or the pooler behind it, may lead to a server that has become a standby. There
/// every transaction is read-only, and a new connection may lead to the new primary.
///
/// A cancelled `BEGIN` leaves its connection in a transaction that sqlx 0.9.0 does not know of
/// (<https://github.com/transact-rs/sqlx/issues/4393>). The next user's writes would never be committed. The query is
/// one message of the simple protocol, so it starts the transaction that it runs in, unless there was one before.
pub async fn is_usable<'c>(conn: impl PgExecutor<'c>, limit: Duration) -> bool {
    let query = sqlx::raw_sql(
        "-- database.is_usable
        SELECT NOT pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool,
            pg_catalog.now() OPERATOR(pg_catalog.=) pg_catalog.statement_timestamp()",
    )
    .fetch_one(conn);
    let answer = async { query.await.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?))) };
    let refused = match timeout(limit, answer).await {
        Ok(Ok((true, true))) => return true,
        Ok(Ok((true, false))) => "it is in a transaction whose BEGIN was cancelled".to_owned(),
        Ok(Ok((false, _))) => "it is read-only".to_owned(),
        Ok(Err(error)) => format!("it is lost: {}", message(&error)),
        Err(_) => "it does not answer".to_owned(),
    };
    tracing::debug!(reason = refused, "replacing a connection of the pool");
    false
}
