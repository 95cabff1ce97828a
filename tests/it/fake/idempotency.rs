//! Tests of the fake's idempotency keys, and of faults before and after the effect of a write.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Shop, error, request, send, send_get, send_once, write};
use crate::support::client::{Client, Reply};
use crate::support::stripe::{Effect, Epoch, FakeStripe, Fault};

const CREATE: &str = "POST /v1/customers";

/// The reply to the creation of a customer with an idempotency key.
async fn create(stripe: &FakeStripe, name: &str, key: &str) -> Reply {
    send_once(stripe, CREATE, &format!("name={name}&metadata[a]=1"), key).await.unwrap()
}

fn error_type(reply: &Reply) -> Value {
    serde_json::from_str::<Value>(&reply.text).unwrap()["error"]["type"].take()
}

#[tokio::test]
async fn a_repeated_request_is_replayed_for_a_day() {
    let stripe = FakeStripe::start().await;
    let first = create(&stripe, "Ada", "k1").await;
    assert_eq!((first.header("idempotency-key"), first.header("original-request")), (Some("k1"), Some("req_1")));
    assert_eq!(first.header("idempotent-replayed"), None);
    stripe.tick(86_399);
    let again = send_once(&stripe, CREATE, "metadata[a]=1&name=Ada", "k1").await.unwrap();
    assert_eq!((again.status, &again.text), (200, &first.text), "the order of the parameters does not matter");
    assert_eq!((again.header("request-id"), again.header("original-request")), (Some("req_2"), Some("req_1")));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let effect =
        Effect { method: "POST".to_owned(), path: "/v1/customers".to_owned(), idempotency_key: Some("k1".to_owned()) };
    assert_eq!(stripe.effects(), [effect]);
    let event = stripe.events().pop().unwrap().json(Epoch::Endive);
    assert_eq!(event["request"], json!({ "id": "req_1", "idempotency_key": "k1" }));
    stripe.tick(1);
    assert_ne!(create(&stripe, "Ada", "k1").await.text, first.text);
    assert_eq!(stripe.effects_of("k1").len(), 2);
    assert_eq!(stripe.writes()[2].idempotency_key.as_deref(), Some("k1"));
}

#[tokio::test]
async fn a_key_belongs_to_one_endpoint_and_its_parameters() {
    let stripe = FakeStripe::start().await;
    create(&stripe, "Ada", "k1").await;
    let other = create(&stripe, "Grace", "k1").await;
    assert_eq!((other.status, error_type(&other)), (400, json!("idempotency_error")));
    let elsewhere = send_once(&stripe, "POST /v1/payment_links", "", "k1").await.unwrap();
    assert!(error_type(&elsewhere) == "idempotency_error" && elsewhere.text.contains("same endpoint"), "{elsewhere:?}");
    stripe.write_key_belongs_to_another_account();
    assert_eq!(create(&stripe, "Grace", "k1").await.status, 200, "keys belong to an account");
}

#[tokio::test]
async fn what_was_not_executed_is_not_saved() {
    let stripe = FakeStripe::start().await;
    let wrong = send_once(&stripe, CREATE, "colour=red", "k1").await.unwrap();
    assert_eq!((wrong.status, wrong.header("original-request")), (400, Some("req_1")));
    stripe.forbid_writes(&["/v1/customers"], "rak_customer_write");
    assert_eq!(create(&stripe, "Ada", "k1").await.status, 403);
    stripe.permit_all();
    let before = [
        (Fault::TooManyRequests { retry_after: None }, 429),
        (Fault::LockTimeout { status: 429 }, 429),
        (Fault::BadRequest { code: "parameter_invalid_string_blank" }, 400),
        (Fault::ServerError, 500),
    ];
    for (fault, status) in before {
        stripe.fail_next_of("POST", "/v1/customers", 1, fault);
        assert_eq!(send_get(&stripe, "/v1/customers").await.status, 200, "{fault:?}");
        assert_eq!(create(&stripe, "Ada", "k1").await.status, status, "{fault:?}");
    }
    assert_eq!(stripe.effects(), []);
    assert_eq!(create(&stripe, "Ada", "k1").await.status, 200);
}

