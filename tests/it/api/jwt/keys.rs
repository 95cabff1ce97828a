//! The keys of the identity provider: when they are loaded, and what happens while they cannot be.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Key, LIST, Provider, claims, jwks, settings};
use crate::api::harness::{ADA, ApiTest};

#[tokio::test]
async fn a_token_of_each_algorithm_and_of_both_keys_of_a_rotation_is_accepted() {
    let keys = [Key::rsa("rsa"), Key::p256("old"), Key::p256("new"), Key::ed25519("ed25519")];
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), jwks(&keys.each_ref())).unwrap();
    let test = ApiTest::start_with(&settings(file.path().to_str().unwrap())).await;
    for key in &keys {
        test.with_token(&key.sign(&claims(ADA))).get(LIST).await.json(200);
    }
    test.with_token(&Key::p256("newer").sign(&claims(ADA))).get(LIST).await.problem("invalid-token");
    test.finish().await;
}

#[tokio::test]
async fn the_keys_are_loaded_once_for_many_tokens_with_unknown_keys() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    assert_eq!(provider.requests(), 0, "they are loaded with the first token");
    let mut requests = JoinSet::new();
    for number in 0..20 {
        let (kid, status) = if number % 2 == 0 { ("a".to_owned(), 200) } else { (number.to_string(), 401) };
        let client = test.with_token(&key.sign_with(&json!({ "alg": "ES256", "kid": kid }), &claims(ADA)));
        requests.spawn(async move { (client.get(LIST).await.status, status) });
    }
    for (status, expected) in requests.join_all().await {
        assert_eq!(status, expected);
    }
    assert_eq!(provider.requests(), 1);
    test.finish().await;
}

#[tokio::test]
async fn a_provider_that_is_away_at_start_is_503_and_recovers() {
    let key = Key::p256("a");
    let provider = Provider::start(&[]).await;
    provider.disappear();
    let test = provider.service().await;
    let ada = test.with_token(&key.sign(&claims(ADA)));
    let reply = ada.get(LIST).await;
    let problem = reply.problem("identity-provider-unavailable");
    assert_eq!((reply.status, &problem["retryable"], reply.header("retry-after")), (503, &json!(true), Some("5")));
    assert_eq!(reply.header("www-authenticate"), None, "the token is not at fault");
    for _ in 0..5 {
        ada.get(LIST).await.problem("identity-provider-unavailable");
    }
    assert!(provider.requests() <= 2, "not for each token, but every 5 s: {}", provider.requests());
    test.user(ADA).await.get(LIST).await.json(200);
    test.with_token("x.y.z").get(LIST).await.problem("invalid-token");
    provider.publish(&[&key]);
    let begin = Instant::now();
    while ada.get(LIST).await.status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(30), "the keys are not loaded again");
        sleep(Duration::from_millis(200)).await;
    }
    test.finish().await;
}

#[tokio::test]
async fn the_last_keys_stay_in_use_while_the_provider_is_away() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    let ada = test.with_token(&key.sign(&claims(ADA)));
    ada.get(LIST).await.json(200);
    drop(provider);
    test.with_token(&Key::p256("b").sign(&claims(ADA))).get(LIST).await.problem("invalid-token");
    ada.get(LIST).await.json(200);
    test.finish().await;
}
