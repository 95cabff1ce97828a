//! The API client: rate-limited and retried requests to Stripe, answered as raw JSON with the time of the request.
//!
//! ```text
//! Read ─▶ request (async-stripe's builders) ─▶ limiter (budget, slots) ─▶ transport (pool) ─▶ response ─▶ Answer
//!                                                  ▲                                    │
//!                                                  └── retry: backoff, or Retry-After ──┘
//! ```
//!
//! Writes (`write`, `send_write`) take the same way with a second key and an idempotency key. `crate::writes` makes
//! them, because it keeps both until the outcome is known; only `doctor --fix` sends a write of its own, and reports a
//! lost one. The client does not interpret the objects in a response: the views do. [`StripeApi`] is a trait so that
//! tests can answer reads themselves.

mod error;
mod headers;
mod http;
mod limiter;
mod permission;
mod rate_limit;
mod read;
mod response;
mod route;
mod send_write;
mod transport;
mod write;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use prometheus::Registry;
use time::OffsetDateTime;

pub use self::error::ApiError;
pub use self::http::{BuildError, HttpStripe};
pub use self::permission::Permission;
pub use self::read::{ListKind, MOST_TYPES, PAGE, PaymentsOf, Read, Span};
pub use self::route::{Connector, http_connector};
pub use self::send_write::KeyedWrite;
pub use self::write::outcome::{WriteAnswer, WriteError};
pub use self::write::webhook_endpoint::{create_webhook_endpoint, enable_events};
pub use self::write::{AfterCompletion, NewCheckoutSession, NewPaymentLink, Write, WriteRequest, is_checkout_locale};
use crate::metrics::stripe::StripeMetrics;

/// The API version of every response, whatever the account's default. It is the newest that the views support, and the
/// one whose requests async-stripe 1.0.0-rc.10 builds. The expanded fields in [`Read`] depend on it: a discount has its
/// coupon under `source`, and an invoice has its payments in a separate list.
pub const API_VERSION: &str = "2026-09-30.endive";

/// Priority of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Before all others, in slots of its own: a client of the product waits for the answer.
    Interactive,
    /// In order of arrival.
    Normal,
    /// After all others, with at most a quarter of the budget: only confirms data that is known already.
    Confirm,
}

/// A response of Stripe.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// A JSON object as Stripe sent it, except that client secrets are null; its syntax is checked.
    pub body: String,
    /// Time of the request, by Stripe's clock: the response's `Date` minus the duration of the request, rounded down to
    /// the second. Without a valid `Date`, by this machine's clock. The staleness margin (`BILLING_SYNC_READ_MARGIN`)
    /// is not subtracted yet: the caller does that.
    pub at: OffsetDateTime,
    /// Stripe's request id.
    pub request_id: Option<String>,
    /// The error because of which other objects are not expanded, if the key may not read them.
    pub forbidden: Option<ApiError>,
}

/// Without the body, because it contains personal data.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Answer");
        shown.field("at", &self.at).field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// Answers reads: Stripe, or a test.
#[async_trait]
pub trait StripeApi: Send + Sync {
    /// Executes one read. `account` is a connected account (`acct_…`), or empty for the key's own.
    ///
    /// # Errors
    /// See [`ApiError`] for how to react to each.
    async fn read(&self, account: &str, read: &Read, urgency: Urgency) -> Result<Answer, ApiError>;

    /// The mode of the key, as in Stripe's `livemode`; `None` if unknown.
    fn livemode(&self) -> Option<bool> {
        None
    }
}

/// Registers the client's metrics, with every outcome of every read of `serve`, and of these operations of writes, at 0.
/// A process that only reads has no `writes`.
///
/// # Errors
/// If the registry has them already: one process has one client.
pub fn metrics(registry: &Registry, writes: &[&str]) -> Result<StripeMetrics, prometheus::Error> {
    let of_writes: Vec<&str> = ApiError::OUTCOMES.into_iter().chain(WriteError::OUTCOMES).collect();
    StripeMetrics::new(registry, &[(&Read::served(), &ApiError::OUTCOMES), (writes, &of_writes)])
}
