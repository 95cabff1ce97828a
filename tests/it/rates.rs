//! Metrics that show the bottleneck: the rates of arriving and applied events, and the time of each step of the worker.

use std::time::Duration;

use billing_sync::metrics::batch::Step;

use crate::support::app::TestApp;
use crate::support::cluster;
use crate::support::events::{customer, event, subscription};
use crate::support::fetching::Fetching;
use crate::support::month;
use crate::support::process::Server;
use crate::support::stripe::Epoch;

/// Minimum time that a batch waits for a lock, far below the lock timeout.
const WAIT: Duration = Duration::from_millis(300);

const DURATION: &str = "billing_sync_batch_duration_seconds_sum";

/// Seconds of each step so far.
fn steps(app: &TestApp) -> [f64; Step::ALL.len()] {
    let series = |step: Step| format!("billing_sync_batch_step_seconds_total{{step=\"{}\"}}", step.as_str());
    Step::ALL.map(|step| app.metric(&series(step)))
}

/// Seconds of each step during `work`. Asserts that their sum is at most the duration of its batches.
async fn steps_of(app: &TestApp, work: impl Future<Output = ()>) -> [f64; Step::ALL.len()] {
    let (before, duration) = (steps(app), app.metric(DURATION));
    work.await;
    let (mut after, duration) = (steps(app), app.metric(DURATION) - duration);
    after.iter_mut().zip(before).for_each(|(after, before)| *after -= before);
    let sum: f64 = after.iter().sum();
    assert!(sum > 0.0 && sum <= duration + 1e-6, "steps of {sum} s in batches of {duration} s");
    after
}

#[tokio::test]
async fn step_times_are_all_measured_and_fit_into_the_batch_time() {
    let app = TestApp::start().await;
    let events: Vec<serde_json::Value> =
        month::events(0, 10).map(|text| serde_json::from_str(&text).unwrap()).collect();
    app.enqueue(events.iter()).await;
    let of_batch = steps_of(&app, app.drain()).await;
    assert!(of_batch.iter().all(|seconds| *seconds > 0.0), "{:?} {of_batch:?}", Step::ALL);

    let payer = customer("cus_isolated", "Ada");
    app.enqueue([event("evt_isolated", "customer.created", 0, &payer, None)].iter()).await;
    app.execute("UPDATE billing.outbox SET isolated = true WHERE event_id = 'evt_isolated'").await;
    let of_isolated = steps_of(&app, app.drain()).await;
    assert!(of_isolated.iter().all(|seconds| *seconds > 0.0), "{:?} {of_isolated:?}", Step::ALL);
    app.finish().await;
}

/// The operator sees that a lock is the cause, and can find the session that holds it.
#[tokio::test]
async fn lock_waits_are_counted_in_the_lock_step() {
    let app = TestApp::start().await;
    let bought = subscription("sub_1", "cus_1");
    app.enqueue([event("evt_1", "customer.subscription.created", 0, &bought, None)].iter()).await;
    app.drain().await;
    app.enqueue([event("evt_2", "customer.subscription.updated", 1, &bought, None)].iter()).await;
    let mut held = app.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM billing.locks FOR UPDATE").execute(&mut *held).await.unwrap();
    let release = async {
        let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database())";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&app.pool).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(WAIT).await;
        held.rollback().await.unwrap();
    };
    let of_batch = steps_of(&app, async {
        tokio::join!(app.drain(), release);
    })
    .await;
    let of_lock = of_batch[Step::ALL.iter().position(|step| *step == Step::Lock).unwrap()];
    assert!(of_lock > WAIT.as_secs_f64(), "{:?} {of_batch:?}", Step::ALL);
    app.finish().await;
}

#[tokio::test]
async fn the_steps_of_a_read_begin_after_stripe_has_answered() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    sync.app.deliver_all(&sync.stripe.events_of(&sale.subscription), Epoch::Endive).await;
    sync.app.drain().await;
    let of_reads = steps_of(&sync.app, sync.settle()).await;
    for (step, seconds) in Step::ALL.into_iter().zip(of_reads) {
        let is_of_events = matches!(step, Step::Claim | Step::Read);
        assert_eq!(seconds > 0.0, !is_of_events, "{step:?} {seconds}");
    }
    sync.finish().await;
}

/// The sum of all series of a metric.
fn sum(metrics: &str, name: &str) -> f64 {
    let series = metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_counted_once_on_arrival_and_once_when_applied() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver,worker", &[]).await;
    for text in month::events(0, 3) {
        assert_eq!(server.deliver(&serde_json::from_str(&text).unwrap()).await, Some(200));
    }
    let arrived = server.metric("billing_sync_webhook_requests_total{outcome=\"stored\"}").await;
    let mut applied = 0.0;
    for _ in 0..600 {
        applied = sum(&server.get_metrics().await, "billing_sync_events_processed_total");
        if applied >= 30.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((arrived.to_string(), applied.to_string()), ("30".to_owned(), "30".to_owned()));
    server.kill().await;
}
