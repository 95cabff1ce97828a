//! Reads over HTTP: attempts, the delays between them, and metrics and logs of each.
//!
//! Every attempt passes the limiter and is logged at level debug; giving up is logged as a warning. Called through
//! [`StripeApi`] by the project's own code, and by async-stripe's builders through [`StripeClient`].

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper::body::Bytes;
use stripe_client_core::{CustomizedStripeRequest, RequestBuilder, StripeClient, StripeMethod};
use tokio::time::Instant;

use super::error::ApiError;
use super::limiter::Limiter;
use super::read::{Read, without_other_objects};
use super::response::{self, Refusal};
use super::transport::{BODY_LIMIT, Failure, Reply, Transport};
use super::{Answer, StripeApi, Urgency};
use crate::base::clock::RemoteClock;
use crate::base::retry::RetryPolicy;
use crate::base::waits::Waits;
use crate::config::stripe::StripeConfig;
use crate::metrics::stripe::StripeMetrics;
use crate::stripe::secrets::without_client_secrets;

/// Total delay of one read. The caller has its own queue for longer delays, and reads other objects meanwhile.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Three attempts in all: an error that lasts longer is not a brief one.
const ATTEMPTS: RetryPolicy =
    RetryPolicy { max_attempts: 3, initial: Duration::from_millis(500), max: Duration::from_secs(5) };

/// What a read waits for, besides the delay before another attempt.
const BUDGET: &str = "the request rate (BILLING_SYNC_STRIPE_RATE)";
const ANSWER: &str = "Stripe's answer";

/// Client for Stripe's API over HTTP. Clones share the connections and the budget.
#[derive(Debug, Clone)]
pub struct HttpStripe {
    pub(super) transport: Arc<Transport>,
    pub(super) limiter: Arc<Limiter>,
    pub(super) metrics: StripeMetrics,
    pub(super) attempts: RetryPolicy,
    livemode: Option<bool>,
    /// The operations that were tried and that the key has no permission for.
    forbidden: Arc<Mutex<BTreeSet<&'static str>>>,
    /// Where each wait of a read is registered.
    waits: Waits,
}

/// Error: no API key is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("missing Stripe API key: set STRIPE_SECRET_KEY, or STRIPE_WRITE_KEY for writes")]
pub struct BuildError;

/// One request, which may be sent several times.
struct PendingRequest<'a> {
    operation: &'static str,
    request: &'a RequestBuilder,
    account: &'a str,
    urgency: Urgency,
}

impl HttpStripe {
    /// Creates a client for the configured key. It records Stripe's time in `clock`, and does not connect yet.
    ///
    /// # Errors
    /// Without a key.
    pub fn new(config: &StripeConfig, metrics: StripeMetrics, clock: RemoteClock) -> Result<Self, BuildError> {
        Self::with_attempts(config, metrics, clock, ATTEMPTS)
    }

    pub(super) fn with_attempts(
        config: &StripeConfig,
        metrics: StripeMetrics,
        clock: RemoteClock,
        attempts: RetryPolicy,
    ) -> Result<Self, BuildError> {
        let key = config.secret_key.clone().ok_or(BuildError)?;
        let transport = Transport::new(config, key, clock);
        let limiter = Limiter::new(config.rate, config.concurrency, MAX_WAIT);
        Ok(Self {
            transport: Arc::new(transport),
            limiter: Arc::new(limiter),
            metrics,
            attempts,
            livemode: config.livemode(),
            forbidden: Arc::default(),
            waits: Waits::default(),
        })
    }

    /// Registers each wait of a read in `waits`: for the budget, for Stripe's answer, and before another attempt.
    #[must_use]
    pub fn with_waits(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// Creates a client for the key of writes, which sends reads too. It shares the budget of `reads`, the client of
    /// this process for `STRIPE_SECRET_KEY`.
    ///
    /// # Errors
    /// Without a key.
    pub fn for_writes(
        config: &StripeConfig,
        metrics: StripeMetrics,
        clock: RemoteClock,
        reads: Option<&Self>,
    ) -> Result<Self, BuildError> {
        let config = StripeConfig { secret_key: config.write_key.clone(), ..config.clone() };
        let client = Self::new(&config, metrics, clock)?;
        Ok(match reads {
            Some(reads) => Self { limiter: Arc::clone(&reads.limiter), ..client },
            None => client,
        })
    }

    /// Logs once that the key does not have a permission, and once that it has it again; a metric reports the state.
    fn note_permission(&self, operation: &'static str, answer: &Result<Answer, ApiError>) {
        let mut forbidden = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Err(error) | Ok(Answer { forbidden: Some(error), .. }) if error.is_forbidden() => {
                if forbidden.insert(operation) {
                    tracing::warn!(operation, stripe.request_id = error.request_id(), %error, "permission missing");
                }
            }
            Ok(_) | Err(ApiError::NotFound { .. }) => {
                if forbidden.remove(operation) {
                    tracing::info!(operation, "the key has the permission now");
                }
            }
            Err(_) => {}
        }
        self.metrics.forbidden(operation, forbidden.contains(operation));
    }

