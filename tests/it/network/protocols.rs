//! Protocols of the two ports: HTTP/1.1 and HTTP/2 with the same limits, and one sentence for all others.

use std::net::SocketAddr;
use std::time::Duration;

use billing_sync::receiver::PATH;
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::cluster::{self, TestDatabase};
use crate::support::process::{Server, signed};

/// An HTTP/2 connection with prior knowledge.
struct Http2 {
    requests: h2::client::SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        Self { requests, connection: tokio::spawn(connection) }
    }

    /// Begins a request. The second value sends its body.
    async fn begin(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        is_whole: bool,
    ) -> Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        let mut request = Request::builder().method(method).uri(format!("http://x{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut requests = self.requests.clone().ready().await?;
        requests.send_request(request.body(()).unwrap(), is_whole)
    }

    async fn post(&self, signature: &str, body: &[u8]) -> Result<(u16, String), h2::Error> {
        let (response, mut sender) = self.begin(Method::POST, PATH, &[("stripe-signature", signature)], false).await?;
        sender.send_data(Bytes::copy_from_slice(body), true)?;
        read(response).await
    }

    async fn deliver(&self, id: &str) -> Result<(u16, String), h2::Error> {
        let (signature, body) = signed(&event(id));
        self.post(&signature, &body).await
    }
}

async fn read(response: h2::client::ResponseFuture) -> Result<(u16, String), h2::Error> {
    let response = response.await?;
    let status = response.status().as_u16();
    let (mut body, mut text) = (response.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data?);
    }
    Ok((status, String::from_utf8(text).unwrap()))
}

fn event(id: &str) -> Value {
    json!({ "id": id, "object": "event", "type": "customer.updated", "created": 1_700_000_000, "livemode": false,
        "data": { "object": { "id": "cus_1", "object": "customer" } } })
}

async fn receiver(environment: &[(&str, &str)]) -> (TestDatabase, Server) {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", environment).await;
    (database, server)
}

async fn connections(server: &Server, listener: &str, protocol: &str) -> f64 {
    server.metric(&format!("billing_sync_connections_total{{listener=\"{listener}\",protocol=\"{protocol}\"}}")).await
}

/// Sends bytes and reads until the connection is closed.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    ended.expect("the connection is closed").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http_2_prior_knowledge_is_served_and_counted_on_both_ports() {
    let (_database, server) = receiver(&[]).await;
    let client = Http2::connect(server.webhooks()).await;
    let both = tokio::join!(client.deliver("evt_1"), client.deliver("evt_2"));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), ((200, "stored\n".to_owned()), (200, "stored\n".to_owned())));
    assert_eq!(client.deliver("evt_1").await.unwrap(), (200, "already known\n".to_owned()));
    let (wrong, method) = tokio::join!(client.post("t=1,v1=00", b"{}"), async {
        let (response, _) = client.begin(Method::GET, PATH, &[], true).await?;
        read(response).await
    });
    assert_eq!((wrong.unwrap().0, method.unwrap().0), (400, 405));
    let ended =
        timeout(Duration::from_secs(5), client.connection).await.expect("closed after an unauthenticated request");
    assert!(ended.unwrap().is_ok(), "closed with GOAWAY, without an error");

    let ops = Http2::connect(server.ops()).await;
    let (response, _) = ops.begin(Method::GET, "/livez", &[], true).await.unwrap();
    assert_eq!(read(response).await.unwrap(), (200, "live\n".to_owned()));
    assert_eq!(connections(&server, "webhooks", "http2").await.to_bits(), 1_f64.to_bits());
    assert_eq!(connections(&server, "ops", "http2").await.to_bits(), 1_f64.to_bits());
    server.kill().await;
}

