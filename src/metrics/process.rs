//! Metrics of this process. Every series exists from the start with the value 0, so that a rate has a first value. A
//! process exports only the metrics of its parts: the counters of a part that does not run would stay 0 for ever.
//!
//! Owns names, help texts and label values; called by the module that does the counted work. Label values come from
//! closed enums, never from a request.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::batch::{BatchMetrics, Stopwatch};
use super::connections::ConnectionMetrics;
use super::drift::{DriftMetrics, SampleStats};
use super::families::{counter, counters, delays, durations, gauge};
use super::limits::LimitMetrics;
use super::parts::Parts;
use super::reconcile::{ReconcileMetrics, RunOutcome};
use super::signatures::SignatureMetrics;
use crate::domain::event::{Outcome, Reason};
use crate::domain::renewal::Renewed;
use crate::stripe::catalogue;

/// The answer to a request to the public listener: the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// 200, the event is new and durable.
    Stored,
    /// 200, the event was already stored.
    Duplicate,
    /// 400, the header is missing or invalid, or no signature matches.
    BadSignature,
    /// 400, the signature is valid, but its timestamp is not recent.
    Stale,
    /// 400, the signature is valid, but the body is not an event.
    Malformed,
    /// 400, an ambiguous request head, which a proxy could parse differently.
    BadRequest,
    /// 400, the body is incomplete; usually the client has closed the connection.
    Aborted,
    /// 413, the body is larger than `BILLING_SYNC_BODY_LIMIT`.
    TooLarge,
    /// 408, the body did not arrive within `BILLING_SYNC_BODY_TIMEOUT`.
    Slow,
    /// 503, too many requests, bytes of bodies, or events waiting to be stored.
    Busy,
    /// 503, the database could not be reached in time.
    Unavailable,
    /// 503, the database rejected only this event.
    Refused,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
}

impl WebhookOutcome {
    /// All outcomes, in the order in which they are listed.
    pub const ALL: [Self; 14] = [
        Self::Stored,
        Self::Duplicate,
        Self::BadSignature,
        Self::Stale,
        Self::Malformed,
        Self::BadRequest,
        Self::Aborted,
        Self::TooLarge,
        Self::Slow,
        Self::Busy,
        Self::Unavailable,
        Self::Refused,
        Self::NotFound,
        Self::MethodNotAllowed,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::BadSignature => "bad_signature",
            Self::Stale => "stale",
            Self::Malformed => "malformed",
            Self::BadRequest => "bad_request",
            Self::Aborted => "aborted",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
        }
    }
}

/// The result of a failed attempt: the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyResult {
    /// The event is retried later.
    Retry,
    /// The event is dead.
    Dead,
    /// The infrastructure failed; the attempt is not counted.
    Transient,
}

impl ApplyResult {
    /// All results, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Retry, Self::Dead, Self::Transient];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::Transient => "transient",
        }
    }
}

/// The metrics of this process.
#[derive(Debug, Clone)]
pub struct ProcessMetrics {
    webhook_requests: IntCounterVec,
    webhook_request_duration: Histogram,
    events_processed: IntCounterVec,
    event_reasons: IntCounterVec,
    event_delay: Histogram,
    batches: BatchMetrics,
    order_ambiguous: IntCounter,
    stripe_usable: IntGauge,
    attempts_failed: IntCounterVec,
    limits: LimitMetrics,
    reconcile: ReconcileMetrics,
    drift: DriftMetrics,
    /// Connections to the public listener; [`ConnectionMetrics::of`] returns those of the ops listener.
    pub connections: ConnectionMetrics,
    /// Deliveries that fail the signature check.
    pub signatures: SignatureMetrics,
}

