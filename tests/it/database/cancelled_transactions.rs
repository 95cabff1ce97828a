//! A future dropped during a transaction leaves no open transaction or lock to the next user of its connection.

use std::future::Future;
use std::time::Duration;

use billing_sync::database::{self, Connection, Pool, Session, SessionRole};
use sqlx::ConnectOptions;
use tokio::time::timeout;

use super::harness::{execute, number};
use crate::support::cluster;

const SESSION: Session = Session {
    statement: Duration::from_secs(10),
    lock: Duration::from_secs(2),
    idle_in_transaction: Duration::from_mins(1),
    role: SessionRole::Owner,
};

/// Drops `work` if it has not ended within `limit`. Returns whether it has ended.
async fn run_until(limit: Duration, work: impl Future<Output = ()>) -> bool {
    timeout(limit, work).await.is_ok()
}

/// Commits a change. Each step is slow enough to be cancelled during it.
async fn change(pool: &Pool) {
    let mut tx = pool.begin_with("BEGIN; SELECT pg_sleep(0.03)").await.unwrap();
    sqlx::raw_sql("UPDATE public.counter SET cancelled = cancelled + 1; SELECT pg_sleep(0.03)")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// The first statement of a transaction fails in the message that begins it.
async fn fail(pool: &Pool) {
    let begun = pool.begin_with("BEGIN; SELECT pg_sleep(0.03); SELECT nothing_of_this_name()").await;
    assert!(begun.is_err());
}

/// At every point of cancellation: the next user's write is committed at once, and no lock remains.
#[tokio::test]
async fn a_cancelled_transaction_leaves_nothing_on_its_connection() {
    let database = cluster::database().await;
    let mut other = Connection::from(database.options.connect().await.unwrap());
    execute(&mut other, "CREATE TABLE public.counter AS SELECT 0::bigint AS cancelled, 0::bigint AS next").await;
    let pool = database::pool(&database.options, SESSION, 1, Duration::from_secs(5));
    let (mut next, mut ended) = (0, 0);
    for step in 0..30 {
        let limit = Duration::from_millis(step * 5);
        ended += i64::from(run_until(limit, change(&pool)).await);
        run_until(limit, fail(&pool)).await;
        sqlx::raw_sql("UPDATE public.counter SET next = next + 1").execute(&pool).await.unwrap();
        next += 1;
        assert_eq!(number(&mut other, "SELECT next FROM public.counter").await, next, "after {limit:?}");
    }
    let committed = number(&mut other, "SELECT cancelled FROM public.counter").await;
    assert!((1..30).contains(&ended) && committed >= ended, "{ended} ended, {committed} committed");
    // a connection with an open transaction is replaced
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(number(&mut other, open).await, 0);
}
