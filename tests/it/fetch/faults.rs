//! Faults of requests to Stripe, and whether they count as attempts.

use std::time::Duration;

use serde_json::json;

use crate::support::fetching::Fetching;
use crate::support::stripe::{Epoch, Fault};

const JOB: &str = "SELECT concat_ws(' ', attempts, last_error IS NOT NULL, run_at > clock_timestamp() + interval '4 s')
    FROM billing.jobs WHERE object_type = 'customer'";
const NAME: &str = "SELECT name FROM billing.billing_contacts";

#[tokio::test]
async fn a_429_waits_for_retry_after_and_counts_no_attempt() {
    let mut sync = Fetching::start().await;
    sync.queue_customer_fetch().await;
    // longer than the wait within one job
    sync.stripe.fail_next_under("/v1/customers/", 1, Fault::TooManyRequests { retry_after: Some(7) });
    sync.fetch().await;
    assert_eq!(sync.app.text(JOB).await.as_deref(), Some("0 t t"));
    sync.restart();
    sync.settle().await;
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Ada"));
    sync.finish().await;
}

#[tokio::test]
async fn a_429_without_retry_after_counts_no_attempt() {
    let mut sync = Fetching::start().await;
    // a retry delay that does not end within the test
    sync.app.context.config.retry_initial = Duration::from_hours(1);
    sync.app.context.config.retry_max = Duration::from_hours(1);
    sync.restart();
    sync.queue_customer_fetch().await;
    sync.stripe.fail_next_under("/v1/customers/", 3, Fault::TooManyRequests { retry_after: None });
    sync.fetch().await;
    assert_eq!(sync.app.text(JOB).await.as_deref(), Some("0 t t"));
    sync.stripe.recover();
    sync.restart();
    sync.settle().await;
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Ada"));
    sync.finish().await;
}

#[tokio::test]
async fn html_errors_closed_connections_and_hangs_are_retried() {
    for fault in [Fault::ServerError, Fault::Close, Fault::Hang] {
        let sync = Fetching::start().await;
        let sale = sync.queue_customer_fetch().await;
        sync.stripe.fail_next_under("/v1/customers/", 1, fault);
        sync.settle().await;
        assert!(sync.served(&format!("/v1/customers/{}", sale.customer)) >= 2, "{fault:?}");
        assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Ada"), "{fault:?}");
        sync.finish().await;
    }
}

#[tokio::test]
async fn a_failing_job_blocks_no_other_and_records_its_error() {
    let sync = Fetching::start().await;
    let sale = sync.queue_customer_fetch().await;
    sync.stripe.fail_next_under(&format!("/v1/customers/{}", sale.customer), 1000, Fault::ServerError);
    let other = sync.stripe.customer(json!({ "name": "Grace" }));
    let mark = sync.stripe.mark();
    sync.stripe.subscribe(&other, &sale.price);
    sync.pass_the_margin();
    sync.emit(mark, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.app.drain().await;
    let fetched = async {
        while sync.app.text("SELECT max(name) FROM billing.billing_contacts").await.is_none() {
            sync.fetch().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), fetched).await.expect("the other is blocked");
    let failing =
        "SELECT (attempts >= 1 AND last_error IS NOT NULL)::text FROM billing.jobs WHERE object_type = 'customer'";
    assert_eq!(sync.app.text(failing).await.as_deref(), Some("true"));
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Grace"));
    sync.stripe.recover();
    sync.settle().await;
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("2"));
    sync.finish().await;
}
