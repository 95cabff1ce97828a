//! Bodies of unauthenticated requests: their memory is bounded, and signed deliveries succeed beside them.

use std::time::{Duration, Instant};

use billing_sync::receiver::PATH;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::client::{Client, Reply, post};
use crate::support::cluster;
use crate::support::process::{Server, signed};

const MEGABYTE: usize = 1024 * 1024;

/// A signed delivery of about this many bytes.
fn delivery(id: &str, bytes: usize) -> Vec<u8> {
    let (header, body) = signed(&json!({ "id": id, "object": "event", "type": "customer.updated",
        "created": 1_700_000_000, "livemode": false,
        "data": { "object": { "id": "cus_1", "object": "customer", "description": "x".repeat(bytes) } } }));
    post(PATH, &header, &body)
}

/// Sends all of a body of one megabyte but its last byte, and waits for an answer.
async fn stall(server: std::net::SocketAddr) -> Option<Reply> {
    let request = post(PATH, "t=1,v1=00", &vec![b'x'; MEGABYTE]);
    let mut client = Client::try_connect(server).await?;
    client.try_send(&request[..request.len() - 1]).await?;
    client.reply().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_bodies_share_a_budget_and_yield_to_signed_deliveries() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[]).await;
    let mut stalled = JoinSet::new();
    for _ in 0..500 {
        stalled.spawn(stall(server.webhooks()));
    }
    sleep(Duration::from_secs(3)).await;
    for (id, bytes) in [("evt_1", 100), ("evt_2", 300_000), ("evt_3", 900_000)] {
        let begin = Instant::now();
        let mut client = Client::connect(server.webhooks()).await;
        client.send(&delivery(id, bytes)).await;
        let reply = timeout(Duration::from_secs(5), client.reply()).await.expect("in time").unwrap();
        assert_eq!(reply.text, "stored\n");
        assert!(begin.elapsed() < Duration::from_secs(2), "{bytes} bytes: {:?}", begin.elapsed());
    }
    let memory = server.most_memory();
    let mut refused = 0;
    while let Ok(Some(reply)) = timeout(Duration::from_millis(500), stalled.join_next()).await {
        let Some(reply) = reply.unwrap() else { continue };
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")), "{reply:?}");
        refused += 1;
    }
    assert!(refused > 300, "{refused}");
    assert!(memory < 300, "{memory} MB");
    server.kill().await;
}

#[tokio::test]
async fn a_body_over_the_budget_gets_503_and_signed_ones_are_stored() {
    let database = cluster::database().await;
    let budget = MEGABYTE.to_string();
    let environment = [("BILLING_SYNC_BODY_BUDGET", budget.as_str()), ("BILLING_SYNC_STORE_TIMEOUT", "20s")];
    let server = Server::start(&database, "receiver", &environment).await;
    let mut conn = sqlx::ConnectOptions::connect(&database.options).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE billing.events IN ACCESS EXCLUSIVE MODE").execute(&mut conn).await.unwrap();
    let mut first = Client::connect(server.webhooks()).await;
    first.send(&delivery("evt_1", 700_000)).await;
    sleep(Duration::from_millis(500)).await;
    let mut second = Client::connect(server.webhooks()).await;
    second.send(&delivery("evt_2", 700_000)).await;
    let reply = second.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert!(reply.text.contains("BILLING_SYNC_BODY_BUDGET"), "{reply:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut conn).await.unwrap();
    assert_eq!(first.reply().await.unwrap().text, "stored\n");
    let mut third = Client::connect(server.webhooks()).await;
    third.send(&delivery("evt_3", 700_000)).await;
    assert_eq!(third.reply().await.unwrap().text, "stored\n", "the budget is released");
    server.kill().await;
}

#[test]
fn a_budget_below_the_longest_body_is_a_wrong_setting() {
    let environment = [
        ("DATABASE_URL", "postgres://h/d"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
        ("BILLING_SYNC_BODY_BUDGET", "1000000"),
    ];
    let output = crate::cli::run(&["serve"], &environment);
    let errors = crate::cli::words(&output.stderr);
    assert_eq!(crate::cli::code(&output), 2, "{errors}");
    assert!(
        errors.contains("BILLING_SYNC_BODY_LIMIT, BILLING_SYNC_BODY_BUDGET wrong are 1048576 and 1000000"),
        "{errors}"
    );
}
