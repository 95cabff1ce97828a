//! Clients that are slow, numerous or too busy.

use std::net::SocketAddr;
use std::time::Duration;

use billing_sync::api::principal::Scope;
use billing_sync::api::principal::token_store::{self, NewToken};
use billing_sync::database::Connection;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use sqlx::ConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{LIST, bytes, number_of_workspaces, raw, send};
use crate::api::harness::{ADA, ApiTest, PREFIX, request};
use crate::support::client::Client;
use crate::support::cluster;
use crate::support::process::Server;

/// Takes as long as the timeouts: 10 s for a body, 20 s for a head.
#[tokio::test]
async fn slow_heads_and_slow_bodies_end() {
    let test = ApiTest::start().await;
    let (ada, address) = (test.user(ADA).await, test.address());
    let lines = "Content-Type: application/json\r\nContent-Length: 1000\r\n";
    let (begin, half) = (Instant::now(), bytes(&ada, "POST", LIST, lines, b"{"));
    let dribbled = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&half).await.unwrap();
        let mut answer = [0; 1024];
        for _ in 0..100 {
            if let Ok(read) = timeout(Duration::from_millis(500), stream.read(&mut answer)).await {
                return String::from_utf8_lossy(&answer[..read.unwrap()]).into_owned();
            }
            stream.write_all(b" ").await.unwrap();
        }
        panic!("it does not end");
    };
    let head = format!("GET {PREFIX}{LIST} HTTP/1.1\r\nHost: x\r\nAuth");
    let (head, silent, slow, dribbled) =
        tokio::join!(raw(address, head.as_bytes()), raw(address, b""), send(address, &half), dribbled);
    assert_eq!((head.as_str(), silent.as_str()), ("", ""), "closed without an answer");
    slow.problem("body-too-slow");
    assert!(dribbled.starts_with("HTTP/1.1 408 "), "{dribbled}");
    assert!(begin.elapsed() < Duration::from_secs(35), "{:?}", begin.elapsed());
    assert_eq!(number_of_workspaces(&ada).await, 0);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_do_not_keep_a_token_holder_out() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard).unwrap_or_default();
    let database = cluster::database().await;
    let server = Server::start(&database, "api", &[("BILLING_SYNC_API_LISTEN", "127.0.0.1:0")]).await;
    let address = server.serving()["api"].as_str().unwrap();
    let address: SocketAddr = address.trim_start_matches("http://").trim_end_matches(PREFIX).parse().unwrap();
    let token = token_store::random_token().unwrap();
    let new = NewToken { token: &token, scopes: &[Scope::WorkspacesAdmin], user: None, note: None, lifetime: None };
    token_store::create(&mut Connection::from(database.options.connect().await.unwrap()), &new).await.unwrap();
    let bearer = format!("Bearer {}", token.expose());
    let list = request("GET", &format!("{PREFIX}{LIST}"), &[("Authorization", bearer.as_str())], None);
    // more than the listener has slots
    let mut idle = Vec::new();
    for number in 0..1_200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-").await;
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        let begin = Instant::now();
        assert_eq!(send(address, &list).await.status, 200);
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
    drop(idle);
    server.kill().await;
}

#[tokio::test]
async fn a_principal_that_sends_too_many_requests_is_429_and_others_are_not() {
    const MANY: usize = 20;
    let test = ApiTest::start_with(&[("BILLING_SYNC_API_RATE", "2")]).await;
    let (ada, other) = (test.user(ADA).await, test.user(ADA).await);
    let mut client = Client::connect(test.address()).await;
    client.send(&bytes(&ada, "GET", LIST, "", b"").repeat(MANY)).await;
    let mut refused = 0;
    for number in 0..MANY {
        let reply = client.reply().await.expect("the connection stays open");
        assert!(number > 1 || reply.status == 200, "the burst of a second: {reply:?}");
        if reply.status != 200 {
            let problem = reply.problem("rate-limited");
            assert_eq!(
                (reply.status, &problem["retryable"], reply.header("retry-after")),
                (429, &json!(true), Some("1"))
            );
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert_eq!(other.get(LIST).await.status, 200, "another token, although of the same user");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ada.get(LIST).await.status, 200);
    test.finish().await;
}
