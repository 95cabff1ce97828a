//! The ops listener beside peers that never read answers, and beside scrapes that wait for the database.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::client::get;
use crate::support::cluster;
use crate::support::process::Server;

/// A peer that sends a thousand requests and never reads.
async fn never_reads(address: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let _ = timeout(Duration::from_millis(100), stream.write_all(&get("/metrics", &[]).repeat(1000))).await;
    stream
}

#[tokio::test]
async fn peers_that_never_read_delay_neither_probes_nor_the_end() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[]).await;
    let mut held = Vec::new();
    for number in 0..150 {
        let address = if number % 2 == 0 { server.ops() } else { server.webhooks() };
        held.push(never_reads(address).await);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let begin = Instant::now();
        let reply = timeout(Duration::from_secs(5), server.ask(path)).await.expect("an answer");
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{path}: {:?}", begin.elapsed());
    }
    let begin = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await, Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn waiting_scrapes_do_not_make_readyz_fail() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[]).await;
    assert_eq!(server.ask("/readyz").await.status, 200);
    let mut conn = sqlx::ConnectOptions::connect(&database.options).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE billing.outbox IN ACCESS EXCLUSIVE MODE").execute(&mut conn).await.unwrap();
    let address = server.ops();
    let mut scrapes = JoinSet::new();
    for _ in 0..20 {
        scrapes.spawn(async move {
            loop {
                let mut client = crate::support::client::Client::connect(address).await;
                client.send(&get("/metrics", &[])).await;
                client.reply().await;
            }
        });
    }
    for _ in 0..20 {
        let replies = tokio::join!(server.ask("/readyz"), server.ask("/readyz"), server.ask("/readyz"));
        assert_eq!([replies.0.status, replies.1.status, replies.2.status], [200; 3], "{}", replies.0.text);
        sleep(Duration::from_millis(50)).await;
    }
    // with statements that take nearly as long as the timeout of a scrape
    sqlx::raw_sql(
        "ROLLBACK; ALTER TABLE billing.reconcile_state RENAME TO slow;
        CREATE VIEW billing.reconcile_state AS WITH pause AS MATERIALIZED (SELECT pg_sleep(0.8))
            SELECT slow.* FROM pause LEFT JOIN billing.slow ON true",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    for _ in 0..20 {
        let reply = server.ask("/readyz").await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        sleep(Duration::from_millis(50)).await;
    }
    scrapes.abort_all();
    server.kill().await;
}
