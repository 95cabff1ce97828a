//! Dates that only move earlier, discounts that end, causes of row changes, and columns of the product.

use serde_json::json;

use crate::support::events::START;
use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

const WORKSPACE: &str = "00000000-0000-4000-8000-000000000001";

#[tokio::test]
async fn the_first_payment_and_the_first_trial_of_a_workspace_are_kept() {
    for epoch in [Epoch::V2022, Epoch::Endive] {
        let sync = Fetching::start().await;
        let stripe = &sync.stripe;
        let customer = stripe.customer(json!({ "metadata": { "workspaceId": WORKSPACE } }));
        let price = stripe.price(&stripe.product(json!({})), 1000, json!({}));
        let card = stripe.card("visa", "4242");
        stripe.attach(&card, &customer);
        let trial = stripe.trial(&customer, &price, 14);
        stripe.pay_nothing(&stripe.bill(&trial, 0));
        stripe.set_clock(START + 14 * 86_400);
        stripe.convert_trial(&trial);
        stripe.tick(60);
        stripe.charge_succeeded(&stripe.bill(&trial, 1000), &card);
        stripe.tick(31 * 86_400);
        stripe.pay_out_of_band(&stripe.bill(&trial, 1000));
        stripe.cancel_now(&trial);
        let mut events = stripe.events();
        events.reverse();
        sync.pass_the_margin();
        sync.app.deliver_all(&events, epoch).await;
        sync.settle().await;
        let dates = "SELECT concat_ws(' ', extract(epoch FROM first_paid_subscription_at)::bigint,
            extract(epoch FROM trial_started_at)::bigint, active) FROM billing.workspace_billing";
        let expected = format!("{} {START} f", START + 14 * 86_400 + 60);
        assert_eq!(sync.app.text(dates).await, Some(expected), "{epoch:?}");
        let running = "SELECT (trial_started_at IS NULL)::text FROM billing.subscriptions";
        assert_eq!(sync.app.text(running).await.as_deref(), Some("true"), "no trial is running");
        sync.finish().await;
    }
}

#[tokio::test]
async fn an_out_of_band_payment_is_a_first_payment() {
    let sync = Fetching::start().await;
    let customer = sync.stripe.customer(json!({ "metadata": { "workspace_id": WORKSPACE } }));
    let price = sync.stripe.price(&sync.stripe.product(json!({})), 1000, json!({}));
    let subscription = sync.stripe.subscribe(&customer, &price);
    sync.stripe.tick(77);
    sync.stripe.pay_out_of_band(&sync.stripe.bill(&subscription, 1000));
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    let paid = "SELECT extract(epoch FROM first_paid_subscription_at)::bigint::text FROM billing.workspace_billing";
    assert_eq!(sync.app.text(paid).await, Some((START + 77).to_string()));
    sync.finish().await;
}

#[tokio::test]
async fn a_discount_has_no_effect_once_its_end_has_passed() {
    let sync = Fetching::start().await;
    let (stripe, sale) = (&sync.stripe, sync.sell());
    let (old, new) = (stripe.coupon("OLD", 10.0), stripe.coupon("NEW", 20.0));
    let ended = stripe.discount(&sale.subscription, &old);
    stripe.update(&ended, json!({ "end": START + 100 }));
    stripe.discount(&sale.subscription, &new);
    let of_customer = stripe.discount(&sale.customer, &old);
    stripe.update(&of_customer, json!({ "end": START + 100 }));
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    let stored = "SELECT active_discounts::text || active_discount_ends::text FROM billing.subscriptions";
    let stored = sync.app.text(stored).await.unwrap();
    assert!(stored.contains("OLD") && stored.contains("NEW") && stored.contains("2026-01-01"), "{stored}");
    let live = "SELECT active_discounts::text FROM billing.live_subscriptions";
    assert_eq!(sync.app.text(live).await.as_deref(), Some("{NEW}"));
    let contact = "SELECT c.active_discount || ' ' || (l.active_discount IS NULL)
        FROM billing.billing_contacts c JOIN billing.live_billing_contacts l USING (id)";
    assert_eq!(sync.app.text(contact).await.as_deref(), Some("OLD true"));
    sync.finish().await;
}

