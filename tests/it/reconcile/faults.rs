//! Faults during a listing: stored events remain, and the next listing begins at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use billing_sync::client::ApiError;
use billing_sync::reconcile::Failure;
use billing_sync::reconcile::run::Run;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{FOUND, LONG, compare, compare_since, compared, count, customers, is, leave, reconcile, text, watermark};
use crate::support::fetching::Fetching;
use crate::support::stripe::Fault;

const STATE: &str = "SELECT concat_ws(' ', failures, last_error) FROM billing.reconcile_state";

/// Makes the requests after the first page of events fail.
fn fail_after_a_page(sync: &Fetching, count: usize, fault: Fault) {
    let (stripe, asked) = (sync.stripe.clone(), AtomicUsize::new(0));
    sync.stripe.on_request(move |request| {
        if request.path == "/v1/events" && asked.fetch_add(1, Ordering::Relaxed) == 0 {
            stripe.fail_next_under("/v1/events", count, fault);
        }
    });
}

#[tokio::test]
async fn an_interruption_keeps_stored_events_and_the_old_watermark() {
    let too_many = |retry_after| Fault::TooManyRequests { retry_after };
    for (count_of, fault) in [(3, Fault::ServerError), (1, too_many(Some(50))), (3, too_many(None)), (3, Fault::Close)]
    {
        let sync = compared().await;
        let before = watermark(&sync).await;
        let known = text(&sync, "SELECT count(*)::text FROM billing.outbox").await.parse::<usize>().unwrap();
        customers(&sync, 250);
        sync.stripe.tick(600);
        fail_after_a_page(&sync, count_of, fault);
        let failure = compare_since(&sync, None).await.unwrap_err();
        assert!(matches!(failure, Failure::Api(_)), "{fault:?} {failure:?}");
        assert_eq!(text(&sync, FOUND).await, format!("100 of {}", known + 100), "{fault:?}");
        assert_eq!(watermark(&sync).await, before, "{fault:?}");
        assert_eq!(text(&sync, STATE).await, format!("1 {failure}"));
        assert!(is(count(&sync, "failed"), 1.0) && is(count(&sync, "complete"), 1.0));
        sync.stripe.recover();
        let found = compare(&sync).await;
        assert_eq!((found.stats.inserted(), found.failures), (150, 1), "{fault:?}");
        assert_eq!(text(&sync, FOUND).await, format!("250 of {}", known + 250));
        assert!(watermark(&sync).await > before);
        assert_eq!(text(&sync, STATE).await, "0");
        leave(sync).await;
    }
}

#[tokio::test]
async fn an_invalid_page_fails_the_comparison() {
    let sync = compared().await;
    let before = watermark(&sync).await;
    sync.stripe.tick(600);
    fail_after_a_page(&sync, 1, Fault::DeletedStub);
    let failure = compare_since(&sync, None).await.unwrap_err();
    assert!(matches!(failure, Failure::Page), "{failure:?}");
    assert_eq!(watermark(&sync).await, before);
    sync.finish().await;
}

#[tokio::test]
async fn a_recent_event_missing_from_the_list_is_a_failure() {
    let sync = compared().await;
    let before = watermark(&sync).await;
    customers(&sync, 150);
    sync.stripe.tick(600);
    fail_after_a_page(&sync, 1, Fault::NotFound);
    let failure = compare_since(&sync, None).await.unwrap_err();
    assert!(matches!(failure, Failure::Api(ApiError::NotFound { .. })), "{failure:?}");
    assert_eq!(watermark(&sync).await, before);
    leave(sync).await;
}

#[tokio::test]
async fn a_failed_run_delays_the_next_one_and_a_stopped_run_does_not() {
    let sync = compared().await;
    let (reconcile, stop) = (reconcile(&sync), CancellationToken::new());
    let mut run = Run::new(&reconcile, None, &stop);
    fail_after_a_page(&sync, 3, Fault::ServerError);
    run.account("", None, &mut |_| ()).await.unwrap_err();
    sync.stripe.recover();
    // the interval since the last complete run is over, but a failure delays the next run
    assert_eq!(run.account("", Some(Duration::ZERO), &mut |_| ()).await.unwrap(), None);
    let stopping = stop.clone();
    sync.stripe.on_request(move |_| stopping.cancel());
    let failure = run.account("", None, &mut |_| ()).await.unwrap_err();
    assert!(matches!(failure, Failure::Stopped), "{failure:?}");
    assert!(is(count(&sync, "failed"), 1.0), "a stopped run is not a failure");
    let (reconcile, never) = (super::reconcile(&sync), CancellationToken::new());
    let mut next = Run::new(&reconcile, None, &never);
    assert!(next.account("", Some(Duration::ZERO), &mut |_| ()).await.unwrap().is_some());
    assert_eq!(next.account("", LONG, &mut |_| ()).await.unwrap(), None, "the last comparison was just now");
    sync.finish().await;
}

#[tokio::test]
async fn an_unstorable_event_is_counted_and_does_not_block_others() {
    let sync = compared().await;
    let before = watermark(&sync).await;
    // longer than any id in Stripe
    sync.stripe.coupon(&"x".repeat(256), 10.0);
    customers(&sync, 2);
    sync.stripe.tick(60);
    let found = compare(&sync).await;
    assert_eq!((found.stats.compared, found.stats.inserted(), found.stats.unreadable), (3, 2, 1), "{found:?}");
    assert!(watermark(&sync).await > before, "the event must not block the others forever");
    let counts = "SELECT concat_ws(' ', last_compared, last_inserted, last_missed, last_unreadable) FROM billing.reconcile_state";
    assert_eq!(text(&sync, counts).await, "3 2 0 1");
    assert!(is(count(&sync, "partial"), 1.0));
    leave(sync).await;
}

#[tokio::test]
async fn pages_too_long_to_read_are_requested_in_smaller_ones() {
    let sync = compared().await;
    // 24 of them are 18 MB
    let text = "x".repeat(750_000);
    for _ in 0..24 {
        sync.stripe.customer(json!({ "description": text }));
    }
    let found = compare(&sync).await;
    assert_eq!(found.stats.inserted(), 24);
    let limits: Vec<String> = sync.stripe.served().into_iter().map(|request| request.query).collect();
    assert!(limits.iter().any(|query| query.contains("limit=12")), "{limits:?}");
    leave(sync).await;
}
