//! Reads over HTTP: attempts, the waits between them, and what is counted and said of each.
//!
//! Every attempt passes the limiter and has a line in the log of level debug; giving up is a warning. Called through
//! [`StripeApi`] by the project's own code, and by async-stripe's builders through [`StripeClient`].

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
use super::transport::{BODY_LIMIT, Failure, Reply, Transport};
use super::verdict::{self, Refusal};
use super::{Answer, StripeApi, Urgency};
use crate::clock::Heard;
use crate::config::stripe::StripeConfig;
use crate::metrics::stripe::StripeMetrics;
use crate::retry::RetryPolicy;

/// The waits of one read in total. Whoever asked has a queue of its own for longer ones, and others to ask for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Three attempts in all: what takes longer is no hiccup.
const ATTEMPTS: RetryPolicy =
    RetryPolicy { max_attempts: 3, initial: Duration::from_millis(500), max: Duration::from_secs(5) };

/// Stripe, over HTTP. Clones share the connections and the budget.
#[derive(Debug, Clone)]
pub struct HttpStripe {
    transport: Arc<Transport>,
    limiter: Arc<Limiter>,
    metrics: StripeMetrics,
    attempts: RetryPolicy,
    livemode: Option<bool>,
    /// The operations that the key has no permission for, as far as it was tried.
    forbidden: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// There is no client without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no key to ask Stripe with: set STRIPE_SECRET_KEY")]
pub struct BuildError;

/// One request, however often it is sent.
struct Question<'a> {
    operation: &'static str,
    request: &'a RequestBuilder,
    account: &'a str,
    urgency: Urgency,
}

impl HttpStripe {
    /// A client for the configured key, which notes in `clock` what Stripe's says. Connects to nothing yet.
    ///
    /// # Errors
    /// Without a key.
    pub fn new(config: &StripeConfig, metrics: StripeMetrics, clock: Heard) -> Result<Self, BuildError> {
        Self::with_attempts(config, metrics, clock, ATTEMPTS)
    }

    pub(super) fn with_attempts(
        config: &StripeConfig,
        metrics: StripeMetrics,
        clock: Heard,
        attempts: RetryPolicy,
    ) -> Result<Self, BuildError> {
        let key = config.secret_key.clone().ok_or(BuildError)?;
        let transport = Transport::new(config, key, clock);
        let limiter = Limiter::new(config.rate, config.concurrency, PATIENCE);
        Ok(Self {
            transport: Arc::new(transport),
            limiter: Arc::new(limiter),
            metrics,
            attempts,
            livemode: config.livemode(),
            forbidden: Arc::default(),
        })
    }

    /// Logs once that the key lacks a permission, and once that it has it again; a metric says it meanwhile.
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

