//! JWTs from end to end: an identity provider that the test controls, and what the API permits to its users.
//!
//! Owns the provider and its keys, which the tests of access and privacy use too. The checks of each header and claim
//! are unit tests beside the verifier; the reload after a minute is one of them, because it needs another clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use billing_sync::base::clock;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::harness::{ADA, ApiTest, BO};
use crate::support::events::with;

const ISSUER: &str = "https://id.example/";
const AUDIENCE: &str = "billing";
const LIST: &str = "/v1/workspaces";

/// A private RSA key of 2048 bits, for tests only: ring cannot generate one.
const RSA_PEM: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/api/jwt-test-key.pem"));

/// Where the modulus of that key begins in its public part in DER, and its length.
const MODULUS: std::ops::Range<usize> = 9..9 + 256;

/// A key of the identity provider.
pub(crate) struct Key {
    algorithm: Algorithm,
    private: EncodingKey,
    /// The public part in DER.
    public: Vec<u8>,
    /// The public part as JWK.
    jwk: Value,
}

impl Key {
    /// Always the same RSA key.
    fn rsa(kid: &str) -> Self {
        let public = KeyPair::from_pem(RSA_PEM).unwrap().der_bytes().to_vec();
        let jwk = json!({ "kty": "RSA", "kid": kid, "n": base64(&public[MODULUS]), "e": "AQAB" });
        let private = EncodingKey::from_rsa_pem(RSA_PEM.as_bytes()).unwrap();
        Self { algorithm: Algorithm::RS256, private, public, jwk }
    }

    /// A new P-256 key.
    pub(crate) fn p256(kid: &str) -> Self {
        let (public, private) = generate(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (x, y) = (base64(&public[1..33]), base64(&public[33..]));
        let jwk = json!({ "kty": "EC", "kid": kid, "crv": "P-256", "x": x, "y": y });
        Self { algorithm: Algorithm::ES256, private: EncodingKey::from_ec_der(&private), public, jwk }
    }

    /// A new Ed25519 key.
    fn ed25519(kid: &str) -> Self {
        let (public, private) = generate(&rcgen::PKCS_ED25519);
        let jwk = json!({ "kty": "OKP", "kid": kid, "crv": "Ed25519", "x": base64(&public) });
        Self { algorithm: Algorithm::EdDSA, private: EncodingKey::from_ed_der(&private), public, jwk }
    }

    fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": format!("{:?}", self.algorithm), "kid": self.jwk["kid"] })
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    /// A token with these claims and this header, whatever its `alg` says.
    fn sign_with(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, &self.private, self.algorithm)
    }
}

fn generate(algorithm: &'static SignatureAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    (pair.der_bytes().to_vec(), pair.serialize_der())
}

fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// base64url without padding.
fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The key set with these keys.
pub(crate) fn jwks(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>() }).to_string()
}

/// The claims of a valid token of a user.
pub(crate) fn claims(user: Uuid) -> Value {
    let now = clock::now().unix_timestamp();
    json!({ "iss": ISSUER, "aud": [AUDIENCE, "other"], "sub": user, "exp": now + 300, "email": "ada@example.com" })
}

/// The claims of a valid token of an administrator.
pub(crate) fn admin_claims(user: Uuid) -> Value {
    with(&claims(user), json!({ "roles": ["editor", "workspaces:admin"] }))
}

/// A server that publishes a key set. It answers one request after the other.
pub(crate) struct Provider {
    url: String,
    /// What it answers; `None`: it closes each connection without an answer.
    response: Arc<Mutex<Option<String>>>,
    requests: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Provider {
    /// A server that publishes these keys.
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let response: Arc<Mutex<Option<String>>> = Arc::default();
        let requests = Arc::new(AtomicUsize::new(0));
        let (shared, counter) = (Arc::clone(&response), Arc::clone(&requests));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // the head of a GET arrives at once
                let _ = stream.read(&mut [0; 4096]).await;
                counter.fetch_add(1, Ordering::SeqCst);
                let response = shared.lock().unwrap().clone();
                if let Some(response) = response {
                    let _ = stream.write_all(response.as_bytes()).await;
                }
            }
        });
        let provider = Self { url, response, requests, _serving: AbortOnDropHandle::new(serving) };
        provider.publish(keys);
        provider
    }

    /// Publishes these keys.
    fn publish(&self, keys: &[&Key]) {
        let body = jwks(keys);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        *self.response.lock().unwrap() = Some(head + &body);
    }

    /// From now on it answers nothing.
    fn disappear(&self) {
        *self.response.lock().unwrap() = None;
    }

    /// Number of requests so far.
    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// A service that accepts the tokens of this provider.
    pub(crate) async fn service(&self) -> ApiTest {
        self.service_with(&[]).await
    }

    /// The same with further settings.
    async fn service_with(&self, more: &[(&str, &str)]) -> ApiTest {
        ApiTest::start_with(&[&settings(&self.url)[..], more].concat()).await
    }
}

