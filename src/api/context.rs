//! What the handlers share: connections, settings, and the state of this process.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::principal::jwt::JwtVerifier;
use super::problem::{Code, Problem};
use crate::metrics::api::ApiMetrics;

/// Requests that may wait for a change at once (`Prefer: wait`). Each asks the database once a second.
const MAX_WAITING: usize = 100;

/// Principals whose requests are remembered at most before those without recent requests are forgotten.
const MAX_PRINCIPALS: usize = 10_000;

/// The state of the API in this process.
#[derive(Debug)]
pub(super) struct ApiContext {
    /// Connections on which no transaction begins, so that they need no check before each use.
    pub(super) reads: PgPool,
    /// Connections for transactions.
    pub(super) writes: PgPool,
    /// Verifies JWTs; `None`: only our own tokens are accepted.
    pub(super) verifier: Option<JwtVerifier>,
    pub(super) rate: RateLimits,
    pub(super) metrics: ApiMetrics,
    /// Path prefix of the workspace API.
    pub(super) prefix: String,
    /// Prefix of the keys of new workspaces.
    pub(super) key_prefix: String,
    /// The accounts whose customers the tables contain: our own, whose id is empty, and connected ones.
    pub(super) accounts: BTreeSet<String>,
    /// Free places for requests that wait.
    pub(super) waiting: Semaphore,
    /// Cancelled when the process drains: requests that wait are answered.
    pub(super) draining: CancellationToken,
}

impl ApiContext {
    /// A free place among the requests that wait.
    pub(super) fn waiting() -> Semaphore {
        Semaphore::new(MAX_WAITING)
    }

    /// A connection for statements that only read, without a transaction.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Postgres>, Problem> {
        self.reads.acquire().await.map_err(|error| not_acquired(&self.reads, error))
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, Problem> {
        self.writes.begin().await.map_err(|error| not_acquired(&self.writes, error))
    }
}

/// Why a pool gave no connection: a timeout without any open one means that the database cannot be reached.
fn not_acquired(pool: &PgPool, error: sqlx::Error) -> Problem {
    match error {
        sqlx::Error::PoolTimedOut if pool.size() == 0 => Problem::unavailable(&error),
        error => error.into(),
    }
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
