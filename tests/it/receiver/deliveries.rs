//! Accepted and refused deliveries, and the stored data.

use std::sync::Arc;

use billing_sync::config::receiver::ReceiverConfig;
use billing_sync::config::secret::WebhookSecret;
use billing_sync::database::Pool;
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::receiver::signature;
use billing_sync::receiver::{PATH, Receiver};
use prometheus::Registry;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::task::JoinSet;

use super::{SECRET, app, app_with, config, event, now, sign, signed};
use crate::support::client::post;

#[tokio::test]
async fn an_event_is_stored_with_its_envelope_before_the_200() {
    let app = app().await;
    let body = event("evt_1", "");
    let reply = app.deliver(&body).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "stored\n"));
    assert_eq!(app.payload("evt_1").await, body);
    let row: (String, String, String, String, String, bool, String, String) = sqlx::query_as(
        "SELECT type, format, object_type, object_id, customer_id, livemode, source, state FROM billing.outbox",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    let expected = ("customer.updated", "snapshot", "customer", "cus_1", "cus_1", false, "webhook", "pending");
    assert_eq!((&*row.0, &*row.1, &*row.2, &*row.3, &*row.4, row.5, &*row.6, &*row.7), expected);
    app.stop().await;
}

#[tokio::test]
async fn a_thin_event_is_stored() {
    let app = app().await;
    let body = br#"{"id":"evt_thin","object":"v2.core.event","type":"v1.customer.updated","context":"acct_1",
        "created":"2025-03-04T05:06:07.123456789Z","related_object":{"id":"cus_1","type":"customer"}}"#;
    assert_eq!(app.deliver(body).await.text, "stored\n");
    assert_eq!(app.deliver(body).await.text, "already known\n");
    let stored: (String, String) =
        sqlx::query_as("SELECT format, account FROM billing.outbox").fetch_one(&app.pool).await.unwrap();
    assert_eq!(stored, ("thin".into(), "acct_1".into()));
    app.stop().await;
}

#[tokio::test]
async fn a_second_delivery_is_acknowledged_and_not_queued() {
    let app = app().await;
    let (first, again) = (event("evt_1", ""), event("evt_1", r#","pending_webhooks":7"#));
    assert_eq!(app.deliver(&first).await.text, "stored\n");
    let reply = app.deliver(&again).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "already known\n"));
    assert_eq!((app.count("billing.events").await, app.count("billing.outbox").await), (1, 1));
    assert_eq!(app.payload("evt_1").await, first);
    assert_eq!((app.outcomes("stored"), app.outcomes("duplicate")), (1, 1));
    app.stop().await;
}

#[tokio::test]
async fn of_concurrent_deliveries_exactly_one_is_stored() {
    let app = Arc::new(app().await);
    let mut posts = JoinSet::new();
    for number in 0..60 {
        let app = app.clone();
        posts.spawn(async move { app.deliver(&event(&format!("evt_{}", number % 3), "")).await });
    }
    let replies = posts.join_all().await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(replies.iter().filter(|reply| reply.text == "stored\n").count(), 3);
    assert_eq!(app.count("billing.outbox").await, 3);
}

#[tokio::test]
async fn during_a_rotation_either_secret_is_accepted() {
    let secrets = ["whsec_new", "whsec_old"].map(|secret| WebhookSecret::new(secret).unwrap());
    let app = app_with(ReceiverConfig { secrets: secrets.to_vec(), ..config() }).await;
    for (number, secret) in secrets.iter().enumerate() {
        let body = event(&format!("evt_{number}"), "");
        assert_eq!(app.send(&post(PATH, &signature::sign(secret, now(), &body), &body)).await.status, 200);
    }
    assert_eq!(app.deliver(&event("evt_9", "")).await.status, 400);
    app.stop().await;
}

#[tokio::test]
async fn several_signature_lines_count_as_one_list() {
    let app = app().await;
    let body = event("evt_1", "");
    let lines = sign(&body).replace(",v1=", "\r\nStripe-Signature: v1=00\r\nStripe-Signature: v1=");
    assert_eq!(app.send(&post(PATH, &lines, &body)).await.status, 200);
    let contradicting = format!("{}\r\nStripe-Signature: t=5", sign(&body));
    assert_eq!(app.send(&post(PATH, &contradicting, &body)).await.status, 400);
    app.stop().await;
}

#[tokio::test]
async fn a_refusal_names_the_failed_check_and_echoes_nothing() {
    let app = app().await;
    let body = event("evt_1", "");
    let stale = signature::sign(&WebhookSecret::new(SECRET).unwrap(), now() - 400, &body);
    let no_header = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes();
    for (request, part, outcome) in [
        (no_header, "header is missing", "bad_signature"),
        (post(PATH, "t=5,v1=evil", &body), "no v1 signature", "bad_signature"),
        (post(PATH, &sign(b"other"), &body), "STRIPE_WEBHOOK_SECRET", "bad_signature"),
        (post(PATH, &stale, &body), "clock", "stale"),
        (signed(b"evil"), "not a JSON object", "malformed"),
        (signed(br#"{"object":"event","id":"evil\u0000","type":"t","created":1700000000}"#), "event's id", "malformed"),
    ] {
        let before = app.outcomes(outcome);
        let reply = app.send(&request).await;
        assert_eq!((reply.status, reply.header("content-type")), (400, Some("text/plain; charset=utf-8")));
        assert!(reply.text.contains(part) && !reply.text.contains("evil"), "{}", reply.text);
        assert_eq!(app.outcomes(outcome), before + 1);
    }
    assert_eq!(app.count("billing.events").await, 0);
    app.stop().await;
}

#[tokio::test]
async fn odd_payloads_are_kept_byte_for_byte() {
    let app = Arc::new(app().await);
    let deep = format!(r#","deep":{}{}"#, "[".repeat(10_000), "]".repeat(10_000));
    let mut posts = JoinSet::new();
    let odd = [r#","nul":"\u0000""#, r#","lone":"\ud800","\udfff":1"#, r#","n":1e999999"#, r#","a":1,"a":2"#, &deep];
    for (number, members) in odd.into_iter().chain([r#","broken":"~""#]).enumerate() {
        let id = format!("evt_{number}");
        let body: Vec<u8> =
            event(&id, members).into_iter().map(|byte| if byte == b'~' { 0xff } else { byte }).collect();
        let app = app.clone();
        // concurrently, so that they share INSERTs
        posts.spawn(async move {
            assert_eq!(app.deliver(&body).await.status, 200);
            assert_eq!(app.payload(&id).await, body);
        });
    }
    posts.join_all().await;
    assert_eq!(app.count("billing.outbox").await, 6);
}

#[tokio::test]
async fn without_a_secret_it_does_not_start() {
    let pool = Pool::from(PgPoolOptions::new().connect_lazy_with(PgConnectOptions::new_without_pgpass()));
    let metrics = Arc::new(ProcessMetrics::new(&Registry::new()).unwrap());
    let error = Receiver::bind(&ReceiverConfig { secrets: Vec::new(), ..config() }, pool, metrics).await.unwrap_err();
    assert!(error.to_string().contains("STRIPE_WEBHOOK_SECRET"));
}
