//! What this process counts. Every series is there from the start at 0, so that a rate has a beginning.
//!
//! Owns names, help texts and label values; called by whoever does the counted thing. Label values come from
//! closed enums, never from a request.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// How one request to the public listener was answered: the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// 200, the event is new and durable.
    Stored,
    /// 200, the event was known already.
    Duplicate,
    /// 400, the header is missing or unreadable, or no signature matches.
    BadSignature,
    /// 400, truly signed, but not now.
    Stale,
    /// 400, truly signed bytes that are no event.
    Malformed,
    /// 400, the body broke off; mostly nobody is there to read the answer.
    Aborted,
    /// 413, body over the limit.
    TooLarge,
    /// 408, body over its time.
    Slow,
    /// 503, the queue is full.
    Busy,
    /// 503, the database cannot be reached, or not in time.
    Unavailable,
    /// 503, the database accepts everything but this event.
    Refused,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
}

impl WebhookOutcome {
    /// All outcomes, in the order in which they are listed.
    pub const ALL: [Self; 13] = [
        Self::Stored,
        Self::Duplicate,
        Self::BadSignature,
        Self::Stale,
        Self::Malformed,
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

/// The metrics of this process.
#[derive(Debug, Clone)]
pub struct Instance {
    webhook_requests: IntCounterVec,
    webhook_request_duration: Histogram,
}

impl Instance {
    /// Declares every metric and sets every series to 0.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let instance = Self {
            webhook_requests: counters(
                registry,
                "billing_sync_webhook_requests_total",
                "Requests to the webhook listener, by how they were answered.",
                "outcome",
                WebhookOutcome::ALL.map(WebhookOutcome::as_str),
            )?,
            webhook_request_duration: durations(
                registry,
                "billing_sync_webhook_request_duration_seconds",
                "From a request's head to its answer.",
            )?,
        };
        Ok(instance)
    }

    /// Counts one answered request to the webhook listener.
    pub fn webhook_request(&self, outcome: WebhookOutcome, duration: Duration) {
        self.webhook_requests.with_label_values(&[outcome.as_str()]).inc();
        self.webhook_request_duration.observe(duration.as_secs_f64());
    }
}

fn counters<const N: usize>(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: [&str; N],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    for value in values {
        counters.with_label_values(&[value]).reset();
    }
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn durations(registry: &Registry, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
    let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_at_zero_before_the_first_request() {
        let registry = Registry::new();
        Instance::new(&registry).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for outcome in WebhookOutcome::ALL {
            let series = format!("billing_sync_webhook_requests_total{{outcome=\"{}\"}} 0\n", outcome.as_str());
            assert!(text.contains(&series), "{series}");
        }
        assert!(text.contains("billing_sync_webhook_request_duration_seconds_count 0\n"));
    }
}
