//! The parts of a JWT (RFC 7515, compact form), its header, and the check of its signature. PURE.
//!
//! Nothing of the payload is parsed before the signature is verified. `jku`, `jwk`, `x5u` and `x5c` in the header are
//! ignored: keys come only from the configured source. Called by [`super::JwtVerifier`].

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::error::JwtError;
use crate::api::principal::jwks::{Algorithm, KeySet};

/// Maximum size of a token. Larger ones do not fit in the header limits of most proxies.
const MAX_BYTES: usize = 8 * 1024;

/// A JWT whose signature is not verified yet.
pub(super) struct Token<'a> {
    /// Header and payload as they were signed.
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
    algorithm: Algorithm,
    kid: Option<String>,
}

impl<'a> Token<'a> {
    /// Splits the token and reads its header.
    ///
    /// # Errors
    /// [`JwtError::Malformed`] and [`JwtError::Algorithm`].
    pub(super) fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_BYTES {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        // five parts are an encrypted token
        if payload.contains('.') {
            return Err(JwtError::Malformed);
        }
        let header = object(header)?;
        // RFC 7515 section 4.1.11: a token with an extension that the recipient does not know is invalid
        if header.contains_key("crit") || !text(&header, "typ")?.is_none_or(is_supported_type) {
            return Err(JwtError::Malformed);
        }
        let algorithm = text(&header, "alg")?.ok_or(JwtError::Malformed)?;
        let algorithm = Algorithm::parse(algorithm).ok_or(JwtError::Algorithm)?;
        let kid = text(&header, "kid")?.map(str::to_owned);
        Ok(Self { signed, payload, signature, algorithm, kid })
    }

    /// Verifies the signature with the key that the token names. The key determines the algorithm; a header with
    /// another one is refused.
    ///
    /// # Errors
    /// [`JwtError::UnknownKey`], [`JwtError::Algorithm`] and [`JwtError::Signature`].
    pub(super) fn check_signature(&self, keys: &KeySet) -> Result<(), JwtError> {
        let mut error = JwtError::UnknownKey;
        for key in keys.candidates(self.kid.as_deref()) {
            if key.algorithm() != self.algorithm {
                // of two keys with one kid, the one that fits decides the error
                if error == JwtError::UnknownKey {
                    error = JwtError::Algorithm;
                }
            } else if key.verifies(self.signed, self.signature) {
                return Ok(());
            } else {
                error = JwtError::Signature;
            }
        }
        Err(error)
    }

    /// Whether newer keys may verify a token that was refused with this error. Without a `kid`, a new key of the
    /// identity provider shows only in an invalid signature.
    pub(super) fn may_need_newer_keys(&self, error: &JwtError) -> bool {
        match error {
            JwtError::UnknownKey => true,
            JwtError::Signature | JwtError::Algorithm => self.kid.is_none(),
            _ => false,
        }
    }

    /// Reads the claims, after the signature was verified.
    ///
    /// # Errors
    /// [`JwtError::Malformed`].
    pub(super) fn claims(&self) -> Result<Map<String, Value>, JwtError> {
        object(self.payload)
    }
}

/// Access tokens (RFC 9068) and JWTs without a particular type. The same issuer may sign others, such as logout tokens,
/// which must not be accepted in place of these (RFC 8725 section 3.12).
fn is_supported_type(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.strip_prefix("application/").unwrap_or(&name), "jwt" | "at+jwt")
}

fn object(part: &str) -> Result<Map<String, Value>, JwtError> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| JwtError::Malformed)
}

/// A header parameter, which must be a text if it is there.
fn text<'a>(header: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, JwtError> {
    header.get(name).map(|value| value.as_str().ok_or(JwtError::Malformed)).transpose()
}
