//! Handles one request: route, body, signature, envelope, queue. In that order, so that no unauthenticated byte is
//! parsed or stored.
//!
//! Knows nothing of sockets ([`super::http`]) or SQL ([`super::batch`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};

use super::answer::Answer;
use super::batch::Queue;
use super::body::Bodies;
use super::diagnosis::{self, FailureWatch};
use super::signature::SignatureError;
use super::{body, signature};
use crate::base::clock;
use crate::config::secret::WebhookSecret;
use crate::listener::{InFlight, Refusal};
use crate::metrics::process::{ProcessMetrics, WebhookOutcome};
use crate::outbox::enqueue::Incoming;
use crate::stripe::envelope;

/// The one path of the public listener.
pub const PATH: &str = "/webhooks/stripe";

/// State shared by all connections.
pub(super) struct WebhookHandler {
    pub(super) secrets: Vec<WebhookSecret>,
    pub(super) watch: Mutex<FailureWatch>,
    pub(super) bodies: Bodies,
    pub(super) queue: Queue,
    pub(super) metrics: Arc<ProcessMetrics>,
}

impl WebhookHandler {
    /// Answers a request and counts the answer.
    pub(super) async fn handle(&self, request: Request<Body>, in_flight: &InFlight) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let answer = self.receive(request, in_flight).await.unwrap_or_else(|answer| answer);
        self.metrics.webhook_request(answer.outcome, started.elapsed());
        tracing::debug!(outcome = answer.outcome.as_str(), "webhook request answered");
        answer.into_response()
    }

    /// Answers a request that the listener refuses, and counts the answer.
    pub(super) fn refused(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        let answer = Answer::from(refusal);
        self.metrics.webhook_request(answer.outcome, Duration::ZERO);
        answer.into_response()
    }

    async fn receive(&self, request: Request<Body>, in_flight: &InFlight) -> Result<Answer, Answer> {
        let (head, body) = request.into_parts();
        if let Err(answer) = route(&head) {
            body::linger(body);
            return Err(answer);
        }
        let payload = self.bodies.read(body).await?;
        let header = signature_header(&head.headers);
        let now = clock::now().unix_timestamp();
        let verified = signature::verify(&header, payload.as_ref(), &self.secrets, now);
        self.diagnose(verified, &head.headers, payload.as_ref(), now);
        verified?;
        in_flight.authenticated();
        payload.keep();
        let envelope = envelope::read(payload.as_ref())?;
        Ok(self.queue.store(Incoming { envelope, payload: payload.into_bytes() }).await.into())
    }
}

impl WebhookHandler {
    /// Records the result of the signature check, and warns once if it always fails.
    fn diagnose(&self, verified: Result<usize, SignatureError>, headers: &HeaderMap, body: &[u8], now: i64) {
        let is_encoded = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
        if let Ok(secret) = verified {
            self.metrics.signatures.verified(secret);
        }
        let sign = verified.err().and_then(|error| diagnosis::sign_of(error, is_encoded, body));
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sign) = sign else {
            if let Some(failures) = watch.verified(now) {
                self.metrics.signatures.failing(false);
                tracing::info!(failures, "a delivery is verified again");
            }
            return;
        };
        self.metrics.signatures.failed(sign);
        if let Some(all) = watch.failed(sign, now) {
            self.metrics.signatures.failing(true);
            let (failures, silence, signs, likely) = (all.failures, all.silence, all.signs, all.most.advice());
            tracing::warn!(
                failures,
                seconds_without_verified = silence,
                signs,
                likely,
                "every delivery fails the signature check"
            );
        }
    }
}

fn route(head: &Parts) -> Result<(), Answer> {
    if head.uri.path() != PATH {
        return Err(Answer::new(WebhookOutcome::NotFound, &"not found: webhooks go to /webhooks/stripe"));
    }
    if head.method != Method::POST {
        return Err(Answer::new(WebhookOutcome::MethodNotAllowed, &"method not allowed: use POST"));
    }
    Ok(())
}

/// Joins several header lines to one list (RFC 9110, 5.3), because a proxy may join or split them. The rules for one
/// line (any `v1` may match, no two different `t`) apply to the whole list.
fn signature_header(headers: &HeaderMap) -> Vec<u8> {
    let lines: Vec<&[u8]> = headers.get_all("stripe-signature").iter().map(HeaderValue::as_bytes).collect();
    lines.join(b",".as_slice())
}