    async fn ask(&self, question: &Question<'_>) -> Result<Answer, ApiError> {
        let mut patience = PATIENCE;
        let mut number = 0;
        loop {
            number += 1;
            let slot = self.limiter.place(question.urgency).await.map_err(paused)?;
            let refusal = match self.attempt(question, number).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            drop(slot);
            let wait = refusal.error.retry_after().or(self.attempts.scattered(number, fastrand::f64()));
            if let (true, Some(wait)) = (refusal.all_wait, wait) {
                self.limiter.pause(wait);
            }
            let Some(wait) = next_attempt(&self.attempts, number, &refusal, wait, patience) else {
                return Err(given_up(question, number, refusal.error));
            };
            patience = patience.saturating_sub(wait);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, question: &Question<'_>, number: u32) -> Result<Answer, Refusal> {
        let begin = Instant::now();
        let reply = self.transport.send(question.request, question.account).await;
        let took = begin.elapsed();
        let (status, answer) = match reply {
            Ok(reply) => (Some(reply.status), answer(question.operation, reply)),
            Err(failure) => (None, Err(refusal(failure))),
        };
        let request_id = match &answer {
            Ok(answer) => answer.request_id.as_deref(),
            Err(refusal) => refusal.error.request_id(),
        };
        let outcome = answer.as_ref().map_or_else(|refusal| refusal.error.outcome(), |_| ApiError::OK);
        self.metrics.request(question.operation, outcome, took);
        tracing::debug!(
            operation = question.operation,
            status,
            outcome,
            stripe.request_id = request_id,
            attempt = number,
            duration = took.as_secs_f64(),
            "asked Stripe"
        );
        answer
    }
}

/// The wait before the next attempt; `None`: the caller is told. What Stripe says beats our own backoff, and a wait
/// beyond the patience is the caller's.
pub(super) fn next_attempt(
    policy: &RetryPolicy,
    number: u32,
    refusal: &Refusal,
    wait: Option<Duration>,
    patience: Duration,
) -> Option<Duration> {
    let is_last = policy.scattered(number, 0.0).is_none();
    wait.filter(|wait| refusal.again && !is_last && *wait <= patience)
}

/// Somebody was told to wait for longer than anybody does here, and has said so in the log; nothing was sent.
fn paused(left: Duration) -> ApiError {
    ApiError::RateLimited { retry_after: Some(left), request_id: None }
}

fn answer(operation: &'static str, reply: Reply) -> Result<Answer, Refusal> {
    let body = verdict::of(operation, reply.status, &reply.hints, &reply.body)
        .map_err(|refusal| refusal.asked_at(reply.at))?;
    Ok(Answer { body, at: reply.at, request_id: reply.hints.request_id, forbidden: None })
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Unwritable => Refusal::last(ApiError::unaskable("not sent: it does not fit into a request")),
        Failure::Unanswered(why) => Refusal::unanswered(why),
        Failure::TooLong { status, request_id } => {
            let why = format!("its answer is longer than {} MiB", BODY_LIMIT / 1024 / 1024);
            Refusal::last(ApiError::Rejected { status, code: Some(why), request_id })
        }
    }
}

/// Says it once; that there is no such object is an answer like others, and a missing permission is logged by itself.
fn given_up(question: &Question<'_>, attempts: u32, error: ApiError) -> ApiError {
    if !matches!(error, ApiError::NotFound { .. } | ApiError::Forbidden { .. }) {
        tracing::warn!(
            operation = question.operation,
            stripe.request_id = error.request_id(),
            attempts,
            error = %error,
            "Stripe gives no answer"
        );
    }
    error
}

#[async_trait]
impl StripeApi for HttpStripe {
    async fn read(&self, account: &str, read: &Read, urgency: Urgency) -> Result<Answer, ApiError> {
        let request = read.request().ok_or_else(|| ApiError::unaskable("not sent: an id is empty"))?;
        let operation = read.operation();
        let question = Question { operation, request: &request, account, urgency };
        let answer = match self.ask(&question).await {
            // perhaps only something that was to be expanded is forbidden: that is read by itself, and fails by itself
            Err(error) if error.is_forbidden() => match without_other_objects(&request) {
                Some(request) => {
                    let answer = self.ask(&Question { request: &request, ..question }).await;
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

/// The door for async-stripe's typed builders. It only reads, like everything here; an account of the request's own
/// goes along, a strategy or timeout of its own does not.
impl StripeClient for HttpStripe {
    type Err = ApiError;

    async fn execute(&self, request: CustomizedStripeRequest) -> Result<Bytes, ApiError> {
        let (request, overrides) = request.into_pieces();
        if !matches!(request.method, StripeMethod::Get) {
            return Err(ApiError::unaskable("not sent: this client only reads"));
        }
        let account = overrides.account_id.map(|account| account.to_string()).unwrap_or_default();
        let urgency = Urgency::Normal;
        let question = Question { operation: Read::OTHER, request: &request, account: &account, urgency };
        self.ask(&question).await.map(|answer| Bytes::from(answer.body))
    }
}
