//! What the handlers share: connections, settings, and the state of this process.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio_util::sync::CancellationToken;

use super::principal::jwt::JwtVerifier;
use super::problem::{Code, Problem};
use crate::config::api::LiveSubscription;
use crate::database::{self, Connection, Pool, Transaction};
use crate::metrics::api::ApiMetrics;
use crate::writes::Writer;

/// Maximum number of requests that wait for a change at once (`Prefer: wait`). Each reads once a second.
const MAX_WAITING: usize = 100;
/// The same for one principal, so that others can wait too.
const MAX_WAITING_OF_ONE: usize = 10;

/// Principals whose requests are remembered at most before those without recent requests are forgotten.
const MAX_PRINCIPALS: usize = 10_000;

/// The state of the API in this process.
#[derive(Debug)]
pub(super) struct ApiContext {
    /// Connections for statements that only read, so that writes that wait for locks do not stop reads.
    pub(super) reads: Pool,
    /// Connections for transactions.
    pub(super) writes: Pool,
    /// Verifies JWTs; `None`: only our own tokens are accepted.
    pub(super) verifier: Option<JwtVerifier>,
    pub(super) rate: RateLimits,
    pub(super) metrics: ApiMetrics,
    /// Path prefix of the workspace API.
    pub(super) prefix: String,
    /// Path prefix of checkout links; `None`: they are not served.
    pub(super) links_prefix: Option<String>,
    /// Maximum number of workspaces that one user owns.
    pub(super) max_owned: i64,
    /// Prefix of the keys of new workspaces.
    pub(super) key_prefix: String,
    /// What a checkout session does with a live subscription.
    pub(super) live_subscription: LiveSubscription,
    /// Origins of the product's pages, to which a checkout may return.
    pub(super) origins: Vec<String>,
    /// Makes changes at Stripe; `None` without a key for writes.
    pub(super) writer: Option<Arc<Writer>>,
    /// The accounts whose customers the tables contain: our own, whose id is empty, and connected ones.
    pub(super) accounts: BTreeSet<String>,
    pub(super) waiting: WaitingRequests,
    /// Cancelled when the process drains: requests that wait are answered.
    pub(super) draining: CancellationToken,
}

impl ApiContext {
    /// A connection for statements that only read, without a transaction.
    pub(super) async fn connection(&self) -> Result<Connection, Problem> {
        match self.reads.acquire().await {
            Ok(conn) => Ok(conn),
            Err(error) => Err(not_acquired(&self.reads, error).await),
        }
    }

    /// What makes changes at Stripe.
    pub(super) fn writer(&self) -> Result<&Arc<Writer>, Problem> {
        self.writer.as_ref().ok_or_else(Problem::writes_not_configured)
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction<'static>, Problem> {
        match self.writes.begin().await {
            Ok(tx) => Ok(tx),
            Err(error) => Err(not_acquired(&self.writes, error).await),
        }
    }
}

/// Why a pool gave no connection. A timeout has two causes: all connections are in use, or none can be opened.
async fn not_acquired(pool: &Pool, error: sqlx::Error) -> Problem {
    if matches!(error, sqlx::Error::PoolTimedOut) && database::check_connection(pool).await.is_err() {
        return Problem::unavailable(&error);
    }
    error.into()
}

/// Shared by the handlers and layers.
pub(super) type Shared = Arc<ApiContext>;

/// The requests of each principal, limited to a rate with a burst of one second.
#[derive(Debug)]
pub(super) struct RateLimits {
    limiter: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
}

impl RateLimits {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let clock = DefaultClock::default();
        Self { limiter: RateLimiter::keyed(Quota::per_second(per_second)), clock }
    }

    /// Counts one request of a principal.
    pub(super) fn check(&self, principal: &str) -> Result<(), Problem> {
        if self.limiter.len() > MAX_PRINCIPALS {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&principal.to_owned()).map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            Problem::new(Code::RateLimited, "this principal sends too many requests (BILLING_SYNC_API_RATE)")
                .retry_after(wait)
        })
    }
}

/// The requests that wait for a change, by principal.
#[derive(Debug, Default)]
pub(super) struct WaitingRequests(Mutex<HashMap<String, usize>>);

/// One request that waits; dropped when it is answered.
#[derive(Debug)]
pub(super) struct WaitingRequest<'a> {
    requests: &'a WaitingRequests,
    principal: String,
}

impl WaitingRequests {
    /// Counts one more; `None` if too many wait.
    pub(super) fn begin(&self, principal: &str) -> Option<WaitingRequest<'_>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = waiting.values().sum();
        let of_one = waiting.entry(principal.to_owned()).or_default();
        if all >= MAX_WAITING || *of_one >= MAX_WAITING_OF_ONE {
            return None;
        }
        *of_one += 1;
        Some(WaitingRequest { requests: self, principal: principal.to_owned() })
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        let mut waiting = self.requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_one) = waiting.get_mut(&self.principal) {
            *of_one -= 1;
        }
        waiting.retain(|_, requests| *requests > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_principal_cannot_take_all_places_of_waiting_requests() {
        let requests = WaitingRequests::default();
        let mut of_one: Vec<_> = (0..MAX_WAITING_OF_ONE).map(|_| requests.begin("a").unwrap()).collect();
        assert!(requests.begin("a").is_none());
        let others: Vec<_> = (0..MAX_WAITING).filter_map(|number| requests.begin(&format!("b{number}"))).collect();
        assert_eq!(of_one.len() + others.len(), MAX_WAITING);
        of_one.pop();
        assert!(requests.begin("a").is_some());
        drop((of_one, others));
        assert!(requests.0.lock().unwrap().is_empty());
    }
}
