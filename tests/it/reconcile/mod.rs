//! Undelivered events of Stripe's event list: found, stored once, and counted as missed.

mod boundaries;
mod concurrent;
mod faults;
mod gaps;
mod history;
mod keys;
mod missed_events;
mod recovery;

use std::sync::Arc;
use std::time::Duration;

use billing_sync::reconcile::run::{ComparisonReport, Run, Since};
use billing_sync::reconcile::{Failure, Reconcile};
use serde_json::json;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::support::fetching::{Fetching, MARGIN, client};

/// Distance of a watermark from the fake's clock in seconds: the staleness margin, and one second for the request.
const BEHIND: i64 = 11;

/// Number of events found by `reconcile`, of all.
const FOUND: &str = "SELECT count(*) FILTER (WHERE source = 'reconcile') || ' of ' || count(*) FROM billing.outbox";

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap()
}

fn reconcile(sync: &Fetching) -> Reconcile {
    Reconcile {
        pool: sync.app.pool.clone(),
        api: Arc::new(client(&sync.app, &sync.stripe)),
        connected: std::collections::BTreeSet::new(),
        margin: MARGIN,
        metrics: sync.app.context.metrics.clone(),
    }
}

/// Compares our own account, as the command does.
async fn compare_since(sync: &Fetching, since: Option<Since>) -> Result<ComparisonReport, Failure> {
    let (reconcile, never) = (reconcile(sync), CancellationToken::new());
    let mut run = Run::new(&reconcile, since, &never);
    run.account("", None, &mut |_| ()).await.map(|compared| compared.expect("without an interval it always runs"))
}

async fn compare(sync: &Fetching) -> ComparisonReport {
    compare_since(sync, None).await.unwrap()
}

/// The watermark of our own account, in the fake's time.
async fn watermark(sync: &Fetching) -> Option<i64> {
    let query = "SELECT extract(epoch FROM compared_until)::bigint FROM billing.reconcile_state WHERE account = ''";
    sqlx::query_scalar(query).fetch_one(&sync.app.pool).await.unwrap()
}

/// Sets the watermark; fractions of a second count.
async fn set_watermark(sync: &Fetching, second: f64) {
    let sql = "UPDATE billing.reconcile_state SET compared_until = to_timestamp($1) WHERE account = ''";
    sqlx::query(sql).bind(second).execute(&sync.app.pool).await.unwrap();
}

/// Creates customers, with one event each.
fn customers(sync: &Fetching, count: usize) {
    for number in 0..count {
        sync.stripe.customer(json!({ "name": format!("No {number}") }));
    }
}

/// A delivered sale, and a comparison two hours later, so that further comparisons no longer list the sale.
async fn compared() -> Fetching {
    let (sync, _) = Fetching::sold().await;
    sync.stripe.tick(7200);
    let compared = compare(&sync).await;
    assert_eq!(compared.stats.inserted(), 0, "{compared:?}");
    sync
}

async fn text(sync: &Fetching, query: &'static str) -> String {
    sync.app.text(query).await.unwrap_or_default()
}

fn count(sync: &Fetching, outcome: &str) -> f64 {
    sync.app.metric(&format!("billing_sync_reconcile_runs_total{{outcome=\"{outcome}\"}}"))
}

fn is(left: f64, right: f64) -> bool {
    (left - right).abs() < f64::EPSILON
}

/// Ends a test that intentionally leaves events pending.
async fn leave(mut sync: Fetching) {
    sync.app.leave_pending();
    sync.app.finish().await;
}

/// An interval that does not end within a test.
const LONG: Option<Duration> = Some(Duration::from_hours(1));
