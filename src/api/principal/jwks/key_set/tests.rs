//! Which keys of a JWKS are usable, which key a `kid` selects, and what is not a JWKS.

use serde_json::json;

use super::super::testing::{TestKey, base64, jwks};
use super::*;

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// The JWK with other members; null removes one.
fn with(key: &TestKey, changes: &Value) -> Value {
    let mut jwk = key.jwk.clone();
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    jwk
}

#[test]
fn each_key_type_has_one_algorithm() {
    for (key, algorithm) in [
        (TestKey::rsa("a"), Algorithm::Rs256),
        (TestKey::p256("a"), Algorithm::Es256),
        (TestKey::ed25519("a"), Algorithm::EdDsa),
    ] {
        let token = key.sign_text("message");
        let signature = token.rsplit_once('.').unwrap().1;
        // `alg` and `use` are optional
        for jwk in [key.jwk.clone(), with(&key, &json!({ "alg": null, "use": null }))] {
            let set = set(&[jwk]);
            let found: Vec<&Key> = set.candidates(Some("a")).collect();
            assert_eq!((found.len(), found[0].algorithm()), (1, algorithm));
            assert!(found[0].verifies("message", signature));
            assert!(!found[0].verifies("massage", signature));
            assert!(!found[0].verifies("message", &format!("{signature}=")));
            assert!(!found[0].verifies("message", ""));
        }
    }
}

#[test]
fn other_keys_are_ignored_and_the_set_stays_usable() {
    let (rsa, p256, ed25519) = (TestKey::rsa("a"), TestKey::p256("a"), TestKey::ed25519("a"));
    let short = base64([0xFF; 255]);
    let unusable = [
        json!(null),
        json!("key"),
        json!({}),
        json!({ "kty": "oct", "kid": "a", "k": base64([7; 32]), "alg": "HS256" }),
        json!({ "kty": "new", "kid": "a" }),
        json!({ "kty": 1 }),
        with(&rsa, &json!({ "use": "enc" })),
        with(&rsa, &json!({ "use": 1 })),
        with(&rsa, &json!({ "key_ops": ["sign"] })),
        with(&rsa, &json!({ "key_ops": "verify" })),
        with(&rsa, &json!({ "d": base64([1; 256]) })),
        with(&rsa, &json!({ "kid": 1 })),
        with(&rsa, &json!({ "alg": "PS256" })),
        with(&rsa, &json!({ "alg": "RS512" })),
        with(&rsa, &json!({ "alg": "HS256" })),
        with(&rsa, &json!({ "alg": "ES256" })),
        with(&rsa, &json!({ "alg": "none" })),
        with(&rsa, &json!({ "alg": 256 })),
        with(&rsa, &json!({ "n": null })),
        with(&rsa, &json!({ "n": "" })),
        with(&rsa, &json!({ "n": "AAAA" })),
        with(&rsa, &json!({ "n": "not base64!" })),
        with(&rsa, &json!({ "n": short })),
        // 2047 bits
        with(&rsa, &json!({ "n": base64([0x7F; 256]) })),
        with(&rsa, &json!({ "n": base64([0xFF; 1025]) })),
        with(&rsa, &json!({ "e": "AQ" })),
        with(&rsa, &json!({ "e": base64([4]) })),
        with(&rsa, &json!({ "e": base64([0xFF; 5]) })),
        with(&rsa, &json!({ "e": base64([0xFF; 9]) })),
        with(&rsa, &json!({ "e": "" })),
        with(&p256, &json!({ "crv": "P-384" })),
        with(&p256, &json!({ "crv": "secp256k1" })),
        with(&p256, &json!({ "crv": null })),
        with(&p256, &json!({ "x": base64([1; 31]) })),
        with(&p256, &json!({ "y": null })),
        with(&p256, &json!({ "alg": "RS256" })),
        with(&ed25519, &json!({ "crv": "X25519" })),
        with(&ed25519, &json!({ "crv": "Ed448" })),
        with(&ed25519, &json!({ "x": base64([1; 57]) })),
    ];
    for jwk in &unusable {
        assert_eq!(set(std::slice::from_ref(jwk)).len(), 0, "{jwk}");
    }
    let good = TestKey::ed25519("good");
    let all: Vec<Value> = unusable.iter().cloned().chain([good.jwk.clone()]).collect();
    let set = set(&all);
    assert_eq!((set.len(), set.ignored()), (1, unusable.len()));
    assert_eq!((set.candidates(Some("good")).count(), set.candidates(Some("a")).count()), (1, 0));
}

