//! Tokens with claims that are not accepted, and forged ones.

use billing_sync::base::clock;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;
use uuid::Uuid;

use super::{Key, LIST, Provider, admin_claims, base64, claims, signed};
use crate::api::harness::{ADA, BO};
use crate::support::events::with;

#[tokio::test]
async fn a_token_with_a_claim_that_is_not_accepted_is_401_and_the_claim_is_named() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    let now = clock::now().unix_timestamp();
    for (changes, cause) in [
        (json!({ "exp": now - 60 }), "expired"),
        (json!({ "exp": null }), "(exp)"),
        (json!({ "nbf": now + 90 }), "(nbf)"),
        (json!({ "iss": "https://evil.example/" }), "(iss)"),
        (json!({ "iss": "https://id.example" }), "(iss)"),
        (json!({ "aud": "billing.example" }), "(aud)"),
        (json!({ "aud": [] }), "(aud)"),
        (json!({ "sub": "ada@example.com" }), "claim sub "),
        (json!({ "sub": 1 }), "claim sub "),
        (json!({ "sub": null }), "claim sub "),
        (json!({ "sub": Uuid::nil() }), "claim sub "),
    ] {
        let reply = test.with_token(&key.sign(&with(&claims(ADA), changes))).get(LIST).await;
        let problem = reply.problem("invalid-token");
        assert!(problem["detail"].as_str().unwrap().contains(cause), "{cause}: {problem}");
        assert_eq!(reply.status, 401);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"billing-sync\", error=\"invalid_token\""));
        assert!(!reply.text.contains("example"), "{problem}");
    }
    // clocks may differ by the leeway of 30 s
    for changes in [json!({ "exp": now - 10 }), json!({ "nbf": now + 10 })] {
        test.with_token(&key.sign(&with(&claims(ADA), changes))).get(LIST).await.json(200);
    }
    test.finish().await;
}

#[tokio::test]
async fn a_forged_token_is_401() {
    let (rsa, p256, evil) = (Key::rsa("rsa"), Key::p256("p256"), Key::p256("p256"));
    let (provider, evil_provider) = (Provider::start(&[&rsa, &p256]).await, Provider::start(&[&evil]).await);
    let test = provider.service().await;
    let claims = admin_claims(ADA);
    let mut forged = vec![
        evil.sign(&claims),
        evil.sign_with(&with(&evil.header(), json!({ "jwk": evil.jwk })), &claims),
        evil.sign_with(&with(&evil.header(), json!({ "jku": evil_provider.url })), &claims),
        // another algorithm than that of the key
        rsa.sign_with(&json!({ "alg": "ES256", "kid": "p256" }), &claims),
        rsa.sign_with(&json!({ "alg": "RS256", "kid": "p256" }), &claims),
        p256.sign_with(&json!({ "alg": "RS256", "kid": "rsa" }), &claims),
        p256.sign_with(&json!({ "alg": "ES384", "kid": "p256" }), &claims),
    ];
    for none in ["none", "None", ""] {
        let message = format!("{}.{}", base64(json!({ "alg": none }).to_string()), base64(claims.to_string()));
        forged.extend([format!("{message}."), message]);
    }
    // the public key as a shared secret
    for key in [&rsa, &p256] {
        for secret in [key.public.clone(), key.jwk.to_string().into_bytes(), Vec::new()] {
            for alg in ["HS256", "RS256", "ES256"] {
                let header = json!({ "alg": alg, "kid": key.jwk["kid"] });
                forged.push(signed(&header, &claims, &EncodingKey::from_secret(&secret), Algorithm::HS256));
            }
        }
    }
    // the signature of other claims, one letter changed, and texts that are not tokens
    let valid = rsa.sign(&claims);
    let parts: Vec<&str> = valid.split('.').collect();
    let other = base64(with(&claims, json!({ "sub": BO })).to_string());
    forged.push(format!("{}.{other}.{}", parts[0], parts[2]));
    forged.extend([valid.replace('.', ".."), format!("{valid}A"), "a.b.c".to_owned(), "x".to_owned()]);
    for token in &forged {
        test.with_token(token).get(LIST).await.problem("invalid-token");
    }
    test.with_token(&valid).get(LIST).await.json(200);
    assert_eq!(evil_provider.requests(), 0, "keys come only from the configured source");
    test.finish().await;
}
