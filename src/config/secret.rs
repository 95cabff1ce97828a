//! The webhook secret: a text that cannot be printed. Read by the configuration, used by the signature.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The signing secret of one endpoint (`whsec_…`). Its bytes are the key as they are, prefix included.
#[derive(Clone)]
pub struct WebhookSecret(SecretString);

/// A secret with nothing in it: anybody could sign with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the webhook secret is blank")]
pub struct BlankSecret;

impl WebhookSecret {
    /// A secret without the blanks around it, which a mounted file (a final newline) or a list brings along.
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
