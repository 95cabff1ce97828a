//! What the law has found, each as a test of its own.

use serde_json::json;

use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

/// The very first events, and reads that do not show them yet: no sign of a key of another account.
#[tokio::test]
async fn events_that_a_stale_read_cannot_show_yet_do_not_shut_the_door_to_the_api() {
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

/// A read that finds the stub counts as older than it is, so that its version may lie before the deletion.
#[tokio::test]
async fn a_customer_was_deleted_when_the_event_says_so_whichever_of_event_and_read_comes_first() {
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
