//! Metrics of the limit renewals of this process.
//!
//! Limit keys come from Stripe's metadata, so an edit of prices could create thousands of them. The first keys seen
//! therefore have their own series, and all others share one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{CounterVec, Histogram, IntCounter, IntCounterVec, Opts, Registry};

use super::families::{counter, counters, delays};
use crate::base::text::without_controls;
use crate::domain::renewal::Renewed;

/// Number of keys with their own series.
const MOST_KEYS: usize = 20;

/// The label of all further keys.
const OTHER: &str = "other";

/// How a period ended: the label `outcome`.
const OUTCOMES: [&str; 3] = ["renewed", "inactive", "trial_end"];

/// The metrics of the renewals.
#[derive(Debug, Clone)]
pub(super) struct LimitMetrics {
    renewals: IntCounterVec,
    corrections: IntCounter,
    delay: Histogram,
    spilled_over: CounterVec,
    expired: CounterVec,
    keys: Arc<Mutex<BTreeSet<String>>>,
}

impl LimitMetrics {
    /// Declares the metrics.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            renewals: counters(
                registry,
                "billing_sync_limit_renewals_total",
                "Limit periods that this process closed, by outcome: renewed, inactive (nothing is carried over), \
                 trial_end. Periods closed by billing.consume are not counted.",
                "outcome",
                OUTCOMES,
            )?,
            corrections: counter(
                registry,
                "billing_sync_limit_corrections_total",
                "Closed limit periods that were corrected because a change within them became known after their end.",
            )?,
            delay: delays(
                registry,
                "billing_sync_limit_renewal_delay_seconds",
                "Seconds from the end of a limit period until it is closed.",
            )?,
            spilled_over: amounts(
                registry,
                "billing_sync_limit_carried_over_total",
                "Amount of limits that was left at the end of a period and carried over into the next one, by limit \
                 key: the first 20 keys, all others as other.",
            )?,
            expired: amounts(
                registry,
                "billing_sync_limit_expired_total",
                "Amount of limits that was left at the end of a period and expired, by limit key: the first 20 keys, \
                 all others as other.",
            )?,
            keys: Arc::default(),
        })
    }

    /// Counts the renewals of one outcome and key.
    pub(super) fn renewed(&self, renewed: &Renewed) {
        if OUTCOMES.contains(&renewed.outcome.as_str()) {
            self.renewals.with_label_values(&[renewed.outcome.as_str()]).inc_by(count(renewed.renewals));
        }
        self.corrections.inc_by(count(renewed.corrections));
        for delay in &renewed.delays {
            self.delay.observe(delay.max(0.0));
        }
        let key = self.label(&renewed.limit_key);
        self.spilled_over.with_label_values(&[&key]).inc_by(amount(renewed.spilled_over));
        self.expired.with_label_values(&[&key]).inc_by(amount(renewed.expired));
    }

    fn label(&self, key: &str) -> String {
        // the key comes from a price's metadata, and the metrics may be shown in a terminal
        let key = &without_controls(key);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < MOST_KEYS {
            keys.insert(key.to_owned());
        }
        if keys.contains(key) { key.to_owned() } else { OTHER.to_owned() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
fn amount(of_limit: i64) -> f64 {
    of_limit.max(0) as f64
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or_default()
}

/// A counter of amounts by limit key. A key has no series before its first renewal.
fn amounts(registry: &Registry, name: &str, help: &str) -> Result<CounterVec, prometheus::Error> {
    let amounts = CounterVec::new(Opts::new(name, help), &["limit_key"])?;
    registry.register(Box::new(amounts.clone()))?;
    Ok(amounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewed(limit_key: &str) -> Renewed {
        Renewed {
            outcome: "renewed".to_owned(),
            limit_key: limit_key.to_owned(),
            renewals: 2,
            corrections: 1,
            spilled_over: 300,
            expired: 20,
            delays: vec![0.5, 4000.0],
        }
    }

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn a_batch_is_counted_by_outcome_and_by_key() {
        let registry = Registry::new();
        let metrics = LimitMetrics::new(&registry).unwrap();
        metrics.renewed(&renewed("words"));
        let text = text(&registry);
        for line in [
            "billing_sync_limit_renewals_total{outcome=\"renewed\"} 2",
            "billing_sync_limit_renewals_total{outcome=\"inactive\"} 0",
            "billing_sync_limit_corrections_total 1",
            "billing_sync_limit_carried_over_total{limit_key=\"words\"} 300",
            "billing_sync_limit_expired_total{limit_key=\"words\"} 20",
            "billing_sync_limit_renewal_delay_seconds_count 2",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn control_characters_of_keys_are_replaced() {
        let registry = Registry::new();
        let metrics = LimitMetrics::new(&registry).unwrap();
        metrics.renewed(&renewed("wo\u{1b}[31mrds\u{202e}\n"));
        let text = text(&registry);
        assert!(text.contains("{limit_key=\"wo\u{FFFD}[31mrds\u{FFFD}\\n\"}"), "{text}");
    }

    #[test]
    fn keys_beyond_the_first_share_one_series() {
        let registry = Registry::new();
        let metrics = LimitMetrics::new(&registry).unwrap();
        for number in 0..MOST_KEYS + 5 {
            metrics.renewed(&renewed(&format!("key_{number}")));
        }
        metrics.renewed(&renewed("key_0"));
        let text = text(&registry);
        assert_eq!(text.matches("billing_sync_limit_expired_total{").count(), MOST_KEYS + 1, "{text}");
        assert!(text.contains("billing_sync_limit_expired_total{limit_key=\"other\"} 100\n"), "{text}");
        assert!(text.contains("billing_sync_limit_expired_total{limit_key=\"key_0\"} 40\n"), "{text}");
    }
}