/// The settings of an identity provider whose keys are at this URL or path.
pub(crate) fn settings(keys: &str) -> [(&'static str, &str); 3] {
    [
        ("BILLING_SYNC_API_JWT_ISSUER", ISSUER),
        ("BILLING_SYNC_API_JWT_AUDIENCE", AUDIENCE),
        ("BILLING_SYNC_API_JWT_KEYS", keys),
    ]
}

#[tokio::test]
async fn a_user_reads_and_creates_workspaces_with_a_jwt() {
    let (key, old) = (Key::p256("a"), Uuid::from_u128(0x01d));
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    let team = test.workspace("Team", old).await;
    let user = |user: Uuid, legacy: Value| {
        test.with_token(&key.sign(&with(&claims(user), json!({ "legacy_customer_id": legacy }))))
    };
    assert_eq!(user(old, Value::Null).get(&format!("{LIST}/{team}")).await.json(200)["name"], "Team");
    let ada = user(ADA, json!(150));
    let made = ada.post(LIST, &json!({ "name": "New" })).await.json(201);
    assert_eq!(made["createdByUserId"], ADA.to_string());
    let members = "SELECT string_agg(concat_ws(' ', user_id, role, legacy_customer_id), ', ')
        FROM billing.workspace_members WHERE legacy_customer_id IS NOT NULL";
    assert_eq!(test.app.text(members).await, Some(format!("{ADA} owner 150")));
    let listed = ada.get(LIST).await.json(200);
    assert_eq!((&listed["page"]["totalElements"], &listed["data"][0]), (&json!(1), &made), "not the other's");
    assert_eq!(ada.get(&format!("{LIST}?ownerLegacyCustomerIds=150")).await.json(200)["data"][0], made);
    ada.get(&format!("{LIST}/{team}")).await.problem("not-found");
    user(BO, json!("150")).get(&format!("{LIST}/{}", made["id"].as_str().unwrap())).await.problem("not-found");
    // a repeated request belongs to the user, not to the token
    let post = async |token: &str, name: &str| {
        let headers = [("Idempotency-Key", "k")];
        test.with_token(token).send("POST", LIST, &headers, Some(&json!({ "name": name }))).await
    };
    let (first, second) = (key.sign(&claims(ADA)), key.sign(&with(&claims(ADA), json!({ "jti": "2" }))));
    let once = post(&first, "Once").await.json(201);
    let again = post(&second, "Once").await;
    assert_eq!((again.header("idempotent-replayed"), again.json(201)), (Some("true"), once.clone()));
    assert_ne!(post(&key.sign(&claims(BO)), "Once").await.json(201)["id"], once["id"]);
    test.finish().await;
}

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
async fn an_admin_role_sees_all_workspaces_and_acts_as_a_service() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    let team = test.workspace("Team", ADA).await;
    let (workspace, consume) = (format!("{LIST}/{team}"), format!("{LIST}/{team}/limits/words/consume"));
    let with_roles = |roles: Value| test.with_token(&key.sign(&with(&claims(BO), json!({ "roles": roles }))));
    for roles in [json!(["editor", "workspaces:admin"]), json!("editor workspaces:admin"), json!("workspaces:admin")] {
        let admin = with_roles(roles);
        assert_eq!(admin.get(LIST).await.json(200)["page"]["totalElements"], 1);
        assert_eq!(admin.put(&workspace, &json!({ "name": "Renamed" })).await.json(200)["name"], "Renamed");
        admin.post(&consume, &json!({ "amount": 1 })).await.problem("no-subscription");
    }
    for roles in [json!([]), json!("workspaces:administrator"), json!([["workspaces:admin"]]), json!({ "a": 1 })] {
        let user = with_roles(roles);
        user.get(&workspace).await.problem("not-found");
        user.post(&consume, &json!({ "amount": 1 })).await.problem("service-required");
    }
    test.finish().await;
}

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

#[tokio::test]
async fn the_names_of_the_claims_and_roles_are_settings() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider
        .service_with(&[
            ("BILLING_SYNC_API_JWT_USER_CLAIM", "https://example.com/user"),
            ("BILLING_SYNC_API_JWT_ROLES_CLAIM", "realm_access.roles"),
            ("BILLING_SYNC_API_JWT_LEGACY_CUSTOMER_CLAIM", "customer.number"),
            ("BILLING_SYNC_API_ADMIN_ROLES", "support,billing-admin"),
            ("BILLING_SYNC_API_JWT_AUDIENCE", "first,second"),
            ("BILLING_SYNC_API_JWT_LEEWAY", "0s"),
        ])
        .await;
    let named = json!({ "aud": "second", "sub": "auth0|ada", "https://example.com/user": ADA,
        "customer": { "number": "150" } });
    let user = with(&claims(BO), named);
    test.with_token(&key.sign(&user)).post(LIST, &json!({ "name": "New" })).await.json(201);
    let member = "SELECT concat_ws(' ', user_id, legacy_customer_id) FROM billing.workspace_members";
    assert_eq!(test.app.text(member).await, Some(format!("{ADA} 150")));
    let admin = with(&user, json!({ "https://example.com/user": BO, "realm_access": { "roles": ["support"] } }));
    let total = test.with_token(&key.sign(&admin)).get(LIST).await.json(200)["page"]["totalElements"].clone();
    assert_eq!(total, 1);
    let default = with(&admin, json!({ "realm_access": null, "roles": ["workspaces:admin", "support"] }));
    assert_eq!(test.with_token(&key.sign(&default)).get(LIST).await.json(200)["page"]["totalElements"], 0);
    let reply = test.with_token(&key.sign(&with(&claims(ADA), json!({ "aud": "first" })))).get(LIST).await;
    let problem = reply.problem("invalid-token");
    assert!(problem["detail"].as_str().unwrap().contains("claim https://example.com/user "), "{problem}");
    let late = with(&user, json!({ "exp": clock::now().unix_timestamp() - 1 }));
    test.with_token(&key.sign(&late)).get(LIST).await.problem("invalid-token");
    test.finish().await;
}
