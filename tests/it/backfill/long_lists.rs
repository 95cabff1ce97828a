//! Long lists: a customer with many subscriptions, a subscription with many items, a list that is split into ranges.

use billing_sync::verify::compare::Selection;
use billing_sync::verify::customer::WriteMode;
use serde_json::json;

use super::harness::{assert_alike, shop};
use crate::support::fetching::Fetching;

#[tokio::test]
async fn all_150_subscriptions_and_20_items_of_a_customer_are_read() {
    let sync = Fetching::without_accounts().await;
    let product = sync.stripe.product(json!({}));
    let prices: Vec<String> = (1..=20).map(|cents| sync.stripe.price(&product, cents, json!({}))).collect();
    let customer = sync.stripe.customer(json!({ "name": "Many" }));
    for number in 0..150 {
        sync.stripe.tick(60);
        sync.stripe.subscribe(&customer, &prices[number % 20]);
    }
    let wide = sync.stripe.subscribe(&customer, &prices[0]);
    for price in &prices[1..] {
        sync.stripe.add_item(&wide, price);
    }
    // the oldest item sets the row's price, and payloads list the newest first
    sync.stripe.show_items(10);
    sync.stripe.tick(3600);
    sync.backfill_completely().await;
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.subscriptions").await.as_deref(), Some("151"));
    // items are listed only for the subscription whose payload has more of them
    let items = sync.stripe.served().iter().filter(|one| one.path == "/v1/subscription_items").count();
    assert_eq!(items, 1);
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    assert_eq!(sync.drift(Selection::Named(vec![customer]), WriteMode::No).await, Vec::<String>::new());
    sync.end().await;
}

/// Ranges are split while a task is idle: pages are read concurrently, and each only once.
#[tokio::test]
async fn a_long_list_is_read_in_concurrent_ranges() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 120);
    sync.stripe.page_at_most(5);
    sync.backfill_completely().await;
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    let ranges = "SELECT count(*)::text FROM billing.backfill_ranges WHERE list = 'customers'";
    let ranges: usize = sync.app.text(ranges).await.unwrap().parse().unwrap();
    assert!(ranges >= 4, "{ranges}");
    let served = sync.stripe.served();
    let pages = served.iter().filter(|one| one.path == "/v1/customers").count();
    // 24 full pages, and for each range a last page that is partly filled or empty
    assert!(pages <= 24 + 2 * ranges, "{pages} pages for {ranges} ranges");
    sync.end().await;
}
