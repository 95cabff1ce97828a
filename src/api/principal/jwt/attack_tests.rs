//! Forged and damaged tokens: algorithm confusion, `none`, changed bytes, and texts that are not tokens.

use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{Verifier, claims};
use super::*;
use crate::api::principal::jwks::testing::{RSA_PEM, TestKey, base64};

fn signed(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64(header.to_string()), base64(claims.to_string()))
}

#[tokio::test]
async fn a_public_key_is_not_accepted_as_a_shared_secret() {
    let (rsa, p256) = (TestKey::rsa("a"), TestKey::p256("b"));
    let verifier = Verifier::new(&[&rsa, &p256]);
    let pem = |der: &[u8], label: &str| {
        use ::base64::{Engine as _, prelude::BASE64_STANDARD};
        let lines: Vec<String> = BASE64_STANDARD.encode(der).as_bytes().chunks(64).map(text).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
    };
    // the same key in SPKI
    let spki_head = [0x30, 0x82, 0x01, 0x22, 0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
    let spki_tail = [0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0F, 0x00];
    let spki = [&spki_head[..], &spki_tail, &rsa.public].concat();
    let secrets = [
        pem(&rsa.public, "RSA PUBLIC KEY"),
        pem(&spki, "PUBLIC KEY"),
        spki,
        rsa.public.clone(),
        rsa.jwk["n"].as_str().unwrap().as_bytes().to_vec(),
        rsa.jwk.to_string().into_bytes(),
        p256.public.clone(),
        Vec::new(),
    ];
    for secret in &secrets {
        for (algorithm, name) in [(Algorithm::HS256, "HS256"), (Algorithm::HS384, "HS384"), (Algorithm::HS512, "HS512")]
        {
            for kid in ["a", "b", "c"] {
                // the header may also claim the key's own algorithm
                for (claimed, error) in [(name, JwtError::Algorithm), ("RS256", JwtError::Signature)] {
                    let message = signed(&json!({ "alg": claimed, "kid": kid }), &claims());
                    let key = EncodingKey::from_secret(secret);
                    let signature = crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
                    let found = verifier.verify(&format!("{message}.{signature}")).await.unwrap_err();
                    let expected = match (claimed, kid) {
                        ("RS256", "b") => JwtError::Algorithm,
                        ("RS256", "c") => JwtError::UnknownKey,
                        _ => error,
                    };
                    assert_eq!(found, expected, "{claimed} {kid}");
                }
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_token_without_signature_is_refused() {
    let key = TestKey::rsa("a");
    let verifier = Verifier::new(&[&key]);
    for none in ["none", "None", "NONE", "nOnE", ""] {
        for header in [json!({ "alg": none }), json!({ "alg": none, "kid": "a" }), json!({ "alg": none, "typ": "JWT" })]
        {
            let message = signed(&header, &claims());
            let signature = key.sign_text(&message).rsplit_once('.').unwrap().1.to_owned();
            for token in [format!("{message}."), format!("{message}.{signature}"), format!("{message}.AAAA")] {
                assert_eq!(verifier.verify(&token).await, Err(JwtError::Algorithm), "{none}");
            }
            assert_eq!(verifier.verify(&message).await, Err(JwtError::Malformed), "{none}");
        }
    }
    // the right algorithm and no signature
    let message = signed(&key.header(), &claims());
    assert_eq!(verifier.verify(&format!("{message}.")).await, Err(JwtError::Signature));
}

#[tokio::test]
async fn the_algorithm_is_that_of_the_key() {
    let keys = [TestKey::rsa("RS256"), TestKey::p256("ES256"), TestKey::ed25519("EdDSA")];
    let verifier = Verifier::new(&[&keys[0], &keys[1], &keys[2]]);
    for key in &keys {
        let own = key.jwk["kid"].as_str().unwrap();
        for alg in ["RS256", "ES256", "EdDSA", "RS384", "RS512", "PS256", "PS512", "ES384", "ES256K", "es256", "HS256"]
        {
            let token = key.sign_with(&json!({ "alg": alg, "kid": own }), &claims());
            let expected = if alg == own { Ok(()) } else { Err(JwtError::Algorithm) };
            assert_eq!(verifier.verify(&token).await.map(|_| ()), expected, "{own} {alg}");
            // the signature of one key under the kid of another
            for other in keys.iter().filter(|other| other.jwk["kid"] != own) {
                let token = key.sign_with(&json!({ "alg": alg, "kid": other.jwk["kid"] }), &claims());
                let error = verifier.verify(&token).await.unwrap_err();
                let is_claimed = other.jwk["kid"] == alg;
                assert_eq!(error, if is_claimed { JwtError::Signature } else { JwtError::Algorithm }, "{own} {alg}");
            }
        }
    }
    // RSA-PSS with the right key
    let message = signed(&json!({ "alg": "RS256", "kid": "RS256" }), &claims());
    let private = EncodingKey::from_rsa_pem(RSA_PEM.as_bytes()).unwrap();
    for algorithm in [Algorithm::PS256, Algorithm::RS384, Algorithm::RS512] {
        let signature = crypto::sign(message.as_bytes(), &private, algorithm).unwrap();
        assert_eq!(verifier.verify(&format!("{message}.{signature}")).await, Err(JwtError::Signature));
    }
}

#[tokio::test]
async fn keys_and_extensions_in_the_header_are_not_used() {
    let (key, evil) = (TestKey::p256("a"), TestKey::p256("a"));
    let verifier = Verifier::new(&[&key]);
    for (name, value) in [("jwk", evil.jwk.clone()), ("jku", json!("http://127.0.0.1:1/")), ("x5c", json!(["MIIB"]))] {
        let mut header = evil.header();
        header[name] = value;
        assert_eq!(verifier.verify(&evil.sign_with(&header, &claims())).await, Err(JwtError::Signature), "{name}");
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("typ", json!("logout+jwt")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("")),
        ("typ", json!(7)),
        ("alg", json!(7)),
        ("alg", json!(null)),
    ] {
        let mut header = key.header();
        header[name] = value.clone();
        assert_eq!(
            verifier.verify(&key.sign_with(&header, &claims())).await,
            Err(JwtError::Malformed),
            "{name} {value}"
        );
    }
    for header in ["{}", "[]", "null", "", r#"["ES256", "a"]"#, r#"{"alg": "ES256""#] {
        let message = format!("{}.{}", base64(header), base64(claims().to_string()));
        assert_eq!(verifier.verify(&key.sign_text(&message)).await, Err(JwtError::Malformed), "{header}");
    }
}

#[tokio::test]
async fn every_single_changed_byte_is_refused() {
    for key in [TestKey::rsa("a"), TestKey::p256("a"), TestKey::ed25519("a")] {
        let verifier = Verifier::new(&[&key]);
        let token = key.sign(&claims());
        assert!(verifier.verify(&token).await.is_ok());
        for (at, byte) in token.bytes().enumerate() {
            let is_last = matches!(token.as_bytes().get(at + 1), None | Some(b'.'));
            // the last character of a part has bits that base64 does not use: all its values are tried
            let others: &[u8] = if is_last {
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/. "
            } else {
                b"AB._= \0"
            };
            for other in others.iter().filter(|other| **other != byte) {
                let mut changed = token.clone().into_bytes();
                changed[at] = *other;
                let changed = String::from_utf8(changed).unwrap();
                assert!(verifier.verify(&changed).await.is_err(), "{at} of {} as {other}", token.len());
            }
            let (head, tail) = token.split_at(at);
            for changed in
                [head.to_owned(), tail[1..].to_owned(), format!("{head}{}", &tail[1..]), format!("{head}A{tail}")]
            {
                assert!(verifier.verify(&changed).await.is_err(), "{at} of {}", token.len());
            }
        }
        for changed in [format!("{token}="), format!("{token}."), format!(" {token}"), format!("{token}\n")] {
            assert!(verifier.verify(&changed).await.is_err());
        }
    }
}

#[tokio::test]
async fn what_is_not_a_token_is_malformed() {
    let key = TestKey::ed25519("a");
    let verifier = Verifier::new(&[&key]);
    let long = key.sign(&json!({ "a": "x".repeat(6_200) }));
    let endless = "a".repeat(1_000_000);
    for text in ["", ".", "..", "...", "....", "a", "a.b", "a.b.c", "a.b.c.d.e", "é.é.é", "\0.\0.\0", &long, &endless]
    {
        assert_eq!(verifier.verify(text).await, Err(JwtError::Malformed), "{text:.20}");
    }
    let signed = key.sign(&claims());
    let encrypted = format!("{}.a.b.c.d", base64(r#"{"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "a"}"#));
    for text in [encrypted, format!("{signed}.AA"), key.sign_text(&format!("{signed}.AA"))] {
        assert_eq!(verifier.verify(&text).await, Err(JwtError::Malformed), "{text}");
    }
    // 8 KiB is the limit
    let header = base64(key.header().to_string());
    let length = 8 * 1024 - header.len() - 88;
    let payload = claims().to_string();
    let padded = format!("{payload}{}", " ".repeat(length * 3 / 4 - payload.len()));
    let token = key.sign_text(&format!("{header}.{}", base64(padded)));
    assert!((8 * 1024 - 3..=8 * 1024).contains(&token.len()), "{}", token.len());
    assert!(verifier.verify(&token).await.is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_text_panics_or_is_accepted(text in ".{0,200}", header in ".{0,60}", payload in ".{0,60}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let key = TestKey::ed25519("a");
        let verifier = Verifier::new(&[&key]);
        runtime.block_on(async {
            assert!(verifier.verify(&text).await.is_err());
            assert!(verifier.verify(&format!("{}.{}.{text}", base64(&header), base64(&payload))).await.is_err());
            let message = format!("{}.{}", base64(key.header().to_string()), base64(&payload));
            assert!(verifier.verify(&key.sign_text(&message)).await.is_err());
        });
    }
}
