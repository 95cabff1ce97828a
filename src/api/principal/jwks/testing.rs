//! An identity provider for unit tests: keys that sign tokens, and a server that publishes them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::api::{JwtConfig, KeySource};
use crate::config::egress::Egress;

/// A private RSA key of 2048 bits, for tests only: ring cannot generate one.
pub(crate) const RSA_PEM: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/api/jwt-test-key.pem"));

/// Length of the head of an RSA key of 2048 bits in DER, before its modulus.
const RSA_HEAD: usize = 9;

/// A key of the identity provider.
pub(crate) struct TestKey {
    algorithm: Algorithm,
    private: EncodingKey,
    /// The public key in DER: PKCS 1 for RSA, else the bytes of the point.
    pub(crate) public: Vec<u8>,
    /// The public key as JWK.
    pub(crate) jwk: Value,
}

impl TestKey {
    /// Always the same RSA key.
    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = KeyPair::from_pem(RSA_PEM).unwrap();
        let public = pair.der_bytes().to_vec();
        let modulus = base64(&public[RSA_HEAD..RSA_HEAD + 256]);
        let jwk = json!({ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": modulus, "e": "AQAB" });
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
    pub(crate) fn ed25519(kid: &str) -> Self {
        let (public, private) = generate(&rcgen::PKCS_ED25519);
        let jwk = json!({ "kty": "OKP", "kid": kid, "use": "sig", "crv": "Ed25519", "x": base64(&public) });
        Self { algorithm: Algorithm::EdDSA, private: EncodingKey::from_ed_der(&private), public, jwk }
    }

    /// The header of this key's tokens.
    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": format!("{:?}", self.algorithm), "kid": self.jwk["kid"] })
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    /// A token with these claims and this header.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&format!("{}.{}", base64(header.to_string()), base64(claims.to_string())))
    }

    /// The text with its signature.
    pub(crate) fn sign_text(&self, signed: &str) -> String {
        let signature = crypto::sign(signed.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }
}

fn generate(algorithm: &'static SignatureAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    (pair.der_bytes().to_vec(), pair.serialize_der())
}

/// base64url without padding.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The JWKS with these keys.
pub(crate) fn jwks(keys: &[&TestKey]) -> String {
    json!({ "keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>() }).to_string()
}

/// A configuration with the default settings.
pub(crate) fn config(keys: KeySource) -> JwtConfig {
    JwtConfig {
        issuer: "https://id.example/".to_owned(),
        audiences: vec!["billing".to_owned(), "workspaces".to_owned()],
        keys,
        leeway: Duration::from_secs(30),
        user_claim: "sub".to_owned(),
        roles_claim: "roles".to_owned(),
        legacy_customer_claim: "legacy_customer_id".to_owned(),
        email_claim: "email".to_owned(),
        name_claim: "name".to_owned(),
        locale_claim: "locale".to_owned(),
        admin_roles: BTreeSet::from(["workspaces:admin".to_owned()]),
        egress: Egress::default(),
    }
}

/// A configuration with the keys in this file.
pub(crate) fn config_with_file(path: &Path) -> JwtConfig {
    config(KeySource::File(path.to_owned()))
}

/// A server with the JWKS. It answers every request with the last response that was set.
pub(crate) struct Provider {
    url: String,
    response: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    is_open: watch::Sender<bool>,
}

impl Provider {
    /// A server that publishes these keys.
    pub(crate) async fn start(keys: &[&TestKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (response, requests) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let (is_open, opened) = watch::channel(true);
        let (shared, counter) = (Arc::clone(&response), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared), Arc::clone(&counter), opened.clone()));
            }
        });
        let provider = Self { url, response, requests, is_open };
        provider.publish(keys);
        provider
    }

    /// Publishes other keys.
    pub(crate) fn publish(&self, keys: &[&TestKey]) {
        self.respond("200 OK", &jwks(keys));
    }

    /// Sets the status line, which may include header lines, and the body of the response.
    pub(crate) fn respond(&self, status: &str, body: &str) {
        let length = body.len();
        *self.response.lock().unwrap() = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    }

    /// Accepts requests and does not answer them, until it is opened again.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }

    /// Number of requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until the server has received so many requests in all.
    pub(crate) async fn received(&self, requests: usize) {
        wait_until(|| self.requests() >= requests).await;
    }

    /// A configuration with the keys of this server.
    pub(crate) fn config(&self) -> JwtConfig {
        config(KeySource::Url(self.url.parse().unwrap()))
    }
}

async fn answer(
    mut stream: TcpStream,
    response: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    mut is_open: watch::Receiver<bool>,
) {
    let (mut request, mut part) = (Vec::new(), [0; 1024]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&part[..length]),
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    if is_open.wait_for(|is_open| *is_open).await.is_ok() {
        let response = response.lock().unwrap().clone();
        let _ = stream.write_all(response.as_bytes()).await;
    }
}

/// Waits for a state that another task brings about.
pub(crate) async fn wait_until(mut is_reached: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the state was not reached within 30 s");
}
