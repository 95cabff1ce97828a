//! Statements whose results the process no longer awaits must not accumulate on the server.

use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use sqlx::ConnectOptions;

use super::harness::{OwnServer, deliver, execute, number, until, until_ready_is};
use crate::support::cluster;
use crate::support::process::Server;

/// Number of running or waiting statements of the process.
const RUNNING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'billing-sync%' AND state = 'active'";

const QUICK: (&str, &str) = ("BILLING_SYNC_STORE_TIMEOUT", "1s");

/// Delivers events, which must fail, for the given time. Returns the maximum number of concurrent statements.
async fn most_running(server: &Server, conn: &mut Connection, how_long: Duration) -> i64 {
    let (began, mut most, mut event) = (Instant::now(), 0, 100);
    while began.elapsed() < how_long {
        assert_eq!(deliver(server, event, 0).await, 503);
        event += 1;
        most = most.max(number(conn, RUNNING).await);
    }
    assert!(event > 103, "only {} deliveries", event - 100);
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_lock_leaves_no_statements_behind() {
    let database = cluster::database().await;
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    let mut holder = Connection::from(database.options.connect().await.unwrap());
    let server = Server::start(&database, "receiver", &[QUICK]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    let mut held = holder.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE billing.outbox").execute(&mut *held).await.unwrap();
    let most = most_running(&server, &mut conn, Duration::from_secs(8)).await;
    assert!(most <= 2, "{most} statements");
    // the server ends the statements itself, while the lock is still held
    until(&mut conn, &format!("SELECT (({RUNNING}) = 0)::int::bigint")).await;
    held.rollback().await.unwrap();
    assert_eq!(deliver(&server, 2, 0).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_standby_leaves_at_most_two_statements_uncancelled() {
    let mut own = OwnServer::start(&[]).await;
    let server = Server::start_on(&own.cluster.url(), "receiver", &[QUICK]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    assert_eq!(server.ask("/readyz").await.status, 200);
    own.set("synchronous_standby_names", "nowhere").await;
    let most = most_running(&server, &mut own.conn, Duration::from_secs(12)).await;
    assert!((1..=2).contains(&most), "{most} statements");
    // a row that no standby has is not visible, so a second delivery of its event is not acknowledged
    assert_eq!(number(&mut own.conn, "SELECT count(*) FROM billing.outbox").await, 1);
    let reason = until_ready_is(&server, 503).await;
    assert!(reason.contains("synchronous standby"), "{reason}");
    own.set("synchronous_standby_names", "").await;
    until(&mut own.conn, &format!("SELECT (({RUNNING}) = 0)::int::bigint")).await;
    assert_eq!(deliver(&server, 2, 0).await, 200);
    until_ready_is(&server, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_resumes_when_the_synchronous_standby_is_back() {
    let mut own = OwnServer::start(&[]).await;
    let url = own.cluster.url();
    let server = Server::start_on(&url, "receiver,worker,renewals", &[QUICK]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    until(&mut own.conn, "SELECT count(*) FROM billing.outbox WHERE state = 'done'").await;
    execute(&mut own.conn, "UPDATE billing.outbox SET state = 'pending', outcome = NULL, finished_at = NULL").await;
    own.set("synchronous_standby_names", "nowhere").await;
    until(&mut own.conn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await;
    own.set("synchronous_standby_names", "").await;
    until(&mut own.conn, "SELECT (count(*) = 0)::int::bigint FROM billing.outbox WHERE state = 'pending'").await;
}
