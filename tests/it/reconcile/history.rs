//! The history of comparisons, one row a day, which `status` shows.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{compare, compare_since, compared, customers, leave, text};
use crate::support::fetching::Fetching;
use crate::support::stripe::Fault;

const TODAY: &str =
    "SELECT concat_ws(' ', completed, failed, missed, unreadable, gap_found) FROM billing.reconcile_days
    WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date AND account = ''";

async fn expect(sync: &Fetching, row: &str) {
    assert_eq!(text(sync, TODAY).await, row);
}

#[tokio::test]
async fn each_run_is_counted_with_what_it_found() {
    let sync = compared().await;
    expect(&sync, "1 0 0 0 f").await;
    customers(&sync, 3);
    sync.stripe.tick(600);
    compare(&sync).await;
    expect(&sync, "2 0 3 0 f").await;
    // more than all retries
    sync.stripe.fail_next_under("/v1/events", 50, Fault::ServerError);
    compare_since(&sync, None).await.unwrap_err();
    expect(&sync, "2 1 3 0 f").await;
    sync.stripe.recover();
    sync.stripe.tick(40 * 86_400);
    assert!(compare(&sync).await.gap.is_some());
    expect(&sync, "3 1 3 0 t").await;
    leave(sync).await;
}

#[tokio::test]
async fn missed_events_of_an_interrupted_run_are_counted_once() {
    let sync = compared().await;
    customers(&sync, 250);
    sync.stripe.tick(600);
    let (stripe, asked) = (sync.stripe.clone(), AtomicUsize::new(0));
    sync.stripe.on_request(move |request| {
        if request.path == "/v1/events" && asked.fetch_add(1, Ordering::Relaxed) == 0 {
            stripe.fail_next_under("/v1/events", 3, Fault::ServerError);
        }
    });
    compare_since(&sync, None).await.unwrap_err();
    expect(&sync, "1 1 100 0 f").await;
    sync.stripe.recover();
    compare(&sync).await;
    expect(&sync, "2 1 250 0 f").await;
    leave(sync).await;
}

#[tokio::test]
async fn the_history_is_bounded() {
    let sync = compared().await;
    sync.app
        .execute(
            "INSERT INTO billing.reconcile_days (day, account) SELECT current_date - ago, '' FROM generate_series(2, 100) AS ago",
        )
        .await;
    sync.stripe.customer(json!({ "name": "Bo" }));
    compare(&sync).await;
    assert_eq!(text(&sync, "SELECT (max(day) - min(day))::text FROM billing.reconcile_days").await, "40");
    leave(sync).await;
}
