//! Servers that accept no writes: the process is not ready there, and keeps no connection to one.

use std::time::Duration;

use crate::support::process::Server;

use super::harness::{OwnServer, Proxy, database_up, deliver, number, until, until_ready_is};

const ALL: &str = "receiver,worker,renewals,maintenance";

/// Setting that makes a server behave like a standby: every transaction is read-only.
const READ_ONLY: &str = "default_transaction_read_only";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_not_ready_and_recovers_at_once() {
    let mut own = OwnServer::start(&[]).await;
    let url = own.cluster.url();
    let server = Server::start_on(&url, ALL, &[]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    assert_eq!(server.ask("/readyz").await.status, 200);
    assert!(database_up(&server).await);

    own.set(READ_ONLY, "on").await;
    let reason = until_ready_is(&server, 503).await;
    assert!(reason.contains("default_transaction_read_only"), "{reason}");
    assert!(!database_up(&server).await);
    assert!(server.get_metrics().await.contains("billing_sync_outbox_events"), "reading still works");
    assert_eq!(deliver(&server, 2, 0).await, 503);
    let doctor = doctor(&url);
    assert_eq!(doctor.0, Some(1));
    assert!(doctor.1.contains("default_transaction_read_only"), "{}", doctor.1);

    own.set(READ_ONLY, "off").await;
    assert_eq!(deliver(&server, 3, 0).await, 200);
    until_ready_is(&server, 200).await;
    assert!(database_up(&server).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_delivery_after_failover_goes_to_the_new_primary() {
    let mut demoted = OwnServer::start(&[]).await;
    let mut promoted = OwnServer::start(&[]).await;
    let proxy = Proxy::start(&demoted.cluster.url());
    let server = Server::start_on(&proxy.url(&demoted.cluster.url()), ALL, &[]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    demoted.set(READ_ONLY, "on").await;
    for number in 2..6 {
        assert_eq!(deliver(&server, number, 0).await, 503);
    }
    // the pools hold working connections to the server that is read-only now
    proxy.lead_to(&promoted.cluster.url());
    for event in 10..14 {
        assert_eq!(deliver(&server, event, 0).await, 200, "event {event}");
    }
    assert_eq!(number(&mut promoted.conn, "SELECT count(*) FROM billing.outbox").await, 4);
    until(&mut promoted.conn, "SELECT (count(*) = 4)::int::bigint FROM billing.outbox WHERE state = 'done'").await;
    assert_eq!(until_ready_is(&server, 200).await, "ready: all migrations are applied\n");
    // no part keeps a connection to the old server after its next use; maintenance uses its own every six hours
    until(
        &mut demoted.conn,
        "SELECT (count(*) <= 1)::int::bigint FROM pg_stat_activity WHERE application_name LIKE 'billing-sync%'",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_host_fails_at_most_one_delivery_after_failover() {
    let own = OwnServer::start(&[]).await;
    let url = own.cluster.url();
    let proxy = Proxy::start(&url);
    let server = Server::start_on(&proxy.url(&url), "receiver", &[]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.freeze();
    // on a busy machine the check of the dead connection may use up the timeout of the first delivery
    let first = deliver(&server, 2, 0).await;
    assert!(first == 200 || deliver(&server, 3, 0).await == 200, "{first}, and again");
    until_ready_is(&server, 200).await;
}

fn doctor(url: &str) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    let output = command.arg("doctor").env_clear().env("DATABASE_URL", url).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    (output.status.code(), text)
}