impl ProcessMetrics {
    /// Declares the metrics of all parts and sets every series to 0.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Self::of(registry, Parts::ALL)
    }

    /// Declares the metrics of these parts. Those of other parts are counted too, but not exported.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn of(registry: &Registry, parts: Parts) -> Result<Self, prometheus::Error> {
        let nowhere = Registry::new();
        let exported = |runs: bool| if runs { registry } else { &nowhere };
        let (receiver, worker) = (exported(parts.receiver), exported(parts.worker));
        Ok(Self {
            webhook_requests: counters(
                receiver,
                "billing_sync_webhook_requests_total",
                "Requests to the webhook listener, by outcome; stored counts new events, each of which is durable.",
                "outcome",
                WebhookOutcome::ALL.map(WebhookOutcome::as_str),
            )?,
            webhook_request_duration: durations(
                receiver,
                "billing_sync_webhook_request_duration_seconds",
                "Seconds from a request's head to its answer.",
            )?,
            signatures: SignatureMetrics::new(receiver)?,
            events_processed: events_processed(worker)?,
            event_reasons: counters(
                worker,
                "billing_sync_event_reasons_total",
                "Remarks on processed events, by reason: why an event had no effect, or what was unusual in it.",
                "reason",
                Reason::ALL.map(Reason::as_str),
            )?,
            event_delay: delays(
                worker,
                "billing_sync_event_delay_seconds",
                "Seconds from receiving an event until it is done.",
            )?,
            batches: BatchMetrics::new(worker)?,
            order_ambiguous: counter(
                worker,
                "billing_sync_order_ambiguous_total",
                "Times that the order of events within one second was ambiguous.",
            )?,
            attempts_failed: counters(
                worker,
                "billing_sync_attempts_failed_total",
                "Failed attempts, by result: retry (with backoff), dead, or transient (the attempt is not counted).",
                "result",
                ApplyResult::ALL.map(ApplyResult::as_str),
            )?,
            // also by a worker without a key: its jobs wait for one
            stripe_usable: gauge(
                exported(parts.worker || parts.reconcile || parts.writes),
                "billing_sync_stripe_api_usable",
                "1 while Stripe's API is used: there is a key, Stripe accepts it, and it does not belong to another \
                 account. 0 also before the first job, and without a key.",
            )?,
            limits: LimitMetrics::new(exported(parts.renewals))?,
            reconcile: ReconcileMetrics::new(exported(parts.reconcile))?,
            drift: DriftMetrics::new(exported(parts.sampler))?,
            connections: ConnectionMetrics::new(registry, &parts.listeners())?,
        })
    }

    /// Counts one event that is done; `delay` is the time since it was received, in seconds.
    pub fn event_processed(&self, event_type: &str, outcome: Outcome, delay: f64) {
        self.events_processed.with_label_values(&[catalogue::family(event_type), outcome.as_str()]).inc();
        self.event_delay.observe(delay);
    }

    /// Counts one remark on an event.
    pub fn event_reason(&self, reason: Reason) {
        self.event_reasons.with_label_values(&[reason.as_str()]).inc();
    }

    /// Counts one committed batch, and the ambiguities in it.
    pub fn batch(&self, watch: &Stopwatch, ambiguous: u64) {
        self.batches.batch(watch);
        self.order_ambiguous.inc_by(ambiguous);
    }

    /// Sets whether Stripe's API can be used: there is a key, and it is not blocked.
    pub fn stripe_usable(&self, usable: bool) {
        self.stripe_usable.set(i64::from(usable));
    }

    /// Counts the results of a batch of renewals.
    pub fn limits_renewed(&self, renewed: &Renewed) {
        self.limits.renewed(renewed);
    }

    /// Counts one missed event that was loaded.
    pub fn event_missed(&self, event_type: &str) {
        self.reconcile.missed(event_type);
    }

    /// Counts one comparison of an account's events with Stripe's list.
    pub fn reconciled(&self, outcome: RunOutcome) {
        self.reconcile.run(outcome);
    }

    /// Counts a sample of customers that was compared with Stripe.
    pub fn verified(&self, verified: &SampleStats) {
        self.drift.verified(verified);
    }

    /// Counts one failed attempt at a batch or an event.
    pub fn attempt_failed(&self, result: ApplyResult) {
        self.attempts_failed.with_label_values(&[result.as_str()]).inc();
    }

    /// Counts one answered request to the webhook listener.
    pub fn webhook_request(&self, outcome: WebhookOutcome, duration: Duration) {
        self.webhook_requests.with_label_values(&[outcome.as_str()]).inc();
        self.webhook_request_duration.observe(duration.as_secs_f64());
    }
}

/// The outcomes that events of a family can have.
fn outcomes_of(family: &str) -> &'static [Outcome] {
    match family {
        catalogue::UNHANDLED => &[Outcome::Ignored],
        catalogue::OTHER => &[Outcome::Ignored, Outcome::Unknown],
        _ => &Outcome::ALL,
    }
}

fn events_processed(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let help = "Events that are done, by family of their type and by outcome: applied, superseded, ignored, unknown. \
                unhandled stands for all families of which no event changes a row, other for types of no known family.";
    let counters = IntCounterVec::new(Opts::new("billing_sync_events_processed_total", help), &["family", "outcome"])?;
    for family in catalogue::families() {
        for outcome in outcomes_of(family) {
            counters.with_label_values(&[family, outcome.as_str()]).reset();
        }
    }
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

#[cfg(test)]
mod tests;