#[tokio::test]
async fn the_limits_of_bodies_and_heads_hold_for_http_2() {
    let (_database, server) =
        receiver(&[("BILLING_SYNC_BODY_LIMIT", "2000"), ("BILLING_SYNC_BODY_TIMEOUT", "500ms")]).await;
    let client = Http2::connect(server.webhooks()).await;
    assert_eq!(client.post("t=1,v1=00", &[b'x'; 2001]).await.unwrap().0, 413);
    let client = Http2::connect(server.webhooks()).await;
    // a body that never ends
    let (response, mut sender) = client.begin(Method::POST, PATH, &[], false).await.unwrap();
    sender.send_data(Bytes::from_static(b"{"), false).unwrap();
    assert_eq!(timeout(Duration::from_secs(5), read(response)).await.expect("in time").unwrap().0, 408);
    // a head over 16 KiB
    let client = Http2::connect(server.webhooks()).await;
    let large = "x".repeat(20_000);
    let begun = client.begin(Method::POST, PATH, &[("x-large", &large)], true).await;
    let status = match begun {
        Ok((response, _)) => read(response).await.ok().map(|(status, _)| status),
        Err(_) => None,
    };
    assert!(status.is_none_or(|status| status == 431), "{status:?}");
    assert_eq!(Http2::connect(server.webhooks()).await.deliver("evt_1").await.unwrap().0, 200);
    server.kill().await;
}

#[tokio::test]
async fn idle_connections_are_closed_in_every_protocol() {
    let (_database, server) = receiver(&[("BILLING_SYNC_HEADER_TIMEOUT", "300ms")]).await;
    let client = Http2::connect(server.webhooks()).await;
    assert_eq!(client.deliver("evt_1").await.unwrap().0, 200);
    let ended = timeout(Duration::from_secs(5), client.connection).await.expect("an idle connection is closed");
    assert!(ended.unwrap().is_ok(), "closed with GOAWAY, without an error");
    // only a preface, half a preface, and no bytes
    for start in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HT", ""] {
        let mut stream = TcpStream::connect(server.webhooks()).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let limit = Duration::from_secs(30);
        let _ =
            timeout(limit, stream.read_to_end(&mut answer)).await.unwrap_or_else(|_| panic!("{start:?} stays open"));
    }
    server.kill().await;
}

#[tokio::test]
async fn streams_take_slots_as_connections_do() {
    let (_database, server) =
        receiver(&[("BILLING_SYNC_MAX_CONNECTIONS", "1"), ("BILLING_SYNC_HEADER_TIMEOUT", "300ms")]).await;
    let client = Http2::connect(server.webhooks()).await;
    let (first, mut body) =
        client.begin(Method::POST, PATH, &[("stripe-signature", "t=1,v1=00")], false).await.unwrap();
    let (status, text) = client.deliver("evt_1").await.unwrap();
    assert_eq!((status, text.as_str()), (503, "too many concurrent requests: try again later\n"));
    body.send_data(Bytes::from_static(b"{}"), true).unwrap();
    assert_eq!(read(first).await.unwrap().0, 400);
    assert_eq!(Http2::connect(server.webhooks()).await.deliver("evt_2").await.unwrap().0, 200);
    server.kill().await;
}

