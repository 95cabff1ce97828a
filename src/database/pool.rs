//! Pools: each part of a process has one, so that a busy part cannot keep another from working.
//!
//! A connection is set up when it is made, and checked before it is handed out: what the check refuses, as what is still in
//! a transaction, is closed and replaced at once. A pool may leave the check out for connections that have just been used.
//! A connection comes back only when the server has answered all that was sent on it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgExecutor, PgPool, Row};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Session;
use super::shortage::Shortage;
use super::waiting::is_answered;

/// A server that does not answer a trivial question in this time has probably vanished, and a new connection finds out.
const CHECK_LIMIT: Duration = Duration::from_secs(1);

/// What a pool does with connections that it does not use.
#[derive(Debug, Clone)]
pub enum Idle {
    /// Closes them after some minutes.
    Closed,
    /// Keeps them: another session could take the place of one that is closed.
    Kept,
    /// Closes them after some minutes, and in a shortage at once.
    GivenUp(Shortage),
}

/// A pool that connects when it is first used, and again after every loss. Waits for a connection for `acquire_timeout`.
pub fn pool(options: &PgConnectOptions, session: Session, connections: u32, acquire_timeout: Duration) -> PgPool {
    pool_with(options, session, connections, acquire_timeout, Idle::Closed, Duration::ZERO)
}

/// The same, with a choice of what becomes of idle connections, and of how soon after its last use a connection is handed out
/// without the check. That is for users that send no `BEGIN` and repeat a statement whose connection was lost.
pub fn pool_with(
    options: &PgConnectOptions,
    session: Session,
    connections: u32,
    acquire_timeout: Duration,
    idle: Idle,
    unchecked: Duration,
) -> PgPool {
    // so that there is as much time for the new connection
    let check_limit = CHECK_LIMIT.min(acquire_timeout / 2);
    let (asked, turn) = (Arc::new(options.clone()), Arc::new(Mutex::new(())));
    let mut pool = PgPoolOptions::new();
    if matches!(idle, Idle::Kept) {
        pool = pool.idle_timeout(None).max_lifetime(None);
    }
    let shortage = if let Idle::GivenUp(shortage) = idle { shortage } else { Shortage::default() };
    pool.max_connections(connections)
        .acquire_timeout(acquire_timeout)
        .after_connect(move |conn, _| Box::pin(async move { session.set_up(conn).await }))
        // the check below is a question of its own
        .test_before_acquire(false)
        .before_acquire(move |conn, known| {
            Box::pin(async move { Ok(known.idle_for < unchecked || is_usable(conn, check_limit).await) })
        })
        .after_release(move |conn, _| {
            let (asked, turn, shortage) = (Arc::clone(&asked), Arc::clone(&turn), shortage.clone());
            Box::pin(async move { Ok(is_answered(conn, &asked, &turn).await && !shortage.is_on()) })
        })
        .connect_lazy_with(options.clone())
}

/// Whether the connection is alive, leads to a server that takes writes now, and is in no transaction; asks for `limit`
/// at most.
///
/// After a failover an old connection, or the pooler behind it, may lead to a server that is a standby since. There every
/// transaction is read-only, and a new connection may lead to the new primary.
///
/// A `BEGIN` that was cut off leaves its connection in a transaction that sqlx 0.9.0 does not know of
/// (<https://github.com/transact-rs/sqlx/issues/4393>). What the next user writes there would be committed by no one. As
/// one message of the simple protocol, the question begins the transaction that it runs in, unless there was one before.
pub async fn is_usable<'c>(conn: impl PgExecutor<'c>, limit: Duration) -> bool {
    let asked = sqlx::raw_sql(
        "-- database.is_usable
        SELECT NOT current_setting('transaction_read_only')::boolean, now() = statement_timestamp()",
    )
    .fetch_one(conn);
    let answer = async { asked.await.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?))) };
    let refused = match timeout(limit, answer).await {
        Ok(Ok((true, true))) => return true,
        Ok(Ok((true, false))) => "it is in a transaction that was cut off as it began".to_owned(),
        Ok(Ok((false, _))) => "it is read-only".to_owned(),
        Ok(Err(error)) => format!("it is lost: {error}"),
        Err(_) => "it does not answer".to_owned(),
    };
    tracing::debug!(reason = refused, "a connection of the pool is replaced");
    false
}
