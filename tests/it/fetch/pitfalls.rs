//! Known bugs of other Stripe integrations: order of events, links between objects, switches of subscriptions.

use serde_json::json;

use crate::support::events::{event, price, subscription, with};
use crate::support::fetching::Fetching;
use crate::support::stripe::{Epoch, shuffled};

const WORKSPACE: &str = "00000000-0000-4000-8000-000000000001";
const CURRENT: &str = "SELECT s.stripe_subscription_id || ' ' || w.active FROM billing.workspace_billing w
    JOIN billing.subscriptions s ON s.id = w.current_subscription_id AND s.billing_contact_id = w.billing_contact_id";

#[tokio::test]
async fn a_slow_worker_does_not_overwrite_newer_content() {
    let (sync, sale) = Fetching::sold().await;
    let mark = sync.stripe.mark();
    for status in ["past_due", "active", "unpaid"] {
        sync.stripe.tick(1);
        sync.stripe.set_status(&sale.subscription, status);
    }
    let events = sync.stripe.events_since(mark);
    sync.app.deliver(&events[0].json(Epoch::Endive)).await;
    // another worker has claimed the first event and is slow
    let mut slow = sync.app.pool.begin().await.unwrap();
    let claimed = "SELECT event_id FROM billing.outbox WHERE event_id = $1 FOR UPDATE";
    let held: String = sqlx::query_scalar(claimed).bind(&events[0].id).fetch_one(&mut *slow).await.unwrap();
    sync.app.deliver_all(&events[1..], Epoch::Endive).await;
    sync.app.drain().await;
    let status = "SELECT stripe_status FROM billing.subscriptions";
    assert_eq!(sync.app.text(status).await.as_deref(), Some("unpaid"));
    slow.rollback().await.unwrap();
    sync.settle().await;
    assert_eq!(sync.app.fate(&held).await, "done superseded -");
    assert_eq!(sync.app.text(status).await.as_deref(), Some("unpaid"));
    sync.finish().await;
}

#[tokio::test]
async fn an_update_after_the_end_does_not_revive_a_subscription() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    sync.stripe.cancel_at_period_end(&sale.subscription);
    let update = sync.stripe.events().pop().unwrap();
    sync.stripe.cancel_now(&sale.subscription); // within the same second
    sync.pass_the_margin();
    sync.emit(0, Epoch::Endive, &["customer.created", "customer.subscription.deleted"]).await;
    sync.settle().await;
    sync.app.deliver(&update.json(Epoch::Endive)).await;
    sync.emit(0, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.settle().await;
    let state =
        "SELECT concat_ws(' ', stripe_status, active, inactive_reason, is_grace_period) FROM billing.subscriptions";
    assert_eq!(sync.app.text(state).await.as_deref(), Some("canceled f canceled f"));
    sync.finish().await;
}

#[tokio::test]
async fn an_invoice_with_a_removed_item_changes_no_item() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let invoice = sync.stripe.bill(&sale.subscription, 1000);
    let other = sync.stripe.price(&sale.product, 2000, json!({}));
    sync.stripe.tick(5);
    let item = sync.stripe.replace_item(&sale.subscription, &other);
    sync.stripe.tick(5);
    let card = sync.stripe.card("visa", "4242");
    sync.stripe.charge_succeeded(&invoice, &card);
    sync.pass_the_margin();
    sync.deliver_all(Epoch::V2022).await;
    sync.settle().await;
    let found = "SELECT stripe_subscription_item_id || ' ' || stripe_price_id FROM billing.subscriptions";
    assert_eq!(sync.app.text(found).await, Some(format!("{item} {other}")));
    sync.finish().await;
}