#[tokio::test]
async fn stalled_streams_end_for_a_signed_delivery() {
    let (_database, server) = receiver(&[("BILLING_SYNC_MAX_CONNECTIONS", "4")]).await;
    let attacker = Http2::connect(server.webhooks()).await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(attacker.begin(Method::POST, PATH, &[], false).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for id in ["evt_1", "evt_2", "evt_3", "evt_4", "evt_5"] {
        let status = timeout(Duration::from_secs(2), server.deliver(&event(id))).await.expect("in time");
        assert_eq!(status, Some(200));
    }
    server.kill().await;
}

#[tokio::test]
async fn ambiguous_request_heads_are_answered_400() {
    let (_database, server) = receiver(&[]).await;
    let (signature, body) = signed(&event("evt_1"));
    let body = String::from_utf8(body).unwrap();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let length = format!("Content-Length: {}", body.len());
    for (version, host, encoding, body, status) in [
        ("1.1", "Host: x", "Transfer-Encoding: gzip, chunked", &chunked, 400),
        ("1.1", "Host: x", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", &chunked, 400),
        ("1.1", "X: x", &length, &body, 400),
        ("1.1", "Host: x\r\nHost: y", &length, &body, 400),
        ("1.1", "Host: x", "Transfer-Encoding: chunked", &chunked, 200),
        ("1.0", "X: x", &length, &body, 200),
    ] {
        let head = format!("POST {PATH} HTTP/{version}\r\n{host}\r\nStripe-Signature: {signature}\r\n");
        let request = format!("{head}Connection: close\r\n{encoding}\r\n\r\n{body}");
        let answer = raw(server.webhooks(), request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/{version} {status} ")), "{request}\n{answer}");
    }
    let answer = raw(server.ops(), b"GET /livez HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("one valid Host header"), "{answer}");
    assert!((server.metric("billing_sync_webhook_requests_total{outcome=\"bad_request\"}").await - 4.0).abs() < 0.1);
    server.kill().await;
}

#[tokio::test]
async fn requests_reset_at_once_do_not_block_others() {
    let (_database, server) = receiver(&[]).await;
    let attacker = Http2::connect(server.webhooks()).await;
    for _ in 0..2000 {
        let Ok((_, mut sender)) = attacker.begin(Method::POST, PATH, &[], false).await else { break };
        sender.send_reset(h2::Reason::CANCEL);
    }
    let client = Http2::connect(server.webhooks()).await;
    let answer = timeout(Duration::from_secs(5), client.deliver("evt_1")).await.expect("in time");
    assert_eq!(answer.unwrap().0, 200);
    server.kill().await;
}

#[tokio::test]
async fn shutdown_answers_http_2_requests_and_sends_goaway() {
    let (_database, server) = receiver(&[]).await;
    let client = Http2::connect(server.webhooks()).await;
    let (signature, body) = signed(&event("evt_1"));
    let headers = [("stripe-signature", signature.as_str())];
    let (response, mut sender) = client.begin(Method::POST, PATH, &headers, false).await.unwrap();
    // frames are read in order: once this one is answered, the request before it is in flight
    let (second, _) = client.begin(Method::GET, PATH, &[], true).await.unwrap();
    assert_eq!(read(second).await.unwrap().0, 405);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    while TcpStream::connect(server.webhooks()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sender.send_data(Bytes::from(body), true).unwrap();
    assert_eq!(read(response).await.unwrap(), (200, "stored\n".to_owned()));
    assert_eq!(server.ended().await, Some(0));
    assert!(client.connection.await.unwrap().is_ok());
}

#[tokio::test]
async fn tls_and_the_proxy_protocol_are_explained_and_counted() {
    let (_database, mut server) = receiver(&[]).await;
    // the first bytes of a ClientHello, longer than the peeked bytes
    let mut hello = vec![0x16, 0x03, 0x01, 0x08, 0x00, 0x01, 0x00, 0x07, 0xfc, 0x03, 0x03];
    hello.resize(2000, 0);
    for (bytes, protocol, expected) in [
        (hello.as_slice(), "tls", "this port serves plain HTTP, but received a TLS handshake"),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nPOST / HTTP/1.1\r\n\r\n",
            "proxy_protocol",
            "a PROXY protocol header",
        ),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", "proxy_protocol", "a PROXY protocol header"),
    ] {
        for (address, listener) in [(server.webhooks(), "webhooks"), (server.ops(), "ops")] {
            let before = connections(&server, listener, protocol).await;
            let answer = raw(address, bytes).await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.contains(expected), "{answer}");
            let counted = connections(&server, listener, protocol).await - before;
            assert!((counted - 1.0).abs() < f64::EPSILON, "{listener} {protocol}: {counted}");
        }
    }
    drop(TcpStream::connect(server.webhooks()).await.unwrap());
    let message = "this port serves plain HTTP, but received a TLS handshake: terminate TLS at the proxy in front of it; \
                   further such connections are only counted";
    assert_eq!(server.log_line(message).await["listener"], "webhooks");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    let (code, log) = server.ended_with_log().await;
    assert_eq!((code, log.matches("further such connections").count()), (Some(0), 2), "once for each port: {log}");
}
