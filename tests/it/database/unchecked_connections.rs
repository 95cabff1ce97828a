//! Pools return a connection without a check soon after its last use.

use std::time::Duration;

use billing_sync::database::{self, Connection, Idle, Pool, Session};
use sqlx::ConnectOptions;

use super::harness::{number, until};
use crate::support::cluster::{self, TestDatabase};

/// A pool of one connection, which is checked if it was unused for longer than `unchecked`.
fn pool(database: &TestDatabase, unchecked: Duration) -> Pool {
    let limit = Duration::from_secs(10);
    database::pool_with(&database.options, Session::BACKGROUND, 1, limit, Idle::Kept, unchecked)
}

#[tokio::test]
async fn a_connection_is_unchecked_only_soon_after_its_last_use() {
    let database = cluster::database().await;
    let mut other = Connection::from(database.options.connect().await.unwrap());
    for (unchecked, is_alive) in [(Duration::from_hours(1), false), (Duration::ZERO, true)] {
        let pool = pool(&database, unchecked);
        let mut conn = pool.acquire().await.unwrap();
        let pid = number(&mut conn, "SELECT pg_backend_pid()::bigint").await;
        drop(conn);
        while pool.num_idle() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        until(&mut other, &format!("SELECT pg_terminate_backend({pid})::int::bigint")).await;
        until(&mut other, &format!("SELECT (count(*) = 0)::int::bigint FROM pg_stat_activity WHERE pid = {pid}")).await;
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(sqlx::raw_sql("SELECT 1").execute(&mut conn).await.is_ok(), is_alive, "unchecked for {unchecked:?}");
    }
}
