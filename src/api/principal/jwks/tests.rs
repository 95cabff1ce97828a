//! When the keys are loaded, who waits for it, and what a failed load leaves.

use std::fs;

use super::testing::{Provider, TestKey, config, config_with_file, jwks, wait_until};
use super::*;
use crate::config::api::KeySource;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn has(keys: Option<&Arc<KeySet>>, kid: &str) -> bool {
    keys.is_some_and(|keys| keys.candidates(Some(kid)).count() == 1)
}

#[tokio::test]
async fn keys_are_loaded_at_first_use_and_once() {
    let (a, begin) = (TestKey::p256("a"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let keys = Jwks::new(&provider.config());
    assert_eq!(provider.requests(), 0, "the first use connects");
    for second in 0..60 {
        assert!(has(keys.current(begin + second * SECOND).await.as_ref(), "a"));
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn concurrent_requests_share_a_load_and_survive_a_cancelled_one() {
    let (a, begin) = (TestKey::p256("a"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    provider.set_open(false);
    let keys = Jwks::new(&provider.config());
    let first = tokio::spawn({
        let keys = keys.clone();
        async move { keys.current(begin).await.is_some() }
    });
    provider.received(1).await;
    let others: Vec<_> = (0..20)
        .map(|_| {
            let keys = keys.clone();
            tokio::spawn(async move { has(keys.current(begin).await.as_ref(), "a") })
        })
        .collect();
    first.abort();
    assert!(first.await.is_err());
    provider.set_open(true);
    for other in others {
        assert!(other.await.unwrap());
    }
    assert_eq!(provider.requests(), 1);
}

#[test]
fn a_load_that_was_interrupted_is_begun_again() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (lasting, ending, begin) = (runtime(), runtime(), Instant::now());
    let a = TestKey::p256("a");
    let provider = lasting.block_on(Provider::start(&[&a]));
    provider.set_open(false);
    let keys = Jwks::new(&provider.config());
    ending.spawn({
        let keys = keys.clone();
        async move { keys.current(begin).await.is_some() }
    });
    lasting.block_on(provider.received(1));
    ending.shutdown_timeout(SECOND);
    provider.set_open(true);
    assert!(has(lasting.block_on(keys.current(begin)).as_ref(), "a"));
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn newer_keys_are_loaded_at_most_once_a_minute() {
    let (a, b, begin) = (TestKey::p256("a"), TestKey::p256("b"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let keys = Jwks::new(&provider.config());
    let old = keys.current(begin).await.unwrap();
    provider.publish(&[&b]);
    for second in 0..60 {
        assert!(keys.newer(&old, begin + second * SECOND).await.is_none());
    }
    assert_eq!(provider.requests(), 1);
    let new = keys.newer(&old, begin + MINUTE).await;
    assert!(has(new.as_ref(), "b") && !has(new.as_ref(), "a"));
    // another request that still has the old keys gets the new ones without a load
    assert!(has(keys.newer(&old, begin + MINUTE).await.as_ref(), "b"));
    assert!(keys.newer(&new.unwrap(), begin + 119 * SECOND).await.is_none());
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn a_request_with_a_known_key_does_not_wait_for_a_load() {
    let (a, begin) = (TestKey::p256("a"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let keys = Jwks::new(&provider.config());
    let old = keys.current(begin).await.unwrap();
    provider.set_open(false);
    let waiting = tokio::spawn({
        let (keys, old) = (keys.clone(), Arc::clone(&old));
        async move { keys.newer(&old, begin + MINUTE).await.is_some() }
    });
    provider.received(2).await;
    let known = tokio::time::timeout(SECOND, keys.current(begin + MINUTE)).await.unwrap();
    assert!(Arc::ptr_eq(&known.unwrap(), &old));
    assert!(!waiting.is_finished());
    provider.set_open(true);
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn old_keys_are_replaced_in_the_background() {
    let (a, b, begin) = (TestKey::p256("a"), TestKey::p256("b"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let keys = Jwks::new(&provider.config());
    keys.current(begin).await.unwrap();
    provider.publish(&[&b]);
    assert!(has(keys.current(begin + 14 * MINUTE).await.as_ref(), "a"));
    assert_eq!(provider.requests(), 1);
    provider.set_open(false);
    let known = tokio::time::timeout(SECOND, keys.current(begin + 15 * MINUTE)).await.unwrap();
    assert!(has(known.as_ref(), "a"), "it does not wait");
    provider.received(2).await;
    provider.set_open(true);
    wait_until(|| has(keys.0.lock().keys().as_ref(), "b")).await;
    assert!(!has(keys.current(begin + 15 * MINUTE).await.as_ref(), "a"), "a removed key is no longer accepted");
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn after_an_idle_hour_a_request_waits_for_the_check() {
    let (a, b, begin) = (TestKey::p256("a"), TestKey::p256("b"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let keys = Jwks::new(&provider.config());
    keys.current(begin).await.unwrap();
    provider.publish(&[&b]);
    provider.set_open(false);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let keys = keys.clone();
            tokio::spawn(async move { keys.current(begin + 60 * MINUTE).await })
        })
        .collect();
    provider.received(2).await;
    provider.set_open(true);
    for checked in waiting {
        let checked = checked.await.unwrap();
        assert!(has(checked.as_ref(), "b") && !has(checked.as_ref(), "a"));
    }
    // while the provider fails, only the first request after an idle hour waits
    provider.respond("503 Service Unavailable", "");
    assert!(has(keys.current(begin + 120 * MINUTE).await.as_ref(), "b"));
    provider.set_open(false);
    let known = tokio::time::timeout(SECOND, keys.current(begin + 122 * MINUTE)).await.unwrap();
    assert!(has(known.as_ref(), "b"));
}

#[tokio::test]
async fn the_last_keys_stay_while_loads_fail() {
    let (a, b, begin) = (TestKey::p256("a"), TestKey::p256("b"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let keys = Jwks::new(&provider.config());
    let old = keys.current(begin).await.unwrap();
    for (minute, (status, body)) in [
        ("500 Internal Server Error", jwks(&[&b])),
        ("204 No Content", String::new()),
        ("302 Found\r\nlocation: /keys", jwks(&[&b])),
        ("200 OK", "<html>".to_owned()),
        ("200 OK", format!("{}{}", " ".repeat(256 * 1024), jwks(&[&b]))),
        ("200 OK\r\ncontent-length: 99999", jwks(&[&b])),
    ]
    .into_iter()
    .enumerate()
    {
        provider.respond(status, &body);
        let now = begin + (u32::try_from(minute).unwrap() + 1) * MINUTE;
        assert!(keys.newer(&old, now).await.is_none(), "{status}");
        assert!(Arc::ptr_eq(&keys.current(now).await.unwrap(), &old), "{status}");
        assert_eq!(provider.requests(), minute + 2, "each was tried, and no redirect was followed");
    }
    provider.publish(&[&b]);
    assert!(has(keys.newer(&old, begin + 9 * MINUTE).await.as_ref(), "b"));
}

#[tokio::test]
async fn without_keys_a_load_is_tried_again_after_five_seconds() {
    let (a, begin) = (TestKey::p256("a"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    provider.respond("503 Service Unavailable", "");
    let keys = Jwks::new(&provider.config());
    for second in 0..5 {
        assert!(keys.current(begin + second * SECOND).await.is_none());
    }
    assert_eq!(provider.requests(), 1);
    provider.publish(&[&a]);
    assert!(has(keys.current(begin + 5 * SECOND).await.as_ref(), "a"));
}

#[tokio::test]
async fn keys_that_the_provider_withdrew_are_not_kept() {
    let (a, begin) = (TestKey::p256("a"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let keys = Jwks::new(&provider.config());
    let old = keys.current(begin).await.unwrap();
    provider.publish(&[]);
    assert!(keys.newer(&old, begin + MINUTE).await.is_none());
    assert!(keys.current(begin + MINUTE).await.is_none());
}

#[tokio::test]
async fn a_load_that_is_requested_reports_count_or_cause() {
    let (a, now) = (TestKey::p256("a"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let keys = Jwks::new(&provider.config());
    // the interval does not apply, because an operator asks
    assert_eq!((keys.load(now).await, keys.load(now).await), (Ok(1), Ok(1)));
    provider.respond("302 Found\r\nlocation: https://elsewhere.example/", "");
    let error = keys.load(now).await.unwrap_err();
    let expected = "it answered 302, and redirects are not followed; set BILLING_SYNC_API_JWT_KEYS to the final URL";
    assert_eq!(error, format!("{}: {expected}", keys.source()));
    provider.respond("200 OK", r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#);
    let error = keys.load(now).await.unwrap_err();
    assert!(error.contains("/keys: none of its 1 keys is usable: RSA keys of at least 2048 bits"), "{error}");
    provider.respond("404 Not Found", "");
    assert!(keys.load(now).await.unwrap_err().ends_with("/keys: it answered 404 instead of 200"));
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_is_named_without_its_secrets() {
    let url = "http://ada:hunter2@127.0.0.1:1/keys?token=hunter2#hunter2".parse().unwrap();
    let keys = Jwks::new(&config(KeySource::Url(url)));
    let error = keys.load(Instant::now()).await.unwrap_err();
    assert!(error.starts_with("http://127.0.0.1:1/keys: ") && error.contains("onnection refused"), "{error}");
    assert!(!error.contains("hunter2") && !error.contains("ada") && !error.contains('\n'), "{error}");
    assert_eq!(keys.source(), "http://127.0.0.1:1/keys");
}

#[tokio::test]
async fn a_provider_that_does_not_answer_times_out() {
    let a = TestKey::p256("a");
    let provider = Provider::start(&[&a]).await;
    provider.set_open(false);
    let begin = Instant::now();
    let error = Jwks::new(&provider.config()).load(begin).await.unwrap_err();
    assert!(error.ends_with("no answer within 5 s"), "{error}");
    assert!(begin.elapsed() < 30 * SECOND);
}

#[tokio::test]
async fn keys_come_from_a_file_too() {
    let (a, b, begin) = (TestKey::p256("a"), TestKey::ed25519("b"), Instant::now());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), jwks(&[&a])).unwrap();
    let keys = Jwks::new(&config_with_file(file.path()));
    let old = keys.current(begin).await;
    assert!(has(old.as_ref(), "a"));
    fs::write(file.path(), jwks(&[&a, &b])).unwrap();
    assert!(has(keys.newer(&old.unwrap(), begin + MINUTE).await.as_ref(), "b"));
    fs::write(file.path(), vec![b' '; 256 * 1024 + 1]).unwrap();
    let path = file.path().display();
    assert_eq!(keys.load(begin).await, Err(format!("{path}: it has more than 262144 bytes")));
    fs::remove_file(file.path()).unwrap();
    assert!(keys.load(begin).await.unwrap_err().starts_with(&format!("{path}: No such file")));
    assert!(has(keys.current(begin + MINUTE).await.as_ref(), "b"));
}