#[tokio::test]
async fn row_changes_name_the_events_or_the_read_behind_them() {
    let (sync, sale) = Fetching::sold().await;
    sync.stripe.tick(5);
    sync.stripe.pause_collection(&sale.subscription);
    let event = sync.stripe.events().pop().unwrap();
    sync.app.deliver(&event.json(Epoch::Endive)).await;
    sync.settle().await;
    let last = "SELECT concat_ws(' ', table_name, causes, changes -> 'payment_paused', changes -> 'inactive_reason')
        FROM billing.row_changes ORDER BY id DESC LIMIT 1";
    let expected = format!(r#"subscriptions {{{}}} [false, true] [null, "payment_paused"]"#, event.id);
    assert_eq!(sync.app.text(last).await, Some(expected));
    sync.stripe.tick(5);
    sync.stripe.resume_collection(&sale.subscription);
    sync.app.deliver(&sync.stripe.events().pop().unwrap().thin()).await;
    sync.pass_the_margin();
    sync.settle().await;
    let expected = r#"subscriptions {read} [true, false] ["payment_paused", null]"#;
    assert_eq!(sync.app.text(last).await.as_deref(), Some(expected));
    sync.finish().await;
}

#[tokio::test]
async fn columns_of_the_product_survive_the_sync() {
    let sync = Fetching::start().await;
    let (stripe, sale) = (&sync.stripe, sync.sell());
    let coupon = stripe.coupon("TEN", 10.0);
    stripe.update(&sale.customer, json!({ "metadata": { "workspace_id": WORKSPACE } }));
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    sync.app
        .execute(
            "UPDATE billing.pricing_plans SET display_name = 'Gold', tier = 3, is_default = true, category_id = 'c',
                translation_key = 'plans.gold', trial_days = 7, stripe_billing_portal_enabled = true;
            UPDATE billing.coupons SET translation_key = 'coupons.ten', pricing_plan_id = (SELECT id FROM billing.pricing_plans);
            INSERT INTO billing.workspaces (id, name, member_count)
            VALUES ('00000000-0000-4000-8000-000000000001', 'Ours', 2)",
        )
        .await;
    let own = "SELECT concat_ws(' ', p.display_name, tier, is_default, category_id, p.translation_key, trial_days,
            stripe_billing_portal_enabled, c.translation_key, c.pricing_plan_id = p.id, w.name, w.member_count)
        FROM billing.pricing_plans p, billing.coupons c, billing.workspaces w";
    let before = sync.app.text(own).await;
    assert_eq!(before.as_deref(), Some("Gold 3 t c plans.gold 7 t coupons.ten t Ours 2"));
    stripe.tick(5);
    let mark = stripe.mark();
    stripe.update(&sale.price, json!({ "active": false, "metadata": { "limit_words": "1" } }));
    stripe.update(&sale.product, json!({ "name": "Silver" }));
    stripe.update(&coupon, json!({ "name": "Ten" }));
    stripe.update(&sale.customer, json!({ "name": "Grace" }));
    stripe.delete(&coupon);
    sync.app.deliver_all(&stripe.events_since(mark), Epoch::Endive).await;
    sync.pass_the_margin();
    sync.settle().await;
    assert_eq!(sync.app.text(own).await, before);
    let synced =
        "SELECT concat_ws(' ', p.product_name, p.active, c.name, c.stripe_deleted_at IS NOT NULL, v.display_name)
        FROM billing.pricing_plans p JOIN billing.plans v USING (id), billing.coupons c";
    assert_eq!(sync.app.text(synced).await.as_deref(), Some("Silver f Ten t Gold"));
    sync.finish().await;
}
