//! What is no longer waited for here must not pile up on the server.

use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::support::cluster;
use crate::support::process::Server;

use super::harness::{Own, deliver, execute, number, until, until_ready_is};

/// Statements of ours that the server works on, or that wait there.
const AT_WORK: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'billing-sync' AND state = 'active'";

const QUICK: (&str, &str) = ("BILLING_SYNC_STORE_TIMEOUT", "1s");

/// The most statements that the server worked on at once while deliveries failed for so long.
async fn most_at_work(server: &Server, conn: &mut PgConnection, how_long: Duration) -> i64 {
    let (began, mut most, mut event) = (Instant::now(), 0, 100);
    while began.elapsed() < how_long {
        assert_eq!(deliver(server, event, 0).await, 503);
        event += 1;
        most = most.max(number(conn, AT_WORK).await);
    }
    assert!(event > 103, "only {} deliveries", event - 100);
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_lock_leaves_no_statements_behind() {
    let database = cluster::database().await;
    let mut conn = database.options.connect().await.unwrap();
    let mut holder = database.options.connect().await.unwrap();
    let server = Server::start(&database, "receiver", &[QUICK]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    let mut held = holder.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE billing.outbox").execute(&mut *held).await.unwrap();
    let most = most_at_work(&server, &mut conn, Duration::from_secs(8)).await;
    assert!(most <= 2, "{most} statements");
    // the server ends them itself, while the lock is still held
    until(&mut conn, &format!("SELECT (({AT_WORK}) = 0)::int::bigint")).await;
    held.rollback().await.unwrap();
    assert_eq!(deliver(&server, 2, 0).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_synchronous_standby_leaves_two_statements_of_a_part_behind_and_none_is_cancelled() {
    let mut own = Own::start(&[]).await;
    let server = Server::start_on(&own.cluster.url(), "receiver", &[QUICK]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    assert_eq!(server.ask("/readyz").await.status, 200);
    own.set("synchronous_standby_names", "nowhere").await;
    let most = most_at_work(&server, &mut own.conn, Duration::from_secs(12)).await;
    assert!((1..=2).contains(&most), "{most} statements");
    // a row that no standby has is not visible, so that no second delivery of its event is acknowledged
    assert_eq!(number(&mut own.conn, "SELECT count(*) FROM billing.outbox").await, 1);
    let reason = until_ready_is(&server, 503).await;
    assert!(reason.contains("synchronous standby"), "{reason}");
    own.set("synchronous_standby_names", "").await;
    until(&mut own.conn, &format!("SELECT (({AT_WORK}) = 0)::int::bigint")).await;
    assert_eq!(deliver(&server, 2, 0).await, 200);
    until_ready_is(&server, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waits_for_a_synchronous_standby_goes_on_when_it_is_back() {
    let mut own = Own::start(&[]).await;
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
