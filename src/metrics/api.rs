//! Metrics of the workspace API.

use std::time::Duration;

use prometheus::{Histogram, IntCounterVec, Opts, Registry};

use super::families::{counters, durations};

/// Class of an answer's status: the label `status`.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// An operation of the API: its method and the template of its route, without the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// GET, POST …
    pub method: String,
    /// The template: `/v1/workspaces/{workspaceId}`.
    pub route: String,
}

/// The label values of a request that matches no route.
const UNMATCHED: &str = "unmatched";

/// Requests to the API and their answers.
#[derive(Debug, Clone)]
pub struct ApiMetrics {
    requests: IntCounterVec,
    problems: IntCounterVec,
    duration: Histogram,
    operations: Vec<Operation>,
}

impl ApiMetrics {
    /// Declares the metrics for these operations and codes of problems, every series at 0.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn new<const N: usize>(
        registry: &Registry,
        operations: Vec<Operation>,
        codes: [&'static str; N],
    ) -> Result<Self, prometheus::Error> {
        let help = "Requests to the workspace API, by method and template of the route (unmatched: no route), and by \
                    class of the answer's status.";
        let requests =
            IntCounterVec::new(Opts::new("billing_sync_api_requests_total", help), &["method", "route", "status"])?;
        let unmatched = Operation { method: UNMATCHED.to_owned(), route: UNMATCHED.to_owned() };
        for Operation { method, route } in operations.iter().chain([&unmatched]) {
            for class in CLASSES {
                requests.with_label_values(&[method.as_str(), route, class]).reset();
            }
        }
        registry.register(Box::new(requests.clone()))?;
        let problems = counters(
            registry,
            "billing_sync_api_problems_total",
            "Answers of the workspace API with a problem, by its code.",
            "code",
            codes,
        )?;
        let duration = durations(
            registry,
            "billing_sync_api_request_duration_seconds",
            "Seconds from a request of the workspace API to its answer, without requests that wait (Prefer: wait) \
             and those that match no route.",
        )?;
        Ok(Self { requests, problems, duration, operations })
    }

    /// Counts one answer. `route` is the matched template without the prefix; `waited` answers are not timed.
    pub fn answered(&self, method: &str, route: Option<&str>, status: u16, duration: Duration, waited: bool) {
        let known = route.and_then(|route| {
            self.operations.iter().find(|operation| operation.route == route && operation.method == method)
        });
        let (method, route) =
            known.map_or((UNMATCHED, UNMATCHED), |known| (known.method.as_str(), known.route.as_str()));
        let class = match status {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        self.requests.with_label_values(&[method, route, class]).inc();
        if known.is_some() && !waited {
            self.duration.observe(duration.as_secs_f64());
        }
    }

    /// Counts one problem.
    pub fn problem(&self, code: &str) {
        self.problems.with_label_values(&[code]).inc();
    }
}