#[tokio::test]
async fn two_stripe_customers_may_pay_for_one_workspace() {
    let sync = Fetching::start().await;
    let link = json!({ "metadata": { "workspace_id": WORKSPACE } });
    let (ada, eve) = (sync.stripe.customer(link.clone()), sync.stripe.customer(link));
    let price = sync.stripe.price(&sync.stripe.product(json!({})), 1000, json!({}));
    let first = sync.stripe.subscribe(&ada, &price);
    sync.stripe.tick(5);
    let second = sync.stripe.subscribe(&eve, &price);
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(sync.app.text(CURRENT).await, Some(format!("{second} true")));
    let mark = sync.stripe.mark();
    sync.stripe.cancel_now(&second);
    sync.app.deliver_all(&sync.stripe.events_since(mark), Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(sync.app.text(CURRENT).await, Some(format!("{first} true")));
    sync.finish().await;
}

#[tokio::test]
async fn a_switch_by_checkout_has_two_live_subscriptions_briefly() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    sync.stripe.update(&sale.customer, json!({ "metadata": { "workspace_id": WORKSPACE } }));
    sync.stripe.tick(60);
    let session = sync.stripe.checkout(&sale.price, json!({ "client_reference_id": WORKSPACE }));
    let new = sync.stripe.subscribe_with(&sale.customer, &sale.price, json!({ "status": "incomplete" }));
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(sync.app.text(CURRENT).await, Some(format!("{} true", sale.subscription)), "not paid yet");
    let mark = sync.stripe.mark();
    sync.stripe.set_status(&new, "active");
    sync.stripe.complete_checkout(&session, &new, "paid");
    sync.pass_the_margin();
    sync.app.deliver_all(&sync.stripe.events_since(mark), Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(sync.app.text(CURRENT).await, Some(format!("{new} true")));
    let mark = sync.stripe.mark();
    sync.stripe.cancel_now(&sale.subscription);
    sync.app.deliver_all(&sync.stripe.events_since(mark), Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(sync.app.text(CURRENT).await, Some(format!("{new} true")));
    sync.finish().await;
}

#[tokio::test]
async fn a_workspace_named_only_by_the_checkout_is_found() {
    for reversed in [false, true] {
        let sync = Fetching::start().await;
        let sale = sync.sell();
        let session = sync.stripe.checkout(&sale.price, json!({ "client_reference_id": WORKSPACE }));
        sync.stripe.complete_checkout(&session, &sale.subscription, "paid");
        let mut events = sync.stripe.events();
        if reversed {
            events.reverse();
        }
        sync.pass_the_margin();
        for event in &events {
            sync.app.deliver_and_drain(&[event.json(Epoch::Endive)]).await;
        }
        sync.settle().await;
        let found =
            "SELECT concat_ws(' ', s.workspace_id, c.workspace_id, c.stripe_price_id = s.stripe_price_id, c.status)
            FROM billing.subscriptions s JOIN billing.checkout_sessions c USING (stripe_subscription_id)";
        assert_eq!(sync.app.text(found).await, Some(format!("{WORKSPACE} {WORKSPACE} t complete")), "{reversed}");
        assert_eq!(sync.app.text(CURRENT).await, Some(format!("{} true", sale.subscription)));
        sync.finish().await;
    }
}

#[tokio::test]
async fn a_price_change_during_a_switch_counts_in_any_order() {
    for seed in 0..4 {
        let sync = Fetching::start().await;
        let sale = sync.sell();
        let other = sync.stripe.price(&sale.product, 2000, json!({ "metadata": { "limit_words": "1" } }));
        sync.stripe.tick(5);
        sync.stripe.switch_price(&sale.subscription, &other);
        sync.stripe.update(&other, json!({ "active": false, "metadata": { "limit_words": "2" } }));
        sync.pass_the_margin();
        sync.app.deliver_all(&shuffled(&sync.stripe.events(), seed), Epoch::Endive).await;
        sync.settle().await;
        let found = "SELECT concat_ws(' ', s.stripe_price_id, p.active, p.limits)
            FROM billing.subscriptions s JOIN billing.plans p ON p.id = s.pricing_plan_id";
        assert_eq!(sync.app.text(found).await, Some(format!(r#"{other} f {{"words": 2}}"#)), "seed {seed}");
        sync.finish().await;
    }
}

#[tokio::test]
async fn a_plan_a_price_and_a_product_may_share_one_id() {
    let app = crate::support::app::TestApp::start().await;
    let gold = with(&price("gold", 1900), json!({ "product": "gold" }));
    let plan = json!({ "id": "gold", "object": "plan", "active": true, "amount": 1900, "amount_decimal": "1900",
                       "currency": "eur", "interval": "month", "interval_count": 1, "product": "gold" });
    let product = json!({ "id": "gold", "object": "product", "active": true, "name": "Gold", "metadata": {} });
    let mut sub = subscription("sub_1", "cus_1");
    sub["items"]["data"][0]["price"] = gold.clone();
    sub["items"]["data"][0]["plan"] = plan.clone();
    app.deliver_and_drain(&[
        event("evt_1", "plan.created", 0, &plan, None),
        event("evt_2", "product.created", 1, &product, None),
        event("evt_3", "price.created", 2, &gold, None),
        event("evt_4", "customer.subscription.created", 3, &sub, None),
        event("evt_5", "product.updated", 4, &with(&product, json!({ "name": "Golden" })), None),
    ])
    .await;
    let found =
        "SELECT string_agg(concat_ws(' ', p.stripe_price_id, p.product_name, p.price_in_euro, s.id IS NOT NULL), ',')
        FROM billing.pricing_plans p LEFT JOIN billing.subscriptions s ON s.pricing_plan_id = p.id";
    assert_eq!(app.text(found).await.as_deref(), Some("gold Golden 19.00 t"));
    app.finish().await;
}
