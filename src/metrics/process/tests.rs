//! Tests which series a process exports: each from the start, and only those of its parts.

use std::collections::BTreeSet;

use super::*;
use crate::client::{self, ApiError, Read, Write};
use crate::metrics::batch::Step;
use crate::metrics::connections::{EndReason, ListenerName, Protocol};
use crate::metrics::drift::TABLES;
use crate::metrics::signatures::Sign;

/// The series of one metric with one label.
fn labelled(name: &str, label: &str, values: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    values.into_iter().map(|value| format!("billing_sync_{name}_total{{{label}=\"{value}\"}}")).collect()
}

#[test]
fn every_series_starts_at_zero() {
    let registry = Registry::new();
    ProcessMetrics::new(&registry).unwrap();
    client::metrics(&registry, &Write::OPERATIONS).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let samples: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ')).collect();
    assert!(samples.iter().all(|sample| sample.is_some_and(|(_, value)| value == "0")), "{text}");
    // a histogram counts once for all its buckets
    let is_of_histogram = |series: &str| series.contains("_bucket{") || series.ends_with("_sum");
    let found: BTreeSet<&str> =
        samples.iter().flatten().map(|(series, _)| *series).filter(|series| !is_of_histogram(series)).collect();

    let handled = catalogue::handled_families().flat_map(|family| Outcome::ALL.map(|outcome| (family, outcome)));
    let others = [("unhandled", Outcome::Ignored), ("other", Outcome::Ignored), ("other", Outcome::Unknown)];
    let processed = handled.chain(others).map(|(family, outcome)| {
        format!("billing_sync_events_processed_total{{family=\"{family}\",outcome=\"{}\"}}", outcome.as_str())
    });
    let operations = Read::served().into_iter().chain(Write::OPERATIONS);
    let requests = operations.flat_map(|operation| ApiError::OUTCOMES.map(|outcome| (operation, outcome)));
    let requests = requests.chain(Write::OPERATIONS.map(|operation| (operation, "unknown")));
    let requests = requests.map(|(operation, outcome)| {
        format!("billing_sync_stripe_requests_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}")
    });
    let connections = ListenerName::ALL.into_iter().flat_map(|listener| {
        Protocol::ALL.map(|protocol| {
            let (listener, protocol) = (listener.as_str(), protocol.as_str());
            format!("billing_sync_connections_total{{listener=\"{listener}\",protocol=\"{protocol}\"}}")
        })
    });
    let ended = ListenerName::ALL.into_iter().flat_map(|listener| {
        EndReason::ALL.map(|reason| {
            let (listener, reason) = (listener.as_str(), reason.as_str());
            format!("billing_sync_connections_ended_total{{listener=\"{listener}\",reason=\"{reason}\"}}")
        })
    });
    let histograms =
        ["webhook_request_duration", "event_delay", "batch_duration", "stripe_request_duration", "limit_renewal_delay"];
    let expected: Vec<String> = [
        labelled("webhook_requests", "outcome", WebhookOutcome::ALL.map(WebhookOutcome::as_str)),
        labelled("batch_step_seconds", "step", Step::ALL.map(Step::as_str)),
        labelled("webhook_signature_failures", "sign", Sign::ALL.map(Sign::as_str)),
        labelled("event_reasons", "reason", Reason::ALL.map(Reason::as_str)),
        labelled("reconcile_missed_events", "family", catalogue::handled_families()),
        labelled("drift_customers", "outcome", ["compared", "failed"]),
        labelled("reconcile_runs", "outcome", RunOutcome::ALL.map(RunOutcome::as_str)),
        labelled("limit_renewals", "outcome", ["renewed", "inactive", "trial_end"]),
        labelled("attempts_failed", "result", ApplyResult::ALL.map(ApplyResult::as_str)),
        histograms.map(|name| format!("billing_sync_{name}_seconds_count")).to_vec(),
        [
            "order_ambiguous_total",
            "limit_corrections_total",
            "stripe_api_usable",
            "drift_samples_total",
            "webhook_signatures_failing",
        ]
        .map(|name| format!("billing_sync_{name}"))
        .to_vec(),
        TABLES.map(|table| format!("billing_sync_drift_rows{{table=\"{table}\"}}")).to_vec(),
        Read::served()
            .into_iter()
            .chain(Write::OPERATIONS)
            .map(|operation| format!("billing_sync_stripe_forbidden{{operation=\"{operation}\"}}"))
            .collect(),
    ]
    .concat();
    let expected: Vec<String> =
        expected.into_iter().chain(processed).chain(requests).chain(connections).chain(ended).collect();
    assert_eq!(found, expected.iter().map(String::as_str).collect());
}

/// The names of the metrics of a process with these parts.
fn names(parts: Parts) -> BTreeSet<String> {
    let registry = Registry::new();
    let metrics = ProcessMetrics::of(&registry, parts).unwrap();
    // a part that does not run still counts, without an effect on what is exported
    metrics.webhook_request(WebhookOutcome::Stored, Duration::ZERO);
    metrics.attempt_failed(ApplyResult::Dead);
    registry.gather().iter().map(|family| family.name().replace("billing_sync_", "")).collect()
}

#[test]
fn a_process_exports_only_the_metrics_of_its_parts() {
    let none = Parts {
        receiver: false,
        worker: false,
        renewals: false,
        reconcile: false,
        sampler: false,
        api: false,
        writes: false,
    };
    let of_all: BTreeSet<String> = ["connections_ended_total", "connections_total"].map(str::to_owned).into();
    assert_eq!(names(none), of_all);
    let own = |parts: Parts| names(parts).difference(&of_all).cloned().collect::<Vec<_>>().join(" ");
    for (parts, expected) in [
        (
            Parts { receiver: true, ..none },
            "webhook_request_duration_seconds webhook_requests_total webhook_signature_failures_total \
             webhook_signatures_failing",
        ),
        (
            Parts { worker: true, ..none },
            "attempts_failed_total batch_duration_seconds batch_step_seconds_total event_delay_seconds \
             event_reasons_total events_processed_total order_ambiguous_total stripe_api_usable",
        ),
        (Parts { renewals: true, ..none }, "limit_corrections_total limit_renewal_delay_seconds limit_renewals_total"),
        (Parts { reconcile: true, ..none }, "reconcile_missed_events_total reconcile_runs_total stripe_api_usable"),
        (Parts { sampler: true, ..none }, "drift_customers_total drift_rows drift_samples_total"),
        (Parts { writes: true, ..none }, "stripe_api_usable"),
    ] {
        assert_eq!(own(parts), expected, "{parts:?}");
    }
}

#[test]
fn connections_are_counted_for_the_listeners_of_the_process() {
    let registry = Registry::new();
    ProcessMetrics::of(&registry, Parts { receiver: false, ..Parts::ALL }).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let has = |listener: &str| text.contains(&format!("connections_total{{listener=\"{listener}\""));
    assert_eq!([has("webhooks"), has("api"), has("ops")], [false, true, true], "{text}");
}