#[tokio::test]
async fn errors_during_the_execution_are_saved() {
    let stripe = FakeStripe::start().await;
    let during = [
        (Fault::ApiError, 500, "", 0),
        (Fault::ApiErrorAfterEffect, 500, "", 1),
        (Fault::CardDeclined, 402, "card_declined", 0),
        (Fault::BadRequest { code: "customer_tax_location_invalid" }, 400, "customer_tax_location_invalid", 0),
    ];
    for (index, (fault, status, code, effects)) in during.into_iter().enumerate() {
        let key = format!("k{index}");
        stripe.fail_next_of("POST", "/", 1, fault);
        let failed = create(&stripe, "Ada", &key).await;
        assert_eq!(error(&failed), (status, code.to_owned(), String::new()), "{fault:?}");
        let again = create(&stripe, "Ada", &key).await;
        assert_eq!((again.status, &again.text), (status, &failed.text), "{fault:?}");
        assert_eq!(stripe.effects_of(&key).len(), effects, "{fault:?}");
        assert_eq!(failed.text.contains("insufficient_funds"), status == 402);
    }
    assert_eq!(stripe.events().len(), 1);
}

#[tokio::test]
async fn an_answer_can_get_lost_after_the_effect() {
    let shop = Shop::open().await;
    let stripe = &shop.stripe;
    for (key, fault) in
        [("close", Fault::CloseAfterEffect), ("hang", Fault::HangAfterEffect), ("proxy", Fault::ServerErrorAfterEffect)]
    {
        stripe.fail_next_of("POST", "/v1/customers", 1, fault);
        let form = "name=Ada&metadata[a]=1";
        let lost = timeout(Duration::from_millis(100), send_once(stripe, CREATE, form, key)).await;
        match (fault, lost) {
            (Fault::CloseAfterEffect, Ok(None)) | (Fault::HangAfterEffect, Err(_)) => {}
            (_, Ok(Some(page))) => assert_eq!((page.status, page.header("content-type")), (500, Some("text/html"))),
            (fault, lost) => panic!("{fault:?}: {lost:?}"),
        }
        let again = create(stripe, "Ada", key).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
        assert_eq!(stripe.effects_of(key).len(), 1);
    }
    let delete = format!("DELETE /v1/subscriptions/{}", shop.subscription);
    stripe.fail_next_of("DELETE", "/", 1, Fault::CloseAfterEffect);
    assert_eq!(send_once(stripe, &delete, "", "k1").await, None);
    let again = send_once(stripe, &delete, "", "k1").await.unwrap();
    assert_eq!((again.status, again.header("idempotency-key")), (404, None), "keys have no effect on DELETE");
}

#[tokio::test]
async fn a_key_is_in_use_while_its_request_is_running() {
    let stripe = FakeStripe::start().await;
    stripe.fail_next(1, Fault::StillRunning);
    let mut client = Client::connect(stripe.addr()).await;
    client.send(&request(&stripe, CREATE, "name=Ada&metadata[a]=1", &[("Idempotency-Key", "k1")])).await;
    while stripe.served().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let busy = create(&stripe, "Ada", "k1").await;
    assert_eq!(error(&busy), (409, "idempotency_key_in_use".to_owned(), String::new()));
    write(&stripe, CREATE, "name=Grace").await;
    assert_eq!(stripe.effects_of("k1"), []);
    stripe.finish_running();
    let first = client.reply().await.unwrap();
    assert_eq!((first.status, first.header("original-request")), (200, Some("req_1")));
    let again = create(&stripe, "Ada", "k1").await;
    assert_eq!((&again.text, again.header("idempotent-replayed")), (&first.text, Some("true")));
    assert_eq!(stripe.effects_of("k1").len(), 1);
}

#[tokio::test]
async fn a_running_request_is_executed_although_its_client_disconnects() {
    let stripe = FakeStripe::start().await;
    stripe.fail_next(1, Fault::StillRunning);
    let form = "name=Ada&metadata[a]=1";
    let impatient = timeout(Duration::from_millis(50), send_once(&stripe, CREATE, form, "k1")).await;
    assert!(impatient.is_err(), "an answer came");
    assert_eq!(send(&stripe, CREATE, "colour=red").await.status, 400);
    stripe.finish_running();
    while stripe.effects().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(create(&stripe, "Ada", "k1").await.header("idempotent-replayed"), Some("true"));
}
