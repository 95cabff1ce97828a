//! Limits and timeouts of connections, heads and bodies, and the shutdown.

use std::sync::Arc;
use std::time::Duration;

use billing_sync::config::receiver::ReceiverConfig;
use billing_sync::config::secret::WebhookSecret;
use billing_sync::receiver::{PATH, signature};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{app, app_with, config, event, now, sign, signed};
use crate::support::client::{Client, post};

#[tokio::test]
async fn other_paths_and_methods_get_404_and_405() {
    let app = app().await;
    let body = event("evt_1", "");
    assert_eq!(app.send(&post("/", &sign(&body), &body)).await.status, 404);
    assert_eq!(app.send(&post("/webhooks/stripe/", &sign(&body), &body)).await.status, 404);
    let reply = app.send(format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    assert_eq!(app.send(b"nonsense\r\n\r\n").await.status, 400);
    assert_eq!((app.outcomes("not_found"), app.outcomes("method_not_allowed")), (2, 1));
    app.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_streamed() {
    let app = app_with(ReceiverConfig { body_limit: 2000, ..config() }).await;
    let just_fits = event("evt_1", &format!(r#","x":"{}""#, "x".repeat(2000 - event("evt_1", r#","x":"""#).len())));
    assert_eq!((just_fits.len(), app.deliver(&just_fits).await.status), (2000, 200));
    let announced = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2001\r\n\r\n");
    let reply =
        timeout(Duration::from_secs(1), app.send(announced.as_bytes())).await.expect("refused before the body is sent");
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    assert_eq!(app.deliver(&vec![b'x'; 4_000_000]).await.status, 413);
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    let streamed =
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(50));
    assert_eq!(app.send(streamed.as_bytes()).await.status, 413);
    assert_eq!(app.outcomes("too_large"), 3);
    app.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_one_body() {
    let app = app().await;
    let body = event("evt_1", "");
    let (left, right) = body.split_at(30);
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nStripe-Signature: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        sign(&body)
    );
    let mut request = head.into_bytes();
    for part in [left, right] {
        request.extend(format!("{:x}\r\n", part.len()).bytes().chain(part.iter().copied()).chain(*b"\r\n"));
    }
    request.extend(b"0\r\n\r\n");
    assert_eq!(app.send(&request).await.status, 200);
    assert_eq!(app.payload("evt_1").await, body);
    app.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_and_a_slow_head_is_closed() {
    let short = Duration::from_millis(300);
    let app = app_with(ReceiverConfig { body_timeout: short, header_timeout: short, ..config() }).await;
    let body = event("evt_1", "");
    let reply = app.send(&signed(&body)[..200]).await;
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    for head in ["", "POST / HTTP/1.1\r\nHost:"] {
        let mut client = Client::connect(app.addr).await;
        client.send(head.as_bytes()).await;
        let reply = timeout(Duration::from_secs(3), client.reply()).await.expect("the connection is closed");
        assert_eq!(reply.filter(|reply| reply.status == 200), None);
    }
    assert_eq!(app.outcomes("slow"), 1);
    app.stop().await;
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let app = app().await;
    let mut client = Client::connect(app.addr).await;
    for number in 0..3 {
        client.send(&signed(&event(&format!("evt_{number}"), ""))).await;
        assert_eq!(client.reply().await.unwrap().status, 200);
    }
    // two at once: the second answer comes after the first
    client.send(&[signed(&event("evt_8", "")), signed(&event("evt_9", ""))].concat()).await;
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert_eq!(app.count("billing.outbox").await, 5);
    app.stop().await;
}

#[tokio::test]
async fn a_full_receiver_closes_the_oldest_idle_connection() {
    let app = app_with(ReceiverConfig { max_connections: 2, ..config() }).await;
    let (mut first, mut second) = (Client::connect(app.addr).await, Client::connect(app.addr).await);
    for (client, id) in [(&mut second, "evt_1"), (&mut first, "evt_2")] {
        client.send(&signed(&event(id, ""))).await;
        assert_eq!(client.reply().await.unwrap().status, 200);
    }
    assert_eq!(app.deliver(&event("evt_3", "")).await.status, 200);
    assert_eq!(timeout(Duration::from_secs(1), second.reply()).await.expect("the idle connection is closed"), None);
    first.send(&signed(&event("evt_4", ""))).await;
    assert_eq!(first.reply().await.unwrap().status, 200);
    app.stop().await;
}

#[tokio::test]
async fn a_flood_without_valid_signatures_writes_and_blocks_nothing() {
    let app = Arc::new(app_with(ReceiverConfig { queue_capacity: 1, ..config() }).await);
    let mut flood = JoinSet::new();
    for number in 0..20 {
        let app = app.clone();
        // half of them well-formed, with the current time, and signed with another secret
        let other = WebhookSecret::new("whsec_of_another_endpoint").unwrap();
        let signed = signature::sign(&other, now(), &event("evt_flood", ""));
        let header = if number % 2 == 0 { signed } else { "t=1,v1=00".to_owned() };
        flood.spawn(async move {
            for _ in 0..20 {
                let mut client = Client::connect(app.addr).await;
                client.send(&post(PATH, &header, &event("evt_flood", ""))).await;
                assert_eq!(client.reply().await.unwrap().status, 400);
            }
        });
    }
    assert_eq!(app.deliver(&event("evt_1", "")).await.status, 200);
    flood.join_all().await;
    assert_eq!((app.count("billing.events").await, app.outcomes("bad_signature")), (1, 400));
}

#[tokio::test]
async fn shutdown_answers_requests_in_flight_and_closes_idle_ones() {
    let app = app().await;
    let mut idle = Client::connect(app.addr).await;
    idle.send(&signed(&event("evt_0", ""))).await;
    assert_eq!(idle.reply().await.unwrap().status, 200);
    let lock = app.lock_events().await;
    let mut in_flight = Client::connect(app.addr).await;
    in_flight.send(&signed(&event("evt_1", ""))).await;
    app.a_statement_waits().await;
    let mut half_sent = Client::connect(app.addr).await;
    let request = signed(&event("evt_2", ""));
    half_sent.send(&request[..request.len() - 5]).await;
    sleep(Duration::from_millis(100)).await;
    app.shutdown.cancel();
    assert_eq!(timeout(Duration::from_secs(1), idle.reply()).await.expect("closed at once"), None);
    half_sent.send(&request[request.len() - 5..]).await;
    lock.rollback().await.unwrap();
    assert_eq!(in_flight.reply().await.unwrap().status, 200);
    assert_eq!(half_sent.reply().await.unwrap().status, 200);
    assert_eq!(app.count("billing.outbox").await, 3);
    let addr = app.addr;
    app.stop().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
