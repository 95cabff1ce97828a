//! Users of the product: verifies the JWTs of its identity provider.
//!
//! ```text
//! token ─▶ header: alg, kid ─▶ key (jwks) ─▶ signature ─▶ claims: iss, aud, exp, nbf, user ─▶ Principal
//! ```
//!
//! Called by `api::authenticate` for every request, and by `serve` and `doctor` for the state of the keys. Never logs a
//! token or a claim.

mod claims;
mod error;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;

pub use self::error::JwtError;
use self::token::Token;
use super::Principal;
use super::jwks::Jwks;
use crate::base::clock;
use crate::config::api::JwtConfig;

/// Verifies JWTs. Clones share the keys of the identity provider.
#[derive(Clone)]
pub struct JwtVerifier {
    config: Arc<JwtConfig>,
    keys: Jwks,
}

impl JwtVerifier {
    /// Creates a verifier. It loads the keys when it needs them first.
    pub fn new(config: JwtConfig) -> Self {
        let keys = Jwks::new(&config);
        Self { config: Arc::new(config), keys }
    }

    /// Verifies the token of a request. Mostly without waiting: the keys are known.
    ///
    /// # Errors
    /// Why the token is refused. [`JwtError::KeysUnavailable`] is no fault of the client.
    pub async fn verify(&self, token: &str) -> Result<Principal, JwtError> {
        self.verify_at(token, clock::now(), Instant::now()).await
    }

    /// Loads the keys, and returns the number of usable ones. Not required before [`JwtVerifier::verify`].
    ///
    /// # Errors
    /// The source and the cause, in one line.
    pub async fn load(&self) -> Result<usize, String> {
        self.keys.load(Instant::now()).await
    }

    /// Verifies the token at the time `now`; `at` is the same time for the age of the keys.
    async fn verify_at(&self, token: &str, now: OffsetDateTime, at: Instant) -> Result<Principal, JwtError> {
        let token = Token::parse(token)?;
        let keys = self.keys.current(at).await.ok_or(JwtError::KeysUnavailable)?;
        let mut checked = token.check_signature(&keys);
        if let Err(error) = &checked
            && token.may_need_newer_keys(error)
            && let Some(newer) = self.keys.newer(&keys, at).await
        {
            checked = token.check_signature(&newer);
        }
        checked?;
        claims::principal(&token.claims()?, &self.config, now)
    }
}

/// Without keys; the configuration contains no secrets, but the issuer and the source of the keys identify it.
impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JwtVerifier");
        shown.field("issuer", &self.config.issuer).field("keys", &self.keys.source()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod tests;
