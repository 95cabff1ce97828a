//! Writes over HTTP: attempts with one idempotency key, the delays between them, and metrics and logs of each.
//!
//! A write may be sent any number of times: Stripe executes it once for each key, for 24 hours. The caller keeps key and
//! form until the outcome is known (`crate::writes`).

use std::time::Duration;

use tokio::time::Instant;

use super::error::ApiError;
use super::http::HttpStripe;
use super::read::Read;
use super::write::WriteRequest;
use super::write::outcome::{self, WriteAnswer, WriteError};
use super::{Urgency, response};
use crate::stripe::json::Document;
use crate::stripe::secrets;

/// No attempt begins later than this after the first one: a client waits for the answer.
const DEADLINE: Duration = Duration::from_secs(6);

/// How long a write waits for a slot, which requests without an answer may hold.
const SLOT_LIMIT: Duration = Duration::from_secs(5);

/// A write to send.
#[derive(Debug, Clone, Copy)]
pub struct KeyedWrite<'a> {
    /// A connected account, or empty for the key's own.
    pub account: &'a str,
    /// What is sent.
    pub request: &'a WriteRequest,
    /// The idempotency key.
    pub key: &'a str,
    /// Before others, if a client waits for the answer.
    pub urgency: Urgency,
    /// Whether it may have been sent before, with an unknown outcome.
    pub may_have_been_sent: bool,
}

impl HttpStripe {
    /// Sends a write until its outcome is known, or a few seconds have passed.
    ///
    /// # Errors
    /// See [`WriteError`] for what each says about the object.
    pub async fn write(&self, write: KeyedWrite<'_>) -> Result<WriteAnswer, WriteError> {
        let begin = Instant::now();
        let mut is_unknown = write.may_have_been_sent;
        let mut number = 0;
        loop {
            number += 1;
            let error = match self.attempt_write(write, number).await {
                Ok(answer) => {
                    return Ok(WriteAnswer { is_replayed: answer.is_replayed || is_unknown, ..answer });
                }
                Err(error) => error,
            };
            is_unknown |= matches!(error, WriteError::Unknown { .. });
            let requested = if let WriteError::Later { retry_after, .. } = &error { *retry_after } else { None };
            // none after the last attempt
            let backoff = self.attempts.full_jitter(number, fastrand::f64());
            let wait = backoff.map(|backoff| requested.unwrap_or(backoff));
            match wait.filter(|wait| error.is_brief() && begin.elapsed() + *wait < DEADLINE) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(if is_unknown { error.after_unknown() } else { error }),
            }
        }
    }

    /// Reads the client secret of an open checkout session, and nothing else of it. `None` if it has none any more.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn client_secret(&self, account: &str, session: &str) -> Result<Option<String>, ApiError> {
        let read = Read::CheckoutSession(session.to_owned());
        let request = read.request().ok_or_else(|| ApiError::not_sent("not sent: an id is empty"))?;
        let slot = self.limiter.acquire(Urgency::Interactive).await;
        let _slot = slot.map_err(|left| ApiError::RateLimited { retry_after: Some(left), request_id: None })?;
        let reply = self.transport.send(&request, account, None).await;
        let reply = reply.map_err(|_| ApiError::unreachable("no answer to a read of the session"))?;
        let body = response::of(read.operation(), reply.status, &reply.hints, &reply.body);
        let body = body.map_err(|refusal| refusal.error)?;
        Ok(secrets::client_secret(Document::parse_or_null(&body).root()))
    }

    async fn attempt_write(&self, write: KeyedWrite<'_>, number: u32) -> Result<WriteAnswer, WriteError> {
        let slot = tokio::time::timeout(SLOT_LIMIT, self.limiter.acquire(write.urgency)).await;
        let slot =
            slot.map_err(|_| WriteError::Unreachable { why: "all slots for changes at Stripe are in use".to_owned() })?;
        let _slot =
            slot.map_err(|left| WriteError::Later { code: "rate_limit", retry_after: Some(left), request_id: None })?;
        let begin = Instant::now();
        let reply = self.transport.send(&write.request.request(), write.account, Some(write.key)).await;
        let took = begin.elapsed();
        let (status, answer) = match reply {
            Ok(reply) => {
                let body = outcome::of(reply.status, &reply.hints, &reply.body);
                let (request_id, is_replayed) = (reply.hints.request_id, reply.hints.is_replayed);
                (Some(reply.status), body.map(|body| WriteAnswer { body, at: reply.at, request_id, is_replayed }))
            }
            Err(failure) => (None, Err(outcome::unanswered(failure))),
        };
        if status == Some(429)
            && let Err(WriteError::Later { code: "rate_limit", retry_after, .. }) = &answer
        {
            self.limiter.pause(retry_after.unwrap_or(Duration::from_secs(1)));
        }
        let operation = write.request.operation;
        let named = answer.as_ref().map_or_else(WriteError::outcome, |_| ApiError::OK);
        self.metrics.request(operation, named, took);
        let request_id = match &answer {
            Ok(answer) => answer.request_id.as_deref(),
            Err(error) => error.request_id(),
        };
        tracing::debug!(
            operation,
            status,
            outcome = named,
            stripe.request_id = request_id,
            stripe.idempotency_key = write.key,
            attempt = number,
            duration = took.as_secs_f64(),
            "write to Stripe"
        );
        answer
    }
}
