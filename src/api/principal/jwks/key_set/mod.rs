//! The usable keys of a JWKS (RFC 7517). PURE.
//!
//! Usable are RSA keys of 2048 to 8192 bits (RS256), P-256 keys (ES256) and Ed25519 keys (`EdDSA`) for signatures.
//! Other keys are ignored, so that one of them does not make the set unusable. Each key has exactly one algorithm, which
//! follows from its type and not from a token. Knows neither claims nor where the keys come from. Called by
//! [`super::Jwks`], and by [`super::super::jwt`] to verify signatures.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

/// Maximum number of keys, usable or not. Identity providers publish fewer than ten.
const MAX_KEYS: usize = 100;

/// Sizes of RSA keys in bits: the ones that ring verifies. Shorter keys can be broken.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Public exponents of RSA keys that ring accepts.
const RSA_EXPONENTS: std::ops::RangeInclusive<u64> = 3..=(1 << 33) - 1;

/// Bytes of a P-256 coordinate and of an Ed25519 key.
const CURVE_BYTES: usize = 32;

/// A signature algorithm that tokens may use.
///
/// HMAC is missing because its key would be a secret shared with every verifier. RSA-PSS is missing because an RSA key
/// without `alg` would then have two algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// `EdDSA` on Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The algorithm with this name in JOSE. RFC 9864 replaces the name `EdDSA` by `Ed25519`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A public key of the identity provider.
pub(crate) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    public: PublicKey,
}

/// A public key as ring reads it.
enum PublicKey {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// The uncompressed point on P-256.
    P256(UnparsedPublicKey<Vec<u8>>),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
}

impl Key {
    /// The only algorithm of this key.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the signature (base64url without padding) of the message is valid.
    pub(crate) fn verifies(&self, message: &str, signature: &str) -> bool {
        let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(signature) else { return false };
        let verified = match &self.public {
            PublicKey::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature),
            PublicKey::P256(key) | PublicKey::Ed25519(key) => key.verify(message.as_bytes(), &signature),
        };
        verified.is_ok()
    }

    /// The key of a JWK; `None` if it is not usable.
    fn parse(jwk: &Value) -> Option<Self> {
        let jwk = jwk.as_object()?;
        // every reader of the JWKS could sign tokens with a private key
        let is_public = !jwk.contains_key("d");
        let is_for_signatures = jwk.get("use").is_none_or(|purpose| purpose == "sig");
        let is_for_verification = jwk.get("key_ops").is_none_or(|operations| {
            operations.as_array().is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
        });
        if !(is_public && is_for_signatures && is_for_verification) {
            return None;
        }
        let (algorithm, public) = match text(jwk, "kty")? {
            "RSA" => (Algorithm::Rs256, rsa(jwk)?),
            "EC" if text(jwk, "crv")? == "P-256" => (Algorithm::Es256, p256(jwk)?),
            "OKP" if text(jwk, "crv")? == "Ed25519" => (Algorithm::EdDsa, ed25519(jwk)?),
            _ => return None,
        };
        let named = jwk.get("alg").map(|name| name.as_str().and_then(Algorithm::parse));
        let id = jwk.get("kid").map(|id| id.as_str().map(str::to_owned));
        if named.is_some_and(|named| named != Some(algorithm)) || id == Some(None) {
            return None;
        }
        Some(Self { id: id.flatten(), algorithm, public })
    }
}

fn rsa(jwk: &Map<String, Value>) -> Option<PublicKey> {
    let (modulus, exponent) = (whole_number(jwk, "n")?, whole_number(jwk, "e")?);
    let bits = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    let value = exponent.iter().try_fold(0_u64, |value, byte| Some(value.checked_mul(256)? | u64::from(*byte)))?;
    let is_usable = RSA_BITS.contains(&bits) && RSA_EXPONENTS.contains(&value) && value % 2 == 1;
    is_usable.then_some(PublicKey::Rsa(RsaPublicKeyComponents { n: modulus, e: exponent }))
}

/// The point is not checked here: with a point that is not on the curve, no signature is valid.
fn p256(jwk: &Map<String, Value>) -> Option<PublicKey> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    let is_point = x.len() == CURVE_BYTES && y.len() == CURVE_BYTES;
    // an uncompressed point begins with 4
    let point = [&[4], x.as_slice(), &y].concat();
    is_point.then(|| PublicKey::P256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)))
}

fn ed25519(jwk: &Map<String, Value>) -> Option<PublicKey> {
    let x = bytes(jwk, "x").filter(|x| x.len() == CURVE_BYTES)?;
    Some(PublicKey::Ed25519(UnparsedPublicKey::new(&ED25519, x)))
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name)?.as_str()
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text(jwk, name)?).ok()
}

/// The bytes of a number without leading zeros, which some issuers write and ring refuses.
fn whole_number(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    let bytes = bytes(jwk, name)?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[start..].to_vec())
}

/// The usable keys of a JWKS.
pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// Number of other keys in the JWKS.
    ignored: usize,
}

impl KeySet {
    /// Parses a JWKS. The set may be empty: then the identity provider has withdrawn all its usable keys.
    ///
    /// # Errors
    /// Why the text is not a JWKS, phrased to follow the name of its source.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(json).map_err(|_| "it is not JSON")?;
        let Some(jwks) = document.get("keys").and_then(Value::as_array) else {
            let is_discovery = document.get("jwks_uri").is_some();
            let discovery = "it is an OpenID discovery document; use the URL that its jwks_uri contains";
            return Err(if is_discovery { discovery } else { "it is not a JWKS: the array keys is missing" }.to_owned());
        };
        if jwks.len() > MAX_KEYS {
            return Err(format!("it has {} keys, more than {MAX_KEYS}", jwks.len()));
        }
        let keys: Vec<Key> = jwks.iter().filter_map(Key::parse).collect();
        let ignored = jwks.len() - keys.len();
        Ok(Self { keys, ignored })
    }

    /// Number of usable keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Number of other keys in the JWKS.
    pub(crate) fn ignored(&self) -> usize {
        self.ignored
    }

    /// The keys that may have signed a token with this `kid`. RFC 7517 allows one `kid` for keys of different types.
    ///
    /// A token without `kid` may only be signed with the one key of a set that has exactly one usable key, whatever its
    /// type. If the token's algorithm could choose among several keys, its sender would have a part in that choice.
    pub(crate) fn candidates(&self, kid: Option<&str>) -> impl Iterator<Item = &Key> {
        let is_only = self.keys.len() == 1;
        self.keys.iter().filter(move |key| kid.map_or(is_only, |kid| key.id.as_deref() == Some(kid)))
    }
}

#[cfg(test)]
mod tests;
