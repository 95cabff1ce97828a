//! Metrics of the requests to Stripe. Every series exists from the start, with the value 0.
//!
//! Knows nothing of the client, which passes the closed lists of label values. Called by `crate::client`.

use std::time::Duration;

use prometheus::{Histogram, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::families::durations;

/// The metrics of the API client. Clones share their counters.
#[derive(Debug, Clone)]
pub struct StripeMetrics {
    requests: IntCounterVec,
    duration: Histogram,
    forbidden: IntGaugeVec,
}

impl StripeMetrics {
    /// Declares the metrics and sets the series to 0: lists of operations, each with its outcomes.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn new(registry: &Registry, series: &[(&[&str], &[&str])]) -> Result<Self, prometheus::Error> {
        let help = "Requests to Stripe's API, including retries, by operation and outcome.";
        let opts = Opts::new("billing_sync_stripe_requests_total", help);
        let requests = IntCounterVec::new(opts, &["operation", "outcome"])?;
        for (operations, outcomes) in series {
            for operation in *operations {
                for outcome in *outcomes {
                    requests.with_label_values(&[operation, outcome]).reset();
                }
            }
        }
        registry.register(Box::new(requests.clone()))?;
        let help = "1 while Stripe answers 403 to this operation because the key does not have the permission; else 0.";
        let forbidden = IntGaugeVec::new(Opts::new("billing_sync_stripe_forbidden", help), &["operation"])?;
        for operation in series.iter().flat_map(|(operations, _)| *operations) {
            forbidden.with_label_values(&[operation]).set(0);
        }
        registry.register(Box::new(forbidden.clone()))?;
        let help = "Seconds from a request to Stripe to its answer, without the wait for the rate limit.";
        let duration = durations(registry, "billing_sync_stripe_request_duration_seconds", help)?;
        Ok(Self { requests, duration, forbidden })
    }

    /// Sets whether Stripe refuses an operation because the key does not have the permission.
    pub fn forbidden(&self, operation: &'static str, is_forbidden: bool) {
        self.forbidden.with_label_values(&[operation]).set(i64::from(is_forbidden));
    }

    /// Counts one request.
    pub fn request(&self, operation: &'static str, outcome: &'static str, duration: Duration) {
        self.requests.with_label_values(&[operation, outcome]).inc();
        self.duration.observe(duration.as_secs_f64());
    }
}
