//! Keys of another account: events of that account are never stored.

use std::time::Duration;

use billing_sync::reconcile::run::Since;
use billing_sync::reconcile::{Failure, KeyError};
use serde_json::json;

use super::{FOUND, compare, compare_since, count, is, leave, text};
use crate::support::fetching::Fetching;
use crate::support::stripe::{Epoch, FakeStripe};

/// Another account with an event.
async fn another() -> FakeStripe {
    let stripe = FakeStripe::start_with_seed(7).await;
    stripe.customer(json!({ "name": "Eve" }));
    stripe.tick(600);
    stripe
}

async fn assert_refused(sync: &Fetching, is_expected: fn(&KeyError) -> bool) {
    for since in [None, Some(Since::Ago(Duration::from_hours(1)))] {
        let failure = compare_since(sync, since).await.unwrap_err();
        assert!(matches!(&failure, Failure::Key(found) if is_expected(found)), "{failure:?}");
    }
    assert!(text(sync, FOUND).await.starts_with("0 of "));
    assert!(is(count(sync, "refused"), 2.0));
    assert_eq!(text(sync, "SELECT count(compared_until)::text FROM billing.reconcile_state").await, "0");
}

#[tokio::test]
async fn a_key_of_another_account_stores_nothing() {
    let (mut sync, _) = Fetching::sold().await;
    sync.turn_to(another().await);
    assert_refused(
        &sync,
        |error| matches!(error, KeyError::OtherAccount(shown_by) if shown_by.ends_with("none of 5 stored events")),
    )
    .await;
    sync.finish().await;
}

#[tokio::test]
async fn a_key_that_no_event_verifies_yet_stores_nothing() {
    let mut sync = Fetching::start().await;
    let stripe = another().await;
    // an event within the staleness margin, by the clock of the other account
    sync.stripe.set_clock(stripe.now());
    sync.stripe.customer(json!({ "name": "Ada" }));
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    sync.turn_to(stripe);
    assert_refused(&sync, |error| matches!(error, KeyError::Unverified)).await;
    sync.finish().await;
}

#[tokio::test]
async fn a_key_that_stripe_refuses_is_reported_as_refused() {
    let (sync, _) = Fetching::sold().await;
    let reconcile = super::reconcile(&sync);
    sync.stripe.roll_key(); // the client uses the previous key
    let never = tokio_util::sync::CancellationToken::new();
    let mut run = billing_sync::reconcile::run::Run::new(&reconcile, None, &never);
    let failure = run.account("", None, &mut |_| ()).await.unwrap_err();
    assert!(matches!(failure, Failure::Key(KeyError::Refused(_))), "{failure:?}");
    sync.finish().await;
}

#[tokio::test]
async fn the_verified_account_suffices_after_a_month_without_webhooks() {
    let (sync, _) = Fetching::sold().await;
    sync.pass_the_margin();
    compare(&sync).await;
    sync.stripe.tick(40 * 86_400);
    sync.stripe.customer(json!({ "name": "Bo" }));
    sync.stripe.tick(600);
    sync.stripe.become_another_account();
    let failure = compare_since(&sync, None).await.unwrap_err();
    assert!(matches!(failure, Failure::Key(KeyError::Unverified)), "{failure:?}");
    sync.stripe.become_our_account_again();
    assert_eq!(compare(&sync).await.stats.inserted(), 1);
    leave(sync).await;
}
