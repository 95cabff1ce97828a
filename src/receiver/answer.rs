//! Answers to a sender: a status and one short line that names the check that failed.
//!
//! A line never repeats anything that was sent. Owns the mapping from outcomes to status codes.

use std::fmt;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::batch::Verdict;
use super::body::BodyError;
use super::signature::SignatureError;
use crate::listener::Refusal;
use crate::metrics::process::WebhookOutcome;
use crate::stripe::envelope::EnvelopeError;

/// For senders that honour `Retry-After`. Stripe has its own backoff.
const RETRY_AFTER_SECONDS: &str = "5";

/// An answer before conversion to HTTP.
#[derive(Debug)]
pub(super) struct Answer {
    /// The outcome that is counted. It decides the status.
    pub(super) outcome: WebhookOutcome,
    line: String,
}

impl Answer {
    pub(super) fn new(outcome: WebhookOutcome, line: &dyn fmt::Display) -> Self {
        Self { outcome, line: line.to_string() }
    }

    fn status(&self) -> StatusCode {
        use WebhookOutcome as O;
        match self.outcome {
            O::Stored | O::Duplicate => StatusCode::OK,
            O::BadSignature | O::Stale | O::Malformed | O::BadRequest | O::Aborted => StatusCode::BAD_REQUEST,
            O::NotFound => StatusCode::NOT_FOUND,
            O::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            O::Slow => StatusCode::REQUEST_TIMEOUT,
            O::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            O::Busy | O::Unavailable | O::Refused => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Converts the answer to an HTTP response.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let status = self.status();
        let mut response = Response::new(Full::new(Bytes::from(format!("{}\n", self.line))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match status {
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(ALLOW, HeaderValue::from_static("POST")),
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS))
            }
            // the rest of the body may still arrive and must not be read as the next request
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"))
            }
            _ => None,
        };
        response
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let outcome = match refusal {
            Refusal::Busy => WebhookOutcome::Busy,
            Refusal::Host | Refusal::TransferEncoding => WebhookOutcome::BadRequest,
        };
        Self::new(outcome, &refusal)
    }
}

impl From<BodyError> for Answer {
    fn from(error: BodyError) -> Self {
        let outcome = match error {
            BodyError::TooLarge => WebhookOutcome::TooLarge,
            BodyError::Slow => WebhookOutcome::Slow,
            BodyError::Aborted => WebhookOutcome::Aborted,
            BodyError::OverBudget => WebhookOutcome::Busy,
        };
        Self::new(outcome, &error)
    }
}

impl From<SignatureError> for Answer {
    fn from(error: SignatureError) -> Self {
        let outcome = match error {
            SignatureError::Stale => WebhookOutcome::Stale,
            _ => WebhookOutcome::BadSignature,
        };
        Self::new(outcome, &error)
    }
}

impl From<EnvelopeError> for Answer {
    fn from(error: EnvelopeError) -> Self {
        Self::new(WebhookOutcome::Malformed, &error)
    }
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Stored => Self::new(WebhookOutcome::Stored, &"stored"),
            Verdict::Duplicate => Self::new(WebhookOutcome::Duplicate, &"already known"),
            Verdict::Busy => Self::new(WebhookOutcome::Busy, &"the queue of events is full: try again later"),
            Verdict::Unavailable => Self::new(WebhookOutcome::Unavailable, &"could not store: try again later"),
            Verdict::Refused => Self::new(WebhookOutcome::Refused, &"the database refuses this event: see the log"),
        }
    }
}
