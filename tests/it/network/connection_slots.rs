//! Peers that hold connections open without authentication, beside a signed delivery that must succeed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use billing_sync::receiver::PATH;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::client::{Client, get, post};
use crate::support::cluster;
use crate::support::process::{Server, signed};

/// What a peer does with its connection.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    Silent,
    HalfHead,
    HalfBody,
    DribbledBody,
    Unsigned,
    WrongSignature,
    Http2Idle,
    Http2HalfPreface,
    NeverReads,
}

impl Behaviour {
    const ALL: [Self; 9] = [
        Self::Silent,
        Self::HalfHead,
        Self::HalfBody,
        Self::DribbledBody,
        Self::Unsigned,
        Self::WrongSignature,
        Self::Http2Idle,
        Self::Http2HalfPreface,
        Self::NeverReads,
    ];

    fn first_bytes(self) -> Vec<u8> {
        match self {
            Self::Silent => Vec::new(),
            Self::HalfHead => b"POST /webhooks/stripe HTTP/1.1\r\nHost:".to_vec(),
            Self::HalfBody | Self::DribbledBody => {
                format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n{{\"id\":").into_bytes()
            }
            Self::Unsigned => get("/x", &[]),
            Self::WrongSignature => post(PATH, "t=1,v1=00", b"{}"),
            // the preface and an empty SETTINGS frame
            Self::Http2Idle => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
            Self::Http2HalfPreface => b"PRI * HT".to_vec(),
            Self::NeverReads => get("/x", &[]).repeat(50),
        }
    }

    /// Holds a connection until the server closes it.
    async fn hold(self, address: SocketAddr) -> Option<()> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(&self.first_bytes()).await.ok()?;
        let mut answer = [0; 1024];
        loop {
            match self {
                Self::NeverReads => sleep(Duration::from_secs(3)).await,
                Self::DribbledBody => {
                    sleep(Duration::from_millis(500)).await;
                    stream.write_all(b" ").await.ok()?;
                }
                _ => {
                    if stream.read(&mut answer).await.ok()? == 0 {
                        return Some(());
                    }
                    sleep(Duration::from_secs(2)).await;
                    stream.write_all(&self.first_bytes()).await.ok()?;
                }
            }
        }
    }
}

/// Peers that reconnect shortly after their connection was closed. They end when the set is dropped.
fn crowd(address: SocketAddr, size: usize, behaviours: &'static [Behaviour]) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for (number, behaviour) in (0..size).zip(behaviours.iter().cycle()) {
        crowd.spawn(async move {
            // spread the connections over time
            sleep(Duration::from_millis(u64::try_from(number).unwrap() % 2000)).await;
            loop {
                behaviour.hold(address).await;
                sleep(Duration::from_secs(2)).await;
            }
        });
    }
    crowd
}

fn event(id: &str) -> Value {
    json!({ "id": id, "object": "event", "type": "customer.updated", "created": 1_700_000_000, "livemode": false,
        "data": { "object": { "id": "cus_1", "object": "customer" } } })
}

/// Times of sequential deliveries, each over its own connection.
async fn delivery_times(server: &Server, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let begin = Instant::now();
        let status = timeout(Duration::from_secs(10), server.deliver(&event(&format!("evt_{number}")))).await;
        assert_eq!(status.ok().flatten(), Some(200), "delivery {number} after {:?}", begin.elapsed());
        times.push(begin.elapsed());
        sleep(Duration::from_millis(200)).await;
    }
    times.sort();
    times
}

