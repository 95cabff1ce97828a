//! Outages of more than the 30 days that Stripe lists.

use std::sync::atomic::{AtomicUsize, Ordering};

use billing_sync::metrics::database;
use billing_sync::reconcile::run::Since;
use billing_sync::reconcile::state;
use billing_sync::reconcile::{Failure, REACH};
use serde_json::json;

use super::{at, compare, compare_since, compared, customers, is, leave, watermark};
use crate::support::fetching::Fetching;

const DAY: i64 = 86_400;

async fn gap_seconds(sync: &Fetching) -> f64 {
    database::comparison(&mut sync.app.pool.acquire().await.unwrap()).await.unwrap().gap_seconds
}

async fn close(sync: &Fetching, before: i64) -> bool {
    state::close_gap(&mut sync.app.pool.acquire().await.unwrap(), "", at(before)).await.unwrap()
}

#[tokio::test]
async fn an_outage_over_30_days_is_a_gap_until_a_backfill_closes_it() {
    let sync = compared().await;
    let before = watermark(&sync).await.unwrap();
    assert!(is(gap_seconds(&sync).await, 0.0));
    sync.stripe.tick(5 * DAY);
    sync.stripe.customer(json!({ "name": "lost" }));
    sync.stripe.tick(35 * DAY);
    sync.stripe.customer(json!({ "name": "found" }));
    sync.stripe.tick(600);
    let now = sync.stripe.now();
    let found = compare(&sync).await;
    let gap = found.gap.expect("there is a gap");
    assert_eq!((gap.since, gap.until), (at(before), at(now - 1) - REACH));
    assert!(!found.gap_was_known);
    assert_eq!(found.stats.inserted(), 1);
    assert!(watermark(&sync).await > Some(before), "the remaining time is compared");
    let again = compare(&sync).await;
    assert_eq!((again.gap, again.gap_was_known), (Some(gap), true));
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let length = (gap.until - gap.since).whole_seconds() as f64;
    assert!(is(gap_seconds(&sync).await, length));
    // a backfill that began before the end of the gap does not cover it
    assert!(!close(&sync, now - 31 * DAY).await);
    assert!(close(&sync, now).await && !close(&sync, now).await);
    assert_eq!(compare(&sync).await.gap, None);
    assert!(is(gap_seconds(&sync).await, 0.0));
    leave(sync).await;
}

#[tokio::test]
async fn a_second_gap_extends_the_open_one() {
    let sync = compared().await;
    let first = watermark(&sync).await.unwrap();
    for _ in 0..2 {
        sync.stripe.tick(40 * DAY);
        compare(&sync).await;
    }
    let gap = compare(&sync).await.gap.unwrap();
    assert_eq!((gap.since, gap.until), (at(first), at(sync.stripe.now() - 1) - REACH));
    sync.finish().await;
}

#[tokio::test]
async fn events_that_expire_during_the_listing_are_a_gap() {
    let sync = compared().await;
    let before = watermark(&sync).await.unwrap();
    customers(&sync, 150);
    // Stripe still lists all events, for less than a minute
    sync.stripe.set_clock(before + 30 * DAY - 5);
    let (stripe, asked) = (sync.stripe.clone(), AtomicUsize::new(0));
    sync.stripe.on_request(move |request| {
        // at the second page
        if request.path == "/v1/events" && asked.fetch_add(1, Ordering::Relaxed) == 1 {
            stripe.tick(60);
        }
    });
    let found = compare(&sync).await;
    assert_eq!(found.stats.compared, 100, "{found:?}");
    let gap = found.gap.expect("the expired events are a gap");
    assert_eq!((gap.since, gap.until), (at(before), at(sync.stripe.now() - 1) - REACH));
    leave(sync).await;
}

#[tokio::test]
async fn more_than_thirty_days_cannot_be_requested() {
    let sync = compared().await;
    let now = sync.stripe.now();
    for since in [at(now - 31 * DAY), at(now + 60)] {
        let failure = compare_since(&sync, Some(Since::At(since))).await.unwrap_err();
        assert!(matches!(failure, Failure::Since(_)), "{failure:?}");
    }
    let month = Since::Ago(REACH.unsigned_abs());
    assert!(compare_since(&sync, Some(month)).await.is_ok());
    sync.finish().await;
}