#[test]
fn tolerated_forms_of_keys() {
    let rsa = TestKey::rsa("a");
    let modulus = [&[0], &rsa.public[9..265]].concat();
    for (key, changes) in [
        (&rsa, json!({ "n": base64(modulus) })),
        (&rsa, json!({ "e": "AAEAAQ" })),
        (&rsa, json!({ "key_ops": ["verify"], "use": null, "x5c": ["MIIB"], "unknown": {} })),
        (&TestKey::ed25519("a"), json!({ "alg": "Ed25519" })),
        (&TestKey::ed25519("a"), json!({ "alg": "EdDSA" })),
    ] {
        let token = key.sign_text("message");
        let set = set(&[with(key, &changes)]);
        let found = set.candidates(Some("a")).next().unwrap_or_else(|| panic!("{changes}"));
        assert!(found.verifies("message", token.rsplit_once('.').unwrap().1), "{changes}");
    }
}

#[test]
fn a_point_that_is_not_on_the_curve_verifies_nothing() {
    let key = TestKey::p256("a");
    let set = set(&[with(&key, &json!({ "y": base64([7; 32]) }))]);
    let found = set.candidates(Some("a")).next().unwrap();
    assert!(!found.verifies("message", key.sign_text("message").rsplit_once('.').unwrap().1));
}

#[test]
fn a_token_without_kid_needs_a_set_with_exactly_one_usable_key() {
    let (a, b) = (TestKey::p256("a"), TestKey::rsa("b"));
    let count = |keys: &[&TestKey], kid| KeySet::parse(jwks(keys).as_bytes()).unwrap().candidates(kid).count();
    assert_eq!(count(&[&a], None), 1);
    assert_eq!(count(&[&a, &b], None), 0);
    assert_eq!(count(&[], None), 0);
    assert_eq!(count(&[&a, &b], Some("b")), 1);
    assert_eq!(count(&[&a, &b], Some("B")), 0);
    assert_eq!(count(&[&a], Some("")), 0);
    // several types may share a kid
    assert_eq!(count(&[&a, &TestKey::rsa("a")], Some("a")), 2);
    // unusable keys do not count, and a key without kid has none that could match
    let set = set(&[with(&a, &json!({ "kid": null })), json!({ "kty": "oct", "k": "AAAA" })]);
    assert_eq!((set.candidates(None).count(), set.candidates(Some("a")).count()), (1, 0));
}

#[test]
fn what_is_not_a_jwks_is_refused_with_the_reason() {
    let many = json!({ "keys": vec![json!({}); 101] }).to_string();
    let deep = format!("{{\"keys\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (json, reason) in [
        ("", "it is not JSON"),
        ("<html>", "it is not JSON"),
        (r#"{"keys": ["#, "it is not JSON"),
        (&deep, "it is not JSON"),
        ("[]", "it is not a JWKS: the array keys is missing"),
        ("null", "it is not a JWKS: the array keys is missing"),
        (r#"{"keys": {}}"#, "it is not a JWKS: the array keys is missing"),
        (r#"{"jwks_uri": "x"}"#, "it is an OpenID discovery document; use the URL that its jwks_uri contains"),
        (&many, "it has 101 keys, more than 100"),
    ] {
        assert_eq!(KeySet::parse(json.as_bytes()).err().as_deref(), Some(reason), "{json:.40}");
    }
    assert!(KeySet::parse(&[0xFF, 0xFE]).is_err());
    let hundred = json!({ "keys": vec![json!({}); 100] }).to_string();
    assert_eq!(KeySet::parse(hundred.as_bytes()).map(|set| set.ignored()), Ok(100));
}
