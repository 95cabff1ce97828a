//! Crash-only: the real process is killed at the worst moments, and nothing is lost, repeated or stuck.

use std::time::Duration;

use billing_sync::database::{Connection, Pool};
use nix::sys::signal::Signal;

use crate::support::cluster::{TestDatabase, database_with_pool, number};
use crate::support::events::{customer, event};
use crate::support::process::Server;

const WORKER: &str = "receiver,worker";

/// Customers named `cus_slow` block the worker's transaction while the test holds an advisory lock, the gate.
const SLOW: &str = "
    CREATE FUNCTION public.wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON billing.billing_contacts
        FOR EACH ROW WHEN (NEW.stripe_customer_id = 'cus_slow') EXECUTE FUNCTION public.wait_at_the_gate()";

/// Number of sessions that wait at the gate.
const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Closes the gate until the connection is dropped.
async fn close_gate(pool: &Pool) -> Connection {
    sqlx::raw_sql(SLOW).execute(pool).await.unwrap();
    let mut gate = pool.acquire().await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_lock(42)").execute(&mut gate).await.unwrap();
    gate
}

async fn open_gate(gate: &mut Connection) {
    sqlx::raw_sql("SELECT pg_advisory_unlock(42)").execute(gate).await.unwrap();
}

/// Waits until the query returns a value other than 0.
async fn until(pool: &Pool, query: &'static str) {
    for _ in 0..3000 {
        if number(pool, query).await != 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never true: {query}");
}

/// Ends the sessions of a killed process, as the server does when it detects the closed socket.
async fn terminate_sessions(pool: &Pool) {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'billing-sync%'";
    number(pool, end).await;
    let gone = "SELECT (count(*) = 0)::int::bigint FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'billing-sync%'";
    until(pool, gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_event_survives_a_kill_right_after_the_answer() {
    let (database, pool) = database_with_pool().await;
    let server = std::sync::Arc::new(Server::start(&database, "receiver", &[]).await);
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0..10_000 {
                    let id = format!("evt_{sender}_{number}");
                    match server.deliver(&event(&id, "customer.created", 0, &customer("cus_1", "Ada"), None)).await {
                        Some(200) => acknowledged.push(id),
                        _ => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    until(&pool, "SELECT (count(*) > 50)::int::bigint FROM billing.outbox").await;
    server.signal(Signal::SIGKILL);
    let mut acknowledged = Vec::new();
    for sender in senders {
        acknowledged.extend(sender.await.unwrap());
    }
    assert!(acknowledged.len() > 40, "{} events were acknowledged", acknowledged.len());
    let stored = "SELECT count(*) FROM billing.outbox JOIN billing.events USING (event_id, created)
        WHERE event_id = ANY($1)";
    let stored: i64 = sqlx::query_scalar(stored).bind(&acknowledged).fetch_one(&pool).await.unwrap();
    assert_eq!(usize::try_from(stored).unwrap(), acknowledged.len());
}

async fn deliver_customers(server: &Server, ids: &[&str]) {
    for id in ids {
        let created = event(&format!("evt_{id}"), "customer.created", 0, &customer(id, "Ada"), None);
        assert_eq!(server.deliver(&created).await, Some(200));
    }
}

async fn fates(pool: &Pool) -> String {
    let query =
        "SELECT string_agg(event_id || ' ' || state || ' ' || attempts, ', ' ORDER BY event_id) FROM billing.outbox";
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

/// A server that received SIGTERM while it processed a batch.
async fn stopped_during_a_batch(database: &TestDatabase, pool: &Pool) -> Server {
    let mut server = Server::start(database, WORKER, &[]).await;
    deliver_customers(&server, &["cus_slow"]).await;
    until(pool, WAITING).await;
    server.signal(Signal::SIGTERM);
    server.log_line("stopping; finishing work in flight").await;
    server
}

#[tokio::test]
async fn sigterm_in_the_middle_of_a_batch_finishes_the_batch() {
    let (database, pool) = database_with_pool().await;
    let mut gate = close_gate(&pool).await;
    let server = stopped_during_a_batch(&database, &pool).await;
    open_gate(&mut gate).await;
    assert_eq!(server.ended().await, Some(0));
    assert_eq!(fates(&pool).await, "evt_cus_slow done 0");
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_the_next_start_resumes() {
    let (database, pool) = database_with_pool().await;
    let mut gate = close_gate(&pool).await;
    let server = stopped_during_a_batch(&database, &pool).await;
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await, Some(1));
    open_gate(&mut gate).await;
    terminate_sessions(&pool).await;
    let server = Server::start(&database, WORKER, &[]).await;
    until(&pool, "SELECT count(*) FROM billing.outbox WHERE state = 'done'").await;
    server.kill().await;
}

/// The effects of a batch and the outcomes of its events are one commit: a kill before it leaves neither.
#[tokio::test]
async fn a_kill_in_a_batch_leaves_no_effect_and_repeats_none() {
    let (database, pool) = database_with_pool().await;
    let mut gate = close_gate(&pool).await;
    let server = Server::start(&database, WORKER, &[]).await;
    deliver_customers(&server, &["cus_1", "cus_slow"]).await;
    until(&pool, WAITING).await;
    server.kill().await;
    terminate_sessions(&pool).await;
    assert_eq!(
        number(&pool, "SELECT count(*) FROM billing.billing_contacts WHERE stripe_customer_id = 'cus_slow'").await,
        0
    );
    assert_eq!(
        number(&pool, "SELECT count(*) FROM billing.outbox WHERE event_id = 'evt_cus_slow' AND state = 'done'").await,
        0
    );
    open_gate(&mut gate).await;
    let server = Server::start(&database, WORKER, &[]).await;
    until(&pool, "SELECT (count(*) = 2)::int::bigint FROM billing.outbox WHERE state = 'done'").await;
    assert_eq!(number(&pool, "SELECT count(*) FROM billing.billing_contacts").await, 2);
    assert_eq!(number(&pool, "SELECT count(*) FROM billing.worker_batches").await, 0);
    server.kill().await;
}

/// The process is killed whenever it processes one event: first in a batch, then with that event isolated.
#[tokio::test]
async fn an_event_that_kills_the_process_ends_dead_others_are_done() {
    let (database, pool) = database_with_pool().await;
    let _gate = close_gate(&pool).await;
    // with a second worker, an attempt at another event can be in progress at each kill, and would count
    let settings =
        [("BILLING_SYNC_MAX_ATTEMPTS", "2"), ("BILLING_SYNC_ATTEMPT_LEASE", "1s"), ("BILLING_SYNC_WORKERS", "1")];
    let receiver = Server::start(&database, "receiver", &[]).await;
    deliver_customers(&receiver, &["cus_1", "cus_2", "cus_slow"]).await;
    receiver.kill().await;
    for _ in 0..3 {
        let server = Server::start(&database, WORKER, &settings).await;
        until(&pool, WAITING).await;
        server.kill().await;
        terminate_sessions(&pool).await;
    }
    let server = Server::start(&database, WORKER, &settings).await;
    until(&pool, "SELECT (count(*) = 0)::int::bigint FROM billing.outbox WHERE state = 'pending'").await;
    assert_eq!(fates(&pool).await, "evt_cus_1 done 1, evt_cus_2 done 1, evt_cus_slow dead 2");
    assert_eq!(number(&pool, "SELECT count(*) FROM billing.billing_contacts").await, 2);
    server.kill().await;
}
