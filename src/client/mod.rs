//! The way out: reads from Stripe's API, paced and repeated, as raw JSON with the time that they speak of.
//!
//! ```text
//! Read ─▶ request (async-stripe's builders) ─▶ limiter (budget, slots) ─▶ transport (one pool, route) ─▶ verdict ─▶ Answer
//!                                                  ▲                                                 │
//!                                                  └──── again: backoff, or what Retry-After says ───┘
//! ```
//!
//! It changes nothing at Stripe. What an answer means is not its matter: the views read it, and [`StripeApi`] is a trait
//! so that tests can answer themselves.

mod bucket;
mod error;
mod hints;
mod http;
mod limiter;
mod permission;
mod read;
mod route;
mod transport;
mod verdict;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use prometheus::Registry;
use time::OffsetDateTime;

pub use self::error::ApiError;
pub use self::http::{BuildError, HttpStripe};
pub use self::permission::Permission;
pub use self::read::{Listed, MOST_TYPES, PAGE, PaymentsOf, Read, Span};
use crate::metrics::stripe::StripeMetrics;

/// The version in which every answer comes, whatever the account's default: the newest that the views were written for,
/// and the one whose requests async-stripe 1.0.0-rc.10 builds. In it a discount names its coupon under `source`, and an
/// invoice its payments in a list of its own, so what is expanded in [`Read`] belongs to it.
pub const API_VERSION: &str = "2026-09-30.endive";

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// In the order of asking.
    Normal,
    /// After all others, and with at most a quarter of the budget: only confirms what is known already.
    Confirm,
}

/// What Stripe said.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// A JSON object as Stripe wrote it; its syntax is checked.
    pub body: String,
    /// When it was asked, by Stripe's clock: the response's `Date` less the time that the request took, rounded down to
    /// the second. Where Stripe sends no readable `Date`, by this machine's clock. Nothing is subtracted yet for reads
    /// that are stale (`BILLING_SYNC_READ_MARGIN`): that is the caller's.
    pub at: OffsetDateTime,
    /// The name under which Stripe logs the request.
    pub request_id: Option<String>,
    /// Why other objects are not expanded in it, where the key may not read them.
    pub forbidden: Option<ApiError>,
}

/// Without the body: it has personal data.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Answer");
        shown.field("at", &self.at).field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// Somebody who answers reads: Stripe, or a test.
#[async_trait]
pub trait StripeApi: Send + Sync {
    /// Reads one thing. `account` is a connected account (`acct_…`), or empty for the key's own.
    ///
    /// # Errors
    /// Each says what follows from it, see [`ApiError`].
    async fn read(&self, account: &str, read: &Read, urgency: Urgency) -> Result<Answer, ApiError>;

    /// The mode that is read, as Stripe's `livemode` says it; `None` where nothing tells.
    fn livemode(&self) -> Option<bool> {
        None
    }
}

/// The metrics of the way out, every operation and outcome at 0.
///
/// # Errors
/// When the registry has them already: one process has one client.
pub fn metrics(registry: &Registry) -> Result<StripeMetrics, prometheus::Error> {
    StripeMetrics::new(registry, &Read::OPERATIONS, &ApiError::OUTCOMES)
}
