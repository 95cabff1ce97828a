//! Delay from the delivery of an event until its rows are visible, at a fixed offered rate.

use std::time::{Duration, Instant};

use billing_sync::database::Pool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use super::load::{Events, percentile};
use super::open::{open_loop, schedule};
use super::service::Service;
use super::support::report::Aim;
use super::{Bench, MANY, month};

/// Events a second.
const RATE: f64 = 2000.0;

/// One in this many events is watched from another session.
const WATCHED: usize = 100;

/// Polling interval for a watched event.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Time after the last answer after which nothing may be pending.
const GRACE: Duration = Duration::from_secs(1);

/// Time after which the process is idle again.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) async fn measure(bench: &mut Bench) {
    bench.begin_anew().await;
    let time = 4 * bench.time;
    let due = schedule(RATE, time);
    let customers = u32::try_from(due.len() / 10 + 1).unwrap();
    let events = Events::of(customers);
    let service = Service::start(&bench.cluster.url(), None);
    let target = service.target();
    let began = Instant::now();
    let texts = month::events(0, customers);
    let watched = due.iter().copied().zip(texts).step_by(WATCHED).map(|(due, text)| (due, id(&text))).collect();
    let pool = Pool::from(
        PgPoolOptions::new().max_connections(8).connect_with(bench.cluster.connect_options()).await.unwrap(),
    );
    let watching = tokio::spawn(watch(pool, watched, began));
    let load = move || open_loop(&target, &events, MANY, &due, began);
    let acknowledged = tokio::task::spawn_blocking(load).await.unwrap();
    tokio::time::sleep(GRACE).await;
    let pending = "SELECT count(*)::float8 FROM billing.outbox WHERE state = 'pending'";
    let pending = number(bench, pending).await;
    let seen = watching.await.unwrap();
    let report = &mut bench.report;
    report.figure("offered, all roles", acknowledged.rate(), "events/s", None);
    let ack = acknowledged.percentile(0.99);
    report.figure("p50 of the answer, 2,000/s, all roles", acknowledged.percentile(0.5), "ms", None);
    report.figure("p99 of the answer, 2,000/s, all roles", ack, "ms", None);
    let p99 = "SELECT 1e3 * percentile_disc(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - received_at))::float8
        FROM billing.outbox WHERE state = 'done'";
    let p99 = number(bench, p99).await;
    bench.report.ratio("p99 from stored to applied", p99, "ms", ("p99 of the answer", ack), Aim::AtMost(10.0));
    let outside = percentile(&seen, 0.99);
    let ceiling = ("p99 of the answer", ack);
    bench.report.ratio("the same, seen from another session", outside, "ms", ceiling, Aim::AtMost(10.0));
    bench.report.figure("pending 1 s after the last answer", pending, "events", Aim::AtMost(0.0));
    tokio::time::sleep(SETTLED).await;
    bench.report.figure("resident memory, after this load", service.memory(), "MB", Aim::AtMost(64.0));
}

async fn number(bench: &mut Bench, query: &'static str) -> f64 {
    sqlx::query_scalar(query).fetch_one(&mut bench.conn).await.unwrap()
}

/// For each watched event, the sorted times from storing it until another session saw it as applied, in milliseconds by
/// the database's clock. `finished_at` is not used, because it is written a moment before the commit.
async fn watch(pool: Pool, events: Vec<(Duration, String)>, began: Instant) -> Vec<f64> {
    let mut watchers = JoinSet::new();
    for (due, id) in events {
        tokio::time::sleep((began + due).saturating_duration_since(Instant::now())).await;
        watchers.spawn(visible_after(pool.clone(), id));
    }
    let mut seen = watchers.join_all().await;
    seen.sort_unstable_by(f64::total_cmp);
    seen
}

async fn visible_after(pool: Pool, id: String) -> f64 {
    let done = "SELECT 1e3 * extract(epoch FROM clock_timestamp() - received_at)::float8 FROM billing.outbox
        WHERE event_id = $1 AND state = 'done'";
    loop {
        if let Some(seen) = sqlx::query_scalar(done).bind(&id).fetch_optional(&pool).await.unwrap() {
            return seen;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn id(text: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(text).unwrap();
    event["id"].as_str().unwrap().to_owned()
}