async fn ended(server: &Server, reason: &str) -> f64 {
    let series = format!("billing_sync_connections_ended_total{{listener=\"webhooks\",reason=\"{reason}\"}}");
    server.metric(&series).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_succeed_beside_thousands_of_unauthenticated_peers() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard).unwrap_or_default();
    // the limit need not include the server's sockets, which belong to another process
    let size = usize::try_from(hard.min(20_000).max(soft)).unwrap().saturating_sub(1000).min(5000);
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[]).await;
    let crowd = crowd(server.webhooks(), size, &Behaviour::ALL);
    sleep(Duration::from_secs(4)).await;
    let times = delivery_times(&server, 15).await;
    assert!(times[times.len() - 2] < Duration::from_secs(1), "beside {size} connections: {times:?}");
    assert!(ended(&server, "gave_way").await > 0.0);
    drop(crowd);
    server.kill().await;
}

#[tokio::test]
async fn each_behaviour_leaves_a_slot_for_a_signed_delivery() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[("BILLING_SYNC_MAX_CONNECTIONS", "4")]).await;
    for behaviour in &Behaviour::ALL {
        let mut crowd = JoinSet::new();
        for _ in 0..12 {
            crowd.spawn(behaviour.hold(server.webhooks()));
        }
        sleep(Duration::from_millis(200)).await;
        let times = delivery_times(&server, 2).await;
        assert!(times[0] < Duration::from_secs(1), "{behaviour:?}: {times:?}");
    }
    server.kill().await;
}

#[tokio::test]
async fn unauthenticated_requests_are_answered_once_and_closed() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[]).await;
    let (header, body) = signed(&event("evt_1"));
    let mut client = Client::connect(server.webhooks()).await;
    for status in ["stored\n", "already known\n"] {
        client.send(&post(PATH, &header, &body)).await;
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.status, reply.text.as_str(), reply.header("connection")), (200, status, None));
    }
    for request in [get("/x", &[]), get(PATH, &[]), post(PATH, "t=1,v1=00", b"{}"), post("/x", &header, &body)] {
        let mut client = Client::connect(server.webhooks()).await;
        client.send(&request).await;
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
        assert_eq!(timeout(Duration::from_secs(2), client.reply()).await.expect("closed"), None);
    }
    server.kill().await;
}

#[tokio::test]
async fn a_request_that_loses_its_slot_is_answered_503() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[("BILLING_SYNC_MAX_CONNECTIONS", "1")]).await;
    let mut slow = Client::connect(server.webhooks()).await;
    slow.send(&Behaviour::HalfBody.first_bytes()).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.deliver(&event("evt_1")).await, Some(200));
    let reply = timeout(Duration::from_secs(5), slow.reply()).await.expect("an answer").expect("an answer");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")), "{reply:?}");
    server.kill().await;
}

#[tokio::test]
async fn a_signed_request_in_progress_keeps_its_slot() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[("BILLING_SYNC_MAX_CONNECTIONS", "1")]).await;
    let mut conn = sqlx::ConnectOptions::connect(&database.options).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE billing.events IN ACCESS EXCLUSIVE MODE").execute(&mut conn).await.unwrap();
    let (header, body) = signed(&event("evt_1"));
    let mut client = Client::connect(server.webhooks()).await;
    client.send(&post(PATH, &header, &body)).await;
    sleep(Duration::from_millis(300)).await;
    let crowd = crowd(server.webhooks(), 20, &[Behaviour::Silent, Behaviour::Unsigned]);
    sleep(Duration::from_millis(300)).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut conn).await.unwrap();
    let reply = timeout(Duration::from_secs(5), client.reply()).await.expect("an answer").unwrap();
    assert_eq!(reply.text, "stored\n");
    drop(crowd);
    server.kill().await;
}

#[tokio::test]
async fn an_address_cannot_exceed_its_connection_limit() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[("BILLING_SYNC_CONNECTIONS_PER_ADDRESS", "3")]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Client::connect(server.webhooks()).await);
    }
    let mut fourth = Client::connect(server.webhooks()).await;
    assert_eq!(timeout(Duration::from_secs(2), fourth.reply()).await.expect("closed at once"), None);
    assert!((ended(&server, "address_limit").await - 1.0).abs() < f64::EPSILON);
    drop(held);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(server.deliver(&event("evt_1")).await, Some(200));
    server.kill().await;
}
