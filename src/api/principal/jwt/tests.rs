//! Whole tokens of each algorithm: accepted, refused with the right error, before and after the keys rotate.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use time::macros::datetime;

use super::*;
use crate::api::principal::Scope;
use crate::api::principal::jwks::testing::{Provider, TestKey, base64, config_with_file, jwks};

pub(super) const NOW: OffsetDateTime = datetime!(2026-11-29 12:00 UTC);
pub(super) const USER: &str = "9f3c1c52-5a3c-4f0b-8a54-0d8f8ef1a001";

pub(super) fn claims() -> Value {
    json!({
        "iss": "https://id.example/", "aud": ["billing"], "sub": USER, "exp": NOW.unix_timestamp() + 300,
        "roles": ["workspaces:admin"], "legacy_customer_id": 150, "email": "ada@example.com",
    })
}

/// A verifier of tokens that these keys signed.
pub(super) struct Verifier {
    verifier: JwtVerifier,
    _file: NamedTempFile,
}

impl Verifier {
    pub(super) fn new(keys: &[&TestKey]) -> Self {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), jwks(keys)).unwrap();
        Self { verifier: JwtVerifier::new(config_with_file(file.path())), _file: file }
    }

    pub(super) async fn verify(&self, token: &str) -> Result<Principal, JwtError> {
        self.verifier.verify_at(token, NOW, Instant::now()).await
    }
}

