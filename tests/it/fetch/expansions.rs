//! Data that only reads contain: read again when the object has changed, not for every event that shows it.

use serde_json::json;

use crate::support::fetching::{Fetching, Sale};
use crate::support::stripe::Epoch;

const PRICES: &str = "SELECT price_per_currency::text FROM billing.pricing_plans";

fn in_dollars(cents: i64) -> serde_json::Value {
    json!({ "custom_unit_amount": null, "unit_amount": cents, "unit_amount_decimal": cents.to_string() })
}

/// A sale that was read completely a minute ago.
async fn sold() -> (Fetching, Sale) {
    let (sync, sale) = Fetching::sold().await;
    sync.stripe.tick(60);
    (sync, sale)
}

#[tokio::test]
async fn another_currency_of_a_known_price_reaches_its_plan() {
    for epoch in Epoch::ALL {
        let (sync, sale) = sold().await;
        let mark = sync.stripe.mark();
        // no field in the event differs
        sync.stripe.update(&sale.price, json!({ "currency_options": { "usd": in_dollars(1200) } }));
        sync.stripe.tick(60);
        sync.emit(mark, epoch, &["price.updated"]).await;
        sync.settle().await;
        assert_eq!(sync.app.text(PRICES).await.as_deref(), Some(r#"{"eur": 10.00, "usd": 12.00}"#), "{epoch:?}");
        // an amount that changes in place
        let mark = sync.stripe.mark();
        sync.stripe.update(&sale.price, json!({ "currency_options": { "usd": in_dollars(1500) } }));
        sync.stripe.tick(60);
        sync.emit(mark, epoch, &["price.updated"]).await;
        sync.settle().await;
        assert_eq!(sync.app.text(PRICES).await.as_deref(), Some(r#"{"eur": 10.00, "usd": 15.00}"#), "{epoch:?}");
        sync.finish().await;
    }
}

/// Changes the price in another currency while reads still return the state of this many `seconds` ago.
async fn change_behind_a_stale_read(sync: &Fetching, sold: &Sale, seconds: i64) {
    let mark = sync.stripe.mark();
    sync.stripe.serve_stale(seconds);
    sync.stripe.update(&sold.price, json!({ "currency_options": { "usd": in_dollars(1200) } }));
    sync.emit(mark, Epoch::Endive, &["price.updated"]).await;
    sync.app.drain().await;
    sync.fetch().await;
    assert_eq!(sync.app.text(PRICES).await.as_deref(), Some(r#"{"eur": 10.00}"#), "the read was stale");
    sync.pass_the_margin();
    sync.settle().await;
    assert_eq!(sync.app.text(PRICES).await.as_deref(), Some(r#"{"eur": 10.00, "usd": 12.00}"#));
}

#[tokio::test]
async fn a_read_older_than_the_change_is_repeated_once() {
    let (sync, sale) = sold().await;
    let path = format!("/v1/prices/{}", sale.price);
    let before = sync.served(&path);
    change_behind_a_stale_read(&sync, &sale, 5).await;
    assert!((1..=3).contains(&(sync.served(&path) - before)), "{}", sync.served(&path) - before);
    let done = sync.served(&path);
    sync.settle().await;
    assert_eq!(sync.served(&path), done, "the reads repeat forever");
    sync.finish().await;
}

#[tokio::test]
async fn a_price_changed_right_after_its_read_is_read_again() {
    let (sync, sale) = sold().await;
    // a second read within one second of Stripe's clock has the version of the first
    sync.demand([("price".to_owned(), sale.price.clone())]).await;
    sync.settle().await;
    change_behind_a_stale_read(&sync, &sale, 1).await;
    sync.finish().await;
}

#[tokio::test]
async fn events_that_repeat_a_known_price_read_nothing() {
    let (sync, sale) = sold().await;
    let path = format!("/v1/prices/{}", sale.price);
    let before = sync.served(&path);
    for (number, epoch) in Epoch::ALL.into_iter().enumerate() {
        let mark = sync.stripe.mark();
        sync.stripe.update(&sale.subscription, json!({ "metadata": { "round": number.to_string() } }));
        sync.stripe.tick(60);
        sync.emit(mark, epoch, &["customer.subscription.updated"]).await;
        sync.settle().await;
    }
    assert_eq!(sync.served(&path), before, "each subscription event contains its price, in some API version");
    // but a copy that differs shows that the price has changed
    sync.stripe.update(&sale.price, json!({ "currency_options": { "usd": in_dollars(900) }, "active": false }));
    let mark = sync.stripe.mark();
    sync.stripe.update(&sale.subscription, json!({ "metadata": { "round": "last" } }));
    sync.stripe.tick(60);
    sync.emit(mark, Epoch::Endive, &["customer.subscription.updated"]).await;
    sync.settle().await;
    assert_eq!(sync.app.text(PRICES).await.as_deref(), Some(r#"{"eur": 10.00, "usd": 9.00}"#));
    sync.finish().await;
}

#[tokio::test]
async fn the_items_of_a_changed_session_are_read_again() {
    let (sync, sale) = sold().await;
    let other = sync.stripe.price(&sale.product, 2000, json!({}));
    let session = sync.stripe.checkout(&sale.price, json!({ "customer": sale.customer }));
    sync.stripe.tick(60);
    sync.demand([("checkout.session".to_owned(), session.clone())]).await;
    sync.settle().await;
    let of = "SELECT stripe_price_id FROM billing.checkout_sessions";
    assert_eq!(sync.app.text(of).await, Some(sale.price.clone()));
    let mark = sync.stripe.mark();
    sync.stripe.change_items(&session, &other);
    sync.stripe.complete_checkout(&session, &sale.subscription, "paid");
    sync.stripe.tick(60);
    sync.emit(mark, Epoch::Endive, &["checkout.session.completed"]).await;
    sync.settle().await;
    assert_eq!(sync.app.text(of).await, Some(other));
    sync.finish().await;
}