    async fn send_with_retries(&self, pending: &PendingRequest<'_>) -> Result<Answer, ApiError> {
        let mut max_wait = MAX_WAIT;
        let mut number = 0;
        loop {
            number += 1;
            let slot = self.waits.during(BUDGET, self.limiter.acquire(pending.urgency)).await.map_err(paused)?;
            let refusal = match self.waits.during(ANSWER, self.attempt(pending, number)).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            drop(slot);
            let wait = refusal.error.retry_after().or(self.attempts.full_jitter(number, fastrand::f64()));
            if let (true, Some(wait)) = (refusal.pauses_all, wait) {
                self.limiter.pause(wait);
            }
            let Some(wait) = next_attempt(&self.attempts, number, &refusal, wait, max_wait) else {
                return Err(given_up(pending, number, refusal.error));
            };
            max_wait = max_wait.saturating_sub(wait);
            self.waits.sleep(refusal.error.awaited(), wait).await;
        }
    }

    async fn attempt(&self, pending: &PendingRequest<'_>, number: u32) -> Result<Answer, Refusal> {
        let begin = Instant::now();
        let reply = self.transport.send(pending.request, pending.account, None).await;
        let took = begin.elapsed();
        let (status, answer) = match reply {
            Ok(reply) => (Some(reply.status), answer(pending.operation, reply)),
            Err(failure) => (None, Err(refusal(failure))),
        };
        let request_id = match &answer {
            Ok(answer) => answer.request_id.as_deref(),
            Err(refusal) => refusal.error.request_id(),
        };
        let outcome = answer.as_ref().map_or_else(|refusal| refusal.error.outcome(), |_| ApiError::OK);
        self.metrics.request(pending.operation, outcome, took);
        tracing::debug!(
            operation = pending.operation,
            status,
            outcome,
            stripe.request_id = request_id,
            attempt = number,
            duration = took.as_secs_f64(),
            "request to Stripe"
        );
        answer
    }
}

/// The delay before the next attempt; `None`: the caller gets the error. Stripe's delay takes precedence over our own
/// backoff, and a delay longer than `max_wait` is left to the caller.
pub(super) fn next_attempt(
    policy: &RetryPolicy,
    number: u32,
    refusal: &Refusal,
    wait: Option<Duration>,
    max_wait: Duration,
) -> Option<Duration> {
    let is_last = policy.full_jitter(number, 0.0).is_none();
    wait.filter(|wait| refusal.again && !is_last && *wait <= max_wait)
}

/// Error for a request that was not sent during a long pause. The request that Stripe answered with the pause has
/// logged it.
fn paused(left: Duration) -> ApiError {
    ApiError::RateLimited { retry_after: Some(left), request_id: None }
}

fn answer(operation: &'static str, reply: Reply) -> Result<Answer, Refusal> {
    let body = response::of(operation, reply.status, &reply.hints, &reply.body)
        .map_err(|refusal| refusal.requested_at(reply.at))?;
    let body = without_client_secrets(Cow::Owned(body)).into_owned();
    Ok(Answer { body, at: reply.at, request_id: reply.hints.request_id, forbidden: None })
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Unwritable => Refusal::last(ApiError::not_sent("not sent: it does not fit in a request")),
        Failure::Unanswered { why, .. } => Refusal::unanswered(&why),
        Failure::TooLong { status, request_id } => {
            let why = format!("its answer is longer than {} MiB", BODY_LIMIT / 1024 / 1024);
            Refusal::last(ApiError::Rejected { status, code: Some(why), request_id })
        }
    }
}

/// Logs the final error. Not for a missing object, which is a normal answer, nor for a missing permission, which is
/// logged separately.
fn given_up(pending: &PendingRequest<'_>, attempts: u32, error: ApiError) -> ApiError {
    if !matches!(error, ApiError::NotFound { .. } | ApiError::Forbidden { .. }) {
        tracing::warn!(
            operation = pending.operation,
            stripe.request_id = error.request_id(),
            attempts,
            error = %error,
            "request to Stripe failed"
        );
    }
    error
}

#[async_trait]
impl StripeApi for HttpStripe {
    async fn read(&self, account: &str, read: &Read, urgency: Urgency) -> Result<Answer, ApiError> {
        let request = read.request().ok_or_else(|| ApiError::not_sent("not sent: an id is empty"))?;
        let operation = read.operation();
        let pending = PendingRequest { operation, request: &request, account, urgency };
        let answer = match self.send_with_retries(&pending).await {
            // perhaps only an expanded object is forbidden: that object is read separately, and fails separately
            Err(error) if error.is_forbidden() => match without_other_objects(&request) {
                Some(request) => {
                    let answer = self.send_with_retries(&PendingRequest { request: &request, ..pending }).await;
                    answer.map(|answer| Answer { forbidden: Some(error), ..answer })
                }
                None => Err(error),
            },
            answer => answer,
        };
        self.note_permission(operation, &answer);
        answer
    }

    fn livemode(&self) -> Option<bool> {
        self.livemode
    }
}

/// Entry point for async-stripe's typed builders. Read-only: a write needs an idempotency key ([`HttpStripe::write`]). The
/// request's own account is used; its own strategy or timeout is not.
impl StripeClient for HttpStripe {
    type Err = ApiError;

    async fn execute(&self, request: CustomizedStripeRequest) -> Result<Bytes, ApiError> {
        let (request, overrides) = request.into_pieces();
        if !matches!(request.method, StripeMethod::Get) {
            return Err(ApiError::not_sent("not sent: writes need an idempotency key"));
        }
        let account = overrides.account_id.map(|account| account.to_string()).unwrap_or_default();
        let urgency = Urgency::Normal;
        let pending = PendingRequest { operation: Read::OTHER, request: &request, account: &account, urgency };
        self.send_with_retries(&pending).await.map(|answer| Bytes::from(answer.body))
    }
}
