//! The webhook secret, a text that cannot be printed. Read by the configuration, used by the signature check.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The signing secret of one endpoint (`whsec_…`). Its bytes are the key as they are, prefix included.
#[derive(Clone)]
pub struct WebhookSecret(SecretString);

/// The error of an empty secret: with it, any sender could sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the webhook secret is blank")]
pub struct BlankSecret;

impl WebhookSecret {
    /// Creates a secret, without whitespace around it, such as the final newline of a mounted file.
    ///
    /// # Errors
    /// [`BlankSecret`] when nothing is left.
    pub fn new(secret: &str) -> Result<Self, BlankSecret> {
        match secret.trim() {
            "" => Err(BlankSecret),
            secret => Ok(Self(SecretString::from(secret))),
        }
    }

    /// The key, for signing and verifying only.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}
