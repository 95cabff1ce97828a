//! The guard: a key that is wrong, or of another account, changes nothing.

use crate::support::fetching::{Fetching, Sale};
use crate::support::stripe::Epoch;

const MISSING: &str = "SELECT count(*)::text FROM billing.stripe_objects WHERE not_found_at IS NOT NULL";
const USABLE: &str = "billing_sync_stripe_api_usable";

async fn ask_for_a_customer(sync: &Fetching) -> Sale {
    let sale = sync.sell();
    sync.pass_the_margin();
    sync.emit(0, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.app.drain().await;
    sale
}

/// The fetcher is shut: it asks for no object, although jobs are due.
async fn assert_shut(sync: &Fetching, sale: &Sale) {
    assert!(sync.app.metric(USABLE).abs() < f64::EPSILON, "the gauge says that it is usable");
    let path = format!("/v1/customers/{}", sale.customer);
    let asked = sync.served(&path);
    sync.wake_jobs().await;
    sync.fetch().await;
    assert_eq!(sync.served(&path), asked, "it asks all the same");
    assert_eq!(sync.app.text(MISSING).await.as_deref(), Some("0"), "finding nothing proves nothing");
    let customer = format!("fetch customer {}", sale.customer);
    assert!(sync.left().await.iter().any(|left| left.starts_with(&customer)), "{:?}", sync.left().await);
}

async fn assert_goes_on(mut sync: Fetching) {
    sync.restart();
    sync.settle().await;
    assert!((sync.app.metric(USABLE) - 1.0).abs() < f64::EPSILON);
    assert_eq!(sync.app.text(MISSING).await.as_deref(), Some("0"));
    assert_eq!(sync.app.text("SELECT name FROM billing.billing_contacts").await.as_deref(), Some("Ada"));
    sync.finish().await;
}

#[tokio::test]
async fn a_wrong_key_stops_all_reads_until_it_is_mended() {
    let sync = Fetching::start().await;
    let sale = ask_for_a_customer(&sync).await;
    sync.stripe.roll_key(); // the fetcher was made with the one before
    sync.fetch().await;
    assert_shut(&sync, &sale).await;
    assert_goes_on(sync).await;
}

#[tokio::test]
async fn a_key_that_is_revoked_while_it_is_used_stops_all_reads() {
    let sync = Fetching::start().await;
    let first = ask_for_a_customer(&sync).await;
    sync.settle().await;
    let mark = sync.stripe.mark();
    let sale = sync.sell();
    assert_ne!(first.customer, sale.customer);
    sync.pass_the_margin();
    sync.stripe.roll_key();
    sync.emit(mark, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.app.drain().await;
    sync.fetch().await;
    assert_shut(&sync, &sale).await;
    let cost = "SELECT max(attempts)::text FROM billing.jobs WHERE last_error IS NOT NULL";
    assert_eq!(sync.app.text(cost).await.as_deref(), Some("0"), "it is no fault of the job");
    assert_goes_on(sync).await;
}

#[tokio::test]
async fn a_key_of_another_account_marks_nothing_missing() {
    let sync = Fetching::start().await;
    let sale = ask_for_a_customer(&sync).await;
    sync.stripe.become_another_account();
    sync.fetch().await;
    assert_shut(&sync, &sale).await;
    sync.stripe.become_our_account_again();
    assert_goes_on(sync).await;
}
