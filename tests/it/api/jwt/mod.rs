//! JWTs from end to end: an identity provider that the test controls, and what the API permits to its users.
//!
//! Owns the provider and its keys, which the tests of access and privacy use too. The checks of each header and claim
//! are unit tests beside the verifier; the reload after a minute is one of them, because it needs another clock.

mod keys;
mod refused;
mod users;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use billing_sync::base::clock;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::harness::ApiTest;
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

    /// The settings of a service that accepts the tokens of this provider.
    pub(crate) fn settings(&self) -> [(&'static str, &str); 3] {
        settings(&self.url)
    }

    /// A service that accepts the tokens of this provider.
    pub(crate) async fn service(&self) -> ApiTest {
        self.service_with(&[]).await
    }

    /// The same with further settings.
    async fn service_with(&self, more: &[(&str, &str)]) -> ApiTest {
        ApiTest::start_with(&[&self.settings()[..], more].concat()).await
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
