//! What Stripe has and nobody delivered: found, stored once, and counted as what it is.

mod boundaries;
mod counting;
mod faults;
mod gaps;
mod healing;
mod keys;
mod together;

use std::sync::Arc;
use std::time::Duration;

use billing_sync::reconcile::run::{Compared, Run, Since};
use billing_sync::reconcile::{Failure, Reconcile};
use serde_json::json;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::support::fetching::{Fetching, MARGIN, client};

/// What a watermark stays behind the fake's clock: the margin, and the second that a request may have taken.
const BEHIND: i64 = 11;

/// Events with the source, of all.
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
async fn compare_since(sync: &Fetching, since: Option<Since>) -> Result<Compared, Failure> {
    let (reconcile, never) = (reconcile(sync), CancellationToken::new());
    let mut run = Run::new(&reconcile, since, &never);
    run.account("", None, &mut |_| ()).await.map(|compared| compared.expect("whoever asks begins"))
}

async fn compare(sync: &Fetching) -> Compared {
    compare_since(sync, None).await.unwrap()
}

/// Where the watermark of our own account is, by the fake's clock.
async fn watermark(sync: &Fetching) -> Option<i64> {
    let query = "SELECT extract(epoch FROM compared_until)::bigint FROM billing.reconcile_state WHERE account = ''";
    sqlx::query_scalar(query).fetch_one(&sync.app.pool).await.unwrap()
}

/// Puts the watermark somewhere else; fractions of a second count.
async fn set_watermark(sync: &Fetching, second: f64) {
    let sql = "UPDATE billing.reconcile_state SET compared_until = to_timestamp($1) WHERE account = ''";
    sqlx::query(sql).bind(second).execute(&sync.app.pool).await.unwrap();
}

/// Makes customers, one event each.
fn customers(sync: &Fetching, count: usize) {
    for number in 0..count {
        sync.stripe.customer(json!({ "name": format!("No {number}") }));
    }
}

/// A sale that was delivered, and a comparison two hours later: further ones no longer list it.
async fn compared() -> Fetching {
    let (sync, _) = Fetching::sold().await;
    sync.stripe.tick(7200);
    let compared = compare(&sync).await;
    assert_eq!(compared.tally.inserted(), 0, "{compared:?}");
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

/// Ends a test that leaves its events pending on purpose.
async fn leave(mut sync: Fetching) {
    sync.app.leave_pending();
    sync.app.finish().await;
}

/// A pause that is never over within a test.
const LONG: Option<Duration> = Some(Duration::from_hours(1));
