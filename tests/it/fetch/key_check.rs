//! The key check: a wrong key, or a key of another account, changes nothing.

use crate::support::fetching::{Fetching, Sale};
use crate::support::stripe::Epoch;

const MISSING: &str = "SELECT count(*)::text FROM billing.stripe_objects WHERE not_found_at IS NOT NULL";
const USABLE: &str = "billing_sync_stripe_api_usable";

/// Asserts that the fetcher is blocked: it fetches no object, although jobs are due.
async fn assert_blocked(sync: &Fetching, sale: &Sale) {
    assert!(sync.app.metric(USABLE).abs() < f64::EPSILON, "the gauge shows a usable key");
    let path = format!("/v1/customers/{}", sale.customer);
    let served = sync.served(&path);
    sync.wake_jobs().await;
    sync.fetch().await;
    assert_eq!(sync.served(&path), served, "the fetcher still fetches");
    assert_eq!(sync.app.text(MISSING).await.as_deref(), Some("0"), "a 404 of another account must not count");
    let customer = format!("fetch customer {}", sale.customer);
    assert!(sync.left().await.iter().any(|left| left.starts_with(&customer)), "{:?}", sync.left().await);
}

async fn assert_resumes(mut sync: Fetching) {
    sync.restart();
    sync.settle().await;
    assert!((sync.app.metric(USABLE) - 1.0).abs() < f64::EPSILON);
    assert_eq!(sync.app.text(MISSING).await.as_deref(), Some("0"));
    assert_eq!(sync.app.text("SELECT name FROM billing.billing_contacts").await.as_deref(), Some("Ada"));
    sync.finish().await;
}

#[tokio::test]
async fn a_wrong_key_stops_all_reads_until_it_is_fixed() {
    let sync = Fetching::start().await;
    let sale = sync.queue_customer_fetch().await;
    sync.stripe.roll_key(); // the fetcher still has the previous key
    sync.fetch().await;
    assert_blocked(&sync, &sale).await;
    assert_resumes(sync).await;
}

#[tokio::test]
async fn a_revoked_key_stops_all_reads() {
    let sync = Fetching::start().await;
    let first = sync.queue_customer_fetch().await;
    sync.settle().await;
    let mark = sync.stripe.mark();
    let sale = sync.sell();
    assert_ne!(first.customer, sale.customer);
    sync.pass_the_margin();
    sync.stripe.roll_key();
    sync.emit(mark, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.app.drain().await;
    sync.fetch().await;
    assert_blocked(&sync, &sale).await;
    let cost = "SELECT max(attempts)::text FROM billing.jobs WHERE last_error IS NOT NULL";
    assert_eq!(sync.app.text(cost).await.as_deref(), Some("0"), "the failed read counts no attempt");
    assert_resumes(sync).await;
}

#[tokio::test]
async fn a_key_of_another_account_marks_nothing_missing() {
    let sync = Fetching::start().await;
    let sale = sync.queue_customer_fetch().await;
    sync.stripe.become_another_account();
    sync.fetch().await;
    assert_blocked(&sync, &sale).await;
    sync.stripe.become_our_account_again();
    assert_resumes(sync).await;
}