fn all_keys() -> [TestKey; 3] {
    [TestKey::rsa("rsa"), TestKey::p256("p256"), TestKey::ed25519("ed25519")]
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_accepted() {
    let [rsa, p256, ed25519] = all_keys();
    let verifier = Verifier::new(&[&rsa, &p256, &ed25519]);
    for key in [&rsa, &p256, &ed25519] {
        let principal = verifier.verify(&key.sign(&claims())).await.unwrap();
        assert_eq!((principal.id.as_str(), principal.legacy_customer), (&*format!("user:{USER}"), Some(150)));
        assert_eq!(principal.scopes, Scope::ALL);
    }
    let header =
        json!({ "alg": "Ed25519", "kid": "ed25519", "typ": "application/AT+jwt", "jku": "https://evil.example" });
    assert!(verifier.verify(&ed25519.sign_with(&header, &claims())).await.is_ok());
    assert!(verifier.verify(&p256.sign_with(&json!({ "alg": "ES256", "kid": "p256" }), &claims())).await.is_ok());
}

#[tokio::test]
async fn claims_are_checked_after_the_signature() {
    let key = TestKey::p256("a");
    let verifier = Verifier::new(&[&key]);
    for (name, value, error) in [
        ("iss", json!("https://evil.example/"), JwtError::Issuer),
        ("aud", json!("other"), JwtError::Audience),
        ("exp", json!(NOW.unix_timestamp() - 30), JwtError::Expired),
        ("nbf", json!(NOW.unix_timestamp() + 31), JwtError::NotYetValid),
        ("sub", json!("ada@example.com"), JwtError::UserClaim("sub".to_owned())),
    ] {
        let mut claims = claims();
        claims[name] = value;
        assert_eq!(verifier.verify(&key.sign(&claims)).await, Err(error.clone()));
        // of a forged token only that is said
        let forged = TestKey::p256("a").sign(&claims);
        assert_eq!(verifier.verify(&forged).await, Err(JwtError::Signature));
        assert!(!error.to_string().contains("example"), "{error}");
    }
    // signed, and no object
    for payload in ["[]", "null", "\"x\"", "{", "", "\u{7f}"] {
        let signed = format!("{}.{}", base64(key.header().to_string()), base64(payload));
        assert_eq!(verifier.verify(&key.sign_text(&signed)).await, Err(JwtError::Malformed), "{payload}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(2_000), "]".repeat(2_000));
    let signed = format!("{}.{}", base64(key.header().to_string()), base64(deep));
    assert_eq!(verifier.verify(&key.sign_text(&signed)).await, Err(JwtError::Malformed));
}

#[tokio::test]
async fn the_kid_selects_the_key() {
    let (a, b) = (TestKey::p256("a"), TestKey::p256("b"));
    let verifier = Verifier::new(&[&a, &b]);
    let of = |kid: Value| json!({ "alg": "ES256", "kid": kid });
    assert_eq!(verifier.verify(&a.sign_with(&of(json!("b")), &claims())).await, Err(JwtError::Signature));
    assert_eq!(verifier.verify(&a.sign_with(&of(json!("c")), &claims())).await, Err(JwtError::UnknownKey));
    assert_eq!(verifier.verify(&a.sign_with(&of(json!("../a")), &claims())).await, Err(JwtError::UnknownKey));
    for kid in [json!(1), json!(null), json!(["a"]), json!({})] {
        assert_eq!(verifier.verify(&a.sign_with(&of(kid), &claims())).await, Err(JwtError::Malformed));
    }
    let without = a.sign_with(&json!({ "alg": "ES256" }), &claims());
    assert_eq!(verifier.verify(&without).await, Err(JwtError::UnknownKey), "there are two keys");
    assert!(Verifier::new(&[&a]).verify(&without).await.is_ok());
    assert_eq!(Verifier::new(&[&b]).verify(&without).await, Err(JwtError::Signature));
    assert_eq!(Verifier::new(&[&TestKey::rsa("a")]).verify(&without).await, Err(JwtError::Algorithm));
    // keys of two types with one kid: the one of the token's algorithm
    let shared = Verifier::new(&[&TestKey::rsa("a"), &a, &TestKey::ed25519("a")]);
    assert!(shared.verify(&a.sign(&claims())).await.is_ok());
    assert_eq!(shared.verify(&TestKey::p256("a").sign(&claims())).await, Err(JwtError::Signature));
}

#[tokio::test]
async fn an_unknown_kid_loads_the_keys_at_most_once_a_minute() {
    let (a, b, begin) = (TestKey::p256("a"), TestKey::ed25519("b"), Instant::now());
    let provider = Provider::start(&[&a]).await;
    let verifier = JwtVerifier::new(provider.config());
    let at = |token, seconds| verifier.verify_at(token, NOW, begin + Duration::from_secs(seconds));
    let (old, new) = (a.sign(&claims()), b.sign(&claims()));
    assert!(at(&old, 0).await.is_ok());
    provider.publish(&[&b]);
    for second in 0..60 {
        assert_eq!(at(&new, second).await, Err(JwtError::UnknownKey));
        assert!(at(&old, second).await.is_ok());
    }
    assert_eq!(provider.requests(), 1);
    assert!(at(&new, 60).await.is_ok());
    assert_eq!(at(&old, 60).await, Err(JwtError::UnknownKey), "the provider removed this key");
    assert_eq!(provider.requests(), 2);
    // a wrong signature with a known kid, or an unsupported algorithm, loads nothing
    let forged = TestKey::ed25519("b").sign(&claims());
    assert_eq!(at(&forged, 300).await, Err(JwtError::Signature));
    let unsupported = b.sign_with(&json!({ "alg": "HS256", "kid": "c" }), &claims());
    assert_eq!(at(&unsupported, 300).await, Err(JwtError::Algorithm));
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn a_rotated_key_without_kid_is_found_by_its_signature() {
    let (mut a, mut b, begin) = (TestKey::p256("a"), TestKey::ed25519("b"), Instant::now());
    a.jwk.as_object_mut().unwrap().remove("kid");
    b.jwk.as_object_mut().unwrap().remove("kid");
    let provider = Provider::start(&[&a]).await;
    let verifier = JwtVerifier::new(provider.config());
    let at = |token, seconds| verifier.verify_at(token, NOW, begin + Duration::from_secs(seconds));
    let old = a.sign_with(&json!({ "alg": "ES256" }), &claims());
    let new = b.sign_with(&json!({ "alg": "EdDSA" }), &claims());
    assert!(at(&old, 0).await.is_ok());
    provider.publish(&[&b]);
    assert_eq!(at(&new, 59).await, Err(JwtError::Algorithm));
    assert!(at(&new, 60).await.is_ok());
    assert_eq!(at(&old, 61).await, Err(JwtError::Algorithm));
}

#[tokio::test]
async fn without_keys_the_client_is_not_blamed() {
    let (a, begin) = (TestKey::p256("a"), Instant::now());
    let provider = Provider::start(&[]).await;
    let verifier = JwtVerifier::new(provider.config());
    let token = a.sign(&claims());
    assert_eq!(verifier.verify_at(&token, NOW, begin).await, Err(JwtError::KeysUnavailable));
    assert!(verifier.load().await.unwrap_err().contains("none of its 0 keys is usable"));
    provider.publish(&[&a]);
    assert_eq!(verifier.load().await, Ok(1));
    // the last good set stays while the provider is away
    provider.respond("500 Internal Server Error", "");
    assert!(verifier.load().await.is_err());
    assert!(verifier.verify_at(&token, NOW, Instant::now()).await.is_ok());
}

#[tokio::test]
async fn the_real_clock_is_used() {
    let key = TestKey::p256("a");
    let verifier = Verifier::new(&[&key]);
    let now = clock::now().unix_timestamp();
    let mut claims = claims();
    claims["exp"] = json!(now + 60);
    assert!(verifier.verifier.verify(&key.sign(&claims)).await.is_ok());
    claims["exp"] = json!(now - 60);
    assert_eq!(verifier.verifier.verify(&key.sign(&claims)).await, Err(JwtError::Expired));
}

#[tokio::test]
async fn debug_shows_no_key_and_no_claim() {
    let key = TestKey::p256("hunter2");
    let verifier = Verifier::new(&[&key]);
    verifier.verify(&key.sign(&claims())).await.unwrap();
    let shown = format!("{:?}", verifier.verifier);
    assert!(shown.starts_with("JwtVerifier { issuer: \"https://id.example/\", keys: \"/"), "{shown}");
    for secret in ["hunter2", key.jwk["x"].as_str().unwrap(), USER, "ada"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
