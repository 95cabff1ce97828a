//! Bugs that the laws have found, each with its own test.

use serde_json::json;

use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

/// The first events, and stale reads that do not contain them yet, must not count as a key of another account.
#[tokio::test]
async fn new_events_missing_from_a_stale_read_do_not_block_the_key() {
    let fetching = Fetching::start().await;
    let (app, stripe) = (&fetching.app, &fetching.stripe);
    stripe.tick(60);
    stripe.price(&stripe.product(json!({})), 1000, json!({}));
    app.deliver_all(&stripe.events(), Epoch::Endive).await;
    stripe.serve_stale(7);
    fetching.work(1).await;
    stripe.recover();
    fetching.settle().await;
    assert_eq!(app.text("SELECT price_in_euro::text FROM billing.pricing_plans").await.as_deref(), Some("10.00"));
    fetching.app.finish().await;
}

/// The version of a read is earlier than the read, so a read of the stub may have a version before the deletion.
#[tokio::test]
async fn the_deletion_time_comes_from_the_event_in_either_order() {
    let fetching = Fetching::start().await;
    let (app, stripe) = (&fetching.app, &fetching.stripe);
    let customer = stripe.customer(json!({}));
    stripe.tick(60);
    stripe.delete(&customer);
    let events = stripe.events();
    for (before, after) in [(&events[..], &[][..]), (&events[..1], &events[1..])] {
        app.forget_everything().await;
        app.deliver_all(before, Epoch::Endive).await;
        fetching.settle().await;
        fetching.demand([("customer".to_owned(), customer.clone())]).await;
        fetching.settle().await;
        app.deliver_all(after, Epoch::Endive).await;
        fetching.settle().await;
        let deleted = "SELECT (stripe_deleted_at = '2026-01-01T00:01:00Z')::text FROM billing.billing_contacts";
        assert_eq!(app.text(deleted).await.as_deref(), Some("true"));
    }
    fetching.app.finish().await;
}
