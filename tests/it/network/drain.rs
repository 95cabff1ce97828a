//! SIGTERM behind a load balancer: not ready at once, but serving until the balancer has noticed.

use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::receiver::PATH;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::cli::{code, run, words};
use crate::support::client::{Client, post};
use crate::support::cluster::{self, TestDatabase};
use crate::support::process::{Server, signed};

fn event(id: &str) -> Value {
    json!({ "id": id, "object": "event", "type": "customer.updated", "created": 1_700_000_000, "livemode": false,
        "data": { "object": { "id": "cus_1", "object": "customer" } } })
}

async fn draining(delay: &str) -> (TestDatabase, Server) {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver,worker", &[("BILLING_SYNC_DRAIN_DELAY", delay)]).await;
    assert_eq!(server.ask("/readyz").await.status, 200);
    server.signal(Signal::SIGTERM);
    (database, server)
}

/// Waits until `/readyz` reports the shutdown: the signal is handled a moment later.
async fn readiness_turns(server: &Server) -> String {
    for _ in 0..100 {
        let reply = server.ask("/readyz").await;
        if reply.status == 503 {
            return reply.text;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still ready");
}

async fn done(conn: &mut Connection, id: &str) -> bool {
    for _ in 0..200 {
        let query = "SELECT count(*) FROM billing.outbox WHERE event_id = $1 AND state = 'done'";
        if sqlx::query_scalar::<_, i64>(query).bind(id).fetch_one(&mut *conn).await.unwrap() == 1 {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_draining_process_is_not_ready_but_serves_until_the_end() {
    let (database, server) = draining("3s").await;
    let begin = Instant::now();
    assert_eq!(readiness_turns(&server).await, "not ready: shutting down\n");
    assert_eq!(server.ask("/livez").await.status, 200);
    let (header, body) = signed(&event("evt_1"));
    let mut client = Client::connect(server.webhooks()).await;
    client.send(&post(PATH, &header, &body)).await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{reply:?}");
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    assert!(done(&mut conn, "evt_1").await, "the workers continue during the delay");
    assert!(begin.elapsed() < Duration::from_secs(3), "the test was too slow to show anything");
    let address = server.webhooks();
    assert_eq!(server.ended().await, Some(0));
    assert!(begin.elapsed() >= Duration::from_millis(2500), "{:?}", begin.elapsed());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_second_signal_ends_the_delay() {
    let (_database, server) = draining("20s").await;
    readiness_turns(&server).await;
    let begin = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await, Some(1));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn without_a_delay_the_listener_closes_at_once() {
    let (_database, server) = draining("0").await;
    let begin = Instant::now();
    assert_eq!(server.ended().await, Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_delay_that_leaves_no_time_to_finish_is_a_wrong_setting() {
    let environment =
        [("DATABASE_URL", "postgres://h/d"), ("STRIPE_WEBHOOK_SECRET", "whsec_x"), ("BILLING_SYNC_DRAIN_DELAY", "25s")];
    let output = run(&["serve"], &environment);
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 2, "{errors}");
    assert!(
        errors.contains("BILLING_SYNC_DRAIN_DELAY, BILLING_SYNC_SHUTDOWN_TIMEOUT wrong are 25s and 25s"),
        "{errors}"
    );
}
