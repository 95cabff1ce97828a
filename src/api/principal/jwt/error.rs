//! Why a JWT was refused.

/// Why a JWT was refused. The texts may be shown to the client: they contain nothing from the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not a signed JWT of at most 8 KiB, or one with `crit` or of another type than an access or ID token.
    #[error("the token is not a valid JWT of a supported type")]
    Malformed,
    /// `alg` is unsupported, or is not the algorithm of the key.
    #[error("the token's algorithm is not that of its key; RS256, ES256 and EdDSA are supported")]
    Algorithm,
    /// The identity provider does not publish a key with this `kid`, or there is no `kid` and not exactly one key.
    #[error("the token does not name a key (kid) that the identity provider publishes")]
    UnknownKey,
    /// The signature is not that of the key.
    #[error("the token's signature is invalid")]
    Signature,
    /// `exp` is past, missing or not a number.
    #[error("the token has expired, or has no valid expiry (exp)")]
    Expired,
    /// `nbf` is in the future or not a number.
    #[error("the token is not valid yet (nbf)")]
    NotYetValid,
    /// `iss` is not the configured issuer.
    #[error("the token is from another issuer (iss)")]
    Issuer,
    /// `aud` contains none of the configured audiences.
    #[error("the token is for another audience (aud)")]
    Audience,
    /// The claim with this name, which must contain the user's id, is missing or not a UUID.
    #[error("the token's claim {0} is not the UUID of a user")]
    UserClaim(String),
    /// No keys are known, and they could not be loaded. Not the client's fault: it may try again.
    #[error("the keys of the identity provider are not available; try again later")]
    KeysUnavailable,
}
