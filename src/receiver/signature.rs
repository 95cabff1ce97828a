//! STAND-IN of the branch `cli`, to be replaced whole by the receiver's branch, which has the same names and shapes.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The signing secret of one endpoint (`whsec_…`).
#[derive(Clone)]
pub struct WebhookSecret(SecretString);

/// A secret with nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the webhook secret is blank")]
pub struct BlankSecret;

impl WebhookSecret {
    /// A secret without the blanks around it.
    ///
    /// # Errors
    /// [`BlankSecret`] when nothing is left.
    pub fn new(secret: &str) -> Result<Self, BlankSecret> {
        match secret.trim() {
            "" => Err(BlankSecret),
            secret => Ok(Self(SecretString::from(secret))),
        }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

/// The header that Stripe would send with `body` at `timestamp` (seconds since 1970).
pub fn sign(secret: &WebhookSecret, timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.0.expose_secret().as_bytes())
        .expect("HMAC takes keys of every length (RFC 2104)");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("t={timestamp},v1={}", hex::encode(mac.finalize().into_bytes()))
}
