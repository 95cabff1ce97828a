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
