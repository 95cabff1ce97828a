//! The `Stripe-Signature` header: verifies it against the bytes of a body, and creates one. Stripe's SDKs differ in
//! edge cases; these rules work on bytes and are defined only here.
//!
//! PURE: `now` is an argument. Knows nothing of HTTP or JSON. Called by the receiver, and to create headers by the
//! `send` command, the demo and tests.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::secret::WebhookSecret;

/// Maximum distance of a timestamp from now, in the past or future. The default of Stripe's SDKs.
pub const TOLERANCE_SECONDS: u64 = 300;

/// Maximum number of well-formed `v1` signatures checked. Stripe sends one for each active secret, and an endpoint has
/// few.
const MAX_SIGNATURES: usize = 16;

/// Twelve digits reach to the year 33658 and fit every integer type.
const MAX_TIMESTAMP_DIGITS: usize = 12;

/// The check that a signature failed, and the fix. The texts never repeat what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is missing or blank.
    #[error("the stripe-signature header is missing: only stripe's deliveries are accepted")]
    MissingHeader,
    /// No `t`, or one that is not 1 to 12 digits.
    #[error("the stripe-signature header has no valid timestamp: t must be seconds since 1970, in digits")]
    MalformedTimestamp,
    /// Two different `t`: it is unknown which one was signed.
    #[error("the stripe-signature header has two different timestamps")]
    ConflictingTimestamps,
    /// No `v1` of 64 hex digits. `v0` is for Stripe's own tests and never counts.
    #[error("the stripe-signature header has no v1 signature of 64 hex digits")]
    NoSignature,
    /// None of the signatures was made with a configured secret.
    #[error("no signature matches: STRIPE_WEBHOOK_SECRET must be the signing secret of this endpoint")]
    NoMatch,
    /// The signature matches, but its timestamp is too far in the past or future.
    #[error("the signature's timestamp is more than 300 seconds from now: check this machine's clock")]
    Stale,
}

/// Checks that exactly these bytes were signed with one of the secrets, within 300 seconds of now. Returns the index of
/// the first secret with which they were signed: without it and those after it, the check would fail.
///
/// The timestamp is checked last, so only the holder of a secret learns this machine's time. "stale" in a metric
/// therefore means a replay or a wrong clock, never noise from other senders.
///
/// # Errors
/// The first check that failed.
pub fn verify(header: &[u8], body: &[u8], secrets: &[WebhookSecret], now_unix: i64) -> Result<usize, SignatureError> {
    let header = Header::read(header)?;
    // no early exit: the time taken must not reveal which secret or signature matched
    let first = secrets.iter().enumerate().fold(None, |first: Option<usize>, (index, secret)| {
        let signed = header.is_signed_by(secret, body);
        first.or(signed.then_some(index))
    });
    let first = first.ok_or(SignatureError::NoMatch)?;
    if header.seconds.abs_diff(now_unix) > TOLERANCE_SECONDS {
        return Err(SignatureError::Stale);
    }
    Ok(first)
}

/// Creates the header that Stripe would send with `body` at `timestamp` (seconds since 1970).
pub fn sign(secret: &WebhookSecret, timestamp: i64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let signature = hex::encode(mac(secret, timestamp.as_bytes(), body).finalize().into_bytes());
    format!("t={timestamp},v1={signature}")
}

/// HMAC-SHA256 over `t.body`.
fn mac(secret: &WebhookSecret, timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of every length (RFC 2104)");
    mac.update(timestamp);
    mac.update(b".");
    mac.update(body);
    mac
}

/// The parts of the header that the check uses.
struct Header<'a> {
    /// The timestamp as written, because leading zeros are signed too.
    timestamp: &'a [u8],
    seconds: i64,
    signatures: Vec<[u8; 32]>,
}

impl<'a> Header<'a> {
    fn read(header: &'a [u8]) -> Result<Self, SignatureError> {
        if header.trim_ascii().is_empty() {
            return Err(SignatureError::MissingHeader);
        }
        let mut timestamp = None;
        let mut signatures = Vec::new();
        for (scheme, value) in header.split(|byte| *byte == b',').filter_map(item) {
            match scheme {
                b"t" if timestamp.is_some_and(|earlier| earlier != value) => {
                    return Err(SignatureError::ConflictingTimestamps);
                }
                b"t" => timestamp = Some(value),
                b"v1" if signatures.len() < MAX_SIGNATURES => signatures.extend(digest(value)),
                _ => {}
            }
        }
        let timestamp = timestamp.ok_or(SignatureError::MalformedTimestamp)?;
        let seconds = seconds(timestamp).ok_or(SignatureError::MalformedTimestamp)?;
        if signatures.is_empty() {
            return Err(SignatureError::NoSignature);
        }
        Ok(Self { timestamp, seconds, signatures })
    }

    fn is_signed_by(&self, secret: &WebhookSecret, body: &[u8]) -> bool {
        let mac = mac(secret, self.timestamp, body);
        // `verify_slice` compares in constant time
        self.signatures.iter().fold(false, |signed, signature| signed | mac.clone().verify_slice(signature).is_ok())
    }
}

/// Scheme and value of one item, without surrounding spaces; `None` without `=`.
fn item(item: &[u8]) -> Option<(&[u8], &[u8])> {
    let item = item.trim_ascii();
    let equals = item.iter().position(|byte| *byte == b'=')?;
    Some((&item[..equals], &item[equals + 1..]))
}

/// Parses digits only: `parse` would also accept a sign.
fn seconds(timestamp: &[u8]) -> Option<i64> {
    let readable = (1..=MAX_TIMESTAMP_DIGITS).contains(&timestamp.len()) && timestamp.iter().all(u8::is_ascii_digit);
    readable.then(|| std::str::from_utf8(timestamp).ok()?.parse().ok()).flatten()
}

/// 32 bytes from 64 hex digits of either case (Go's SDK decodes too; the digest is the same).
fn digest(value: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(value, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests;
