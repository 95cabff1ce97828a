//! Plans from products, prices and their reads, and subscriptions that wait for their plan.

use serde_json::{Value, json};

use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

#[tokio::test]
async fn a_change_of_a_product_changes_all_its_plans() {
    let sync = Fetching::start().await;
    let product = sync.stripe.product(json!({ "name": "Writing" }));
    for cents in [1000, 2000, 3000] {
        sync.stripe.price(&product, cents, json!({}));
    }
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    let plans = "SELECT string_agg(concat_ws(' ', product_name, active), ', ') FROM billing.pricing_plans";
    assert_eq!(sync.app.text(plans).await.as_deref(), Some("Writing t, Writing t, Writing t"));
    let limits = "SELECT string_agg(concat_ws(' ', limit_key, included), ', ') FROM billing.plan_limits";
    let mark = sync.stripe.mark();
    sync.stripe.tick(5);
    sync.stripe.update(&product, json!({ "name": "Reading", "active": false, "metadata": { "limit_words": "5" } }));
    sync.app.deliver_all(&sync.stripe.events_since(mark), Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(sync.app.text(plans).await.as_deref(), Some("Reading f, Reading f, Reading f"));
    assert_eq!(sync.app.text(limits).await.as_deref(), Some("words 5, words 5, words 5"));
    sync.finish().await;
}

/// The event with only the ids of prices, as in very old API versions.
fn with_price_id_only(mut event: Value) -> Value {
    for item in event["data"]["object"]["items"]["data"].as_array_mut().unwrap() {
        let id = item["price"]["id"].clone();
        item["price"] = id;
        item["plan"] = Value::Null;
    }
    event
}

#[tokio::test]
async fn a_late_price_gives_its_plan_to_all_subscriptions() {
    let sync = Fetching::start().await;
    let price = sync.stripe.price(&sync.stripe.product(json!({})), 1000, json!({}));
    let mark = sync.stripe.mark();
    for _ in 0..250 {
        let customer = sync.stripe.customer(json!({}));
        sync.stripe.subscribe(&customer, &price);
    }
    sync.pass_the_margin();
    let events = sync.stripe.events_since(mark);
    let json = events.iter().map(|event| match event.event_type.as_str() {
        "customer.subscription.created" => with_price_id_only(event.json(Epoch::Endive)),
        _ => event.json(Epoch::Endive),
    });
    sync.app.enqueue(json.collect::<Vec<_>>().iter()).await;
    sync.app.drain().await;
    let without = "SELECT count(*)::text FROM billing.subscriptions WHERE pricing_plan_id IS NULL";
    assert_eq!(sync.app.text(without).await.as_deref(), Some("250"));
    assert_eq!(sync.left().await, [format!("fetch price {price}")]);
    sync.settle().await;
    assert_eq!(sync.app.text(without).await.as_deref(), Some("0"));
    assert_eq!(sync.served(&format!("/v1/prices/{price}")), 1);
    let linked =
        "SELECT count(*)::text FROM billing.subscriptions s JOIN billing.pricing_plans p ON p.id = s.pricing_plan_id";
    assert_eq!(sync.app.text(linked).await.as_deref(), Some("250"));
    sync.finish().await;
}

#[tokio::test]
async fn items_omitted_by_a_payload_are_listed() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let extra = sync.stripe.price(&sale.product, 500, json!({}));
    for _ in 0..2 {
        sync.stripe.tick(1);
        sync.stripe.add_item(&sale.subscription, &extra);
    }
    // the payload shows only the newest item; the oldest, which counts, must be read
    sync.stripe.show_items(1);
    let mut event = sync.stripe.events().pop().unwrap().json(Epoch::Endive);
    let chosen = event["data"]["object"]["items"]["data"][0].clone();
    let mut other = chosen.clone();
    (other["id"], other["created"]) = (json!("si_z"), json!(sync.stripe.now() + 9));
    event["data"]["object"]["items"]["data"] = json!([other]);
    sync.pass_the_margin();
    sync.app.deliver(&event).await;
    sync.settle().await;
    assert!(sync.stripe.served().iter().any(|request| request.path == "/v1/subscription_items"));
    let item = "SELECT stripe_subscription_item_id || ' ' || stripe_price_id FROM billing.subscriptions";
    assert_eq!(sync.app.text(item).await, Some(format!("{} {}", chosen["id"].as_str().unwrap(), sale.price)));
    assert!(sync.app.metric("billing_sync_event_reasons_total{reason=\"multiple_items\"}") >= 1.0);
    sync.finish().await;
}

#[tokio::test]
async fn prices_keep_the_decimals_of_each_currency() {
    let sync = Fetching::start().await;
    let option = |amount: i64| json!({ "unit_amount": amount, "unit_amount_decimal": amount.to_string() });
    let options = json!({ "jpy": option(1500), "kwd": option(3250), "usd": option(1099) });
    let price = sync.stripe.price(&sync.stripe.product(json!({})), 999, json!({ "currency_options": options }));
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(sync.served(&format!("/v1/prices/{price}")), 1, "webhooks do not contain other currencies");
    let row = "SELECT price_in_euro || ' ' || price_per_currency FROM billing.plans";
    let found = sync.app.text(row).await.unwrap();
    assert_eq!(found, r#"9.99 {"eur": 9.99, "jpy": 1500, "kwd": 3.250, "usd": 10.99}"#);
    sync.finish().await;
}

#[tokio::test]
async fn limits_come_from_price_then_product_and_invalid_ones_are_null() {
    let sync = Fetching::start().await;
    let product =
        sync.stripe.product(json!({ "metadata": { "limit_members": "3", "words": "7", "limit_images": "x" } }));
    sync.stripe.price(&product, 999, json!({ "metadata": { "limit_words": "5000", "limit_seats": "unlimited" } }));
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    let found = sync.app.text("SELECT limits::text FROM billing.plans").await.unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found, json!({ "words": 5000, "members": 3, "images": null, "seats": "unlimited" }));
    sync.finish().await;
}

#[tokio::test]
async fn too_many_members_deactivate_and_an_unknown_count_does_not() {
    const WORKSPACE: &str = "00000000-0000-4000-8000-000000000001";
    let sync = Fetching::start().await;
    let customer = sync.stripe.customer(json!({ "metadata": { "workspace_id": WORKSPACE } }));
    let price =
        sync.stripe.price(&sync.stripe.product(json!({})), 999, json!({ "metadata": { "limit_members": "3" } }));
    sync.stripe.subscribe(&customer, &price);
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    let state = "SELECT concat_ws(' ', w.active, w.inactive_reason, s.active) FROM billing.workspace_billing w
        JOIN billing.live_subscriptions s ON s.id = w.current_subscription_id";
    assert_eq!(sync.app.text(state).await.as_deref(), Some("t t"), "the workspace has no row");
    sync.app.execute("INSERT INTO billing.workspaces (id) VALUES ('00000000-0000-4000-8000-000000000001')").await;
    assert_eq!(sync.app.text(state).await.as_deref(), Some("t t"), "the member count is unknown");
    sync.app.execute("UPDATE billing.workspaces SET member_count = 3").await;
    assert_eq!(sync.app.text(state).await.as_deref(), Some("t t"));
    sync.app.execute("UPDATE billing.workspaces SET member_count = 4").await;
    assert_eq!(sync.app.text(state).await.as_deref(), Some("f too_many_members f"));
    sync.finish().await;
}
