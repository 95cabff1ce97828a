//! Jobs: each request is fetched once, and no request is lost.

use std::time::Duration;

use billing_sync::jobs::{Kind, claim};
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

#[tokio::test]
async fn unknown_objects_of_a_subscription_are_fetched_once() {
    let mut sync = Fetching::start().await;
    sync.fetch_one_by_one();
    let (stripe, sale) = (&sync.stripe, sync.sell());
    let (card, bank) = (stripe.card("visa", "4242"), stripe.sepa_debit("3000"));
    stripe.attach(&card, &sale.customer);
    stripe.update(&sale.subscription, json!({ "default_payment_method": card }));
    let coupon = stripe.coupon("TEN", 10.0);
    stripe.discount(&sale.subscription, &coupon);
    let later = stripe.price(&sale.product, 2000, json!({}));
    let (now, then) = (stripe.now(), stripe.now() + 1000);
    let schedule =
        stripe.schedule(&sale.subscription, &[(&sale.price, now, then), (&later, then, then + 1000)], "release");
    let invoice = stripe.bill(&sale.subscription, 1000);
    stripe.charge_succeeded(&invoice, &bank);
    stripe.update(&sale.subscription, json!({ "default_payment_method": null }));
    sync.pass_the_margin();
    sync.emit(0, Epoch::Endive, &["customer.created", "customer.subscription.updated"]).await;
    sync.app.drain().await;
    sync.emit(0, Epoch::Clover, &["customer.subscription.created"]).await;
    sync.settle_in_turn().await;
    for path in [
        format!("/v1/prices/{}", sale.price),
        format!("/v1/prices/{later}"),
        format!("/v1/subscriptions/{}", sale.subscription),
        format!("/v1/invoices/{invoice}"),
    ] {
        assert_eq!(sync.served(&path), 1, "{path}: {:#?}", stripe.served());
    }
    assert!(sync.served(&format!("/v1/subscription_schedules/{schedule}")) <= 1);
    assert!(sync.served(&format!("/v1/products/{}", sale.product)) <= 1);
    assert!(sync.served(&format!("/v1/payment_methods/{card}")) <= 1);
    let row = "SELECT concat_ws(' ', payment_type, payment_card_number_last_four_digits, active_discounts,
            pricing_plan_id IS NOT NULL, new_pricing_plan_id IS NOT NULL, new_stripe_price_id)
        FROM billing.subscriptions";
    assert_eq!(sync.app.text(row).await, Some(format!("sepa_debit 3000 {{TEN}} t t {later}")));
    let requests = stripe.served().len();
    sync.emit(0, Epoch::Endive, &["customer.subscription.updated"]).await;
    sync.settle().await;
    assert_eq!(stripe.served().len(), requests, "all objects are known");
    sync.finish().await;
}

#[tokio::test]
async fn a_payment_method_named_only_by_id_is_fetched() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let card = sync.stripe.card("visa", "4242");
    sync.stripe.attach(&card, &sale.customer);
    sync.stripe.set_default_payment_method(&sale.customer, &card);
    sync.pass_the_margin();
    sync.emit(0, Epoch::V2020, &["customer.created", "customer.updated"]).await;
    sync.settle().await;
    assert_eq!(sync.served(&format!("/v1/payment_methods/{card}")), 1);
    let contact = "SELECT concat_ws(' ', default_payment_method, default_payment_method_card_brand,
        default_payment_card_number_last_four_digits) FROM billing.billing_contacts";
    assert_eq!(sync.app.text(contact).await.as_deref(), Some("card visa 4242"));
    sync.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_during_a_fetch_is_served_again() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let path = format!("/v1/customers/{}", sale.customer);
    sync.emit(0, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.app.drain().await;
    sync.pass_the_margin();
    let customer = sale.customer.clone();
    sync.during(&path, move |stripe| {
        let mark = stripe.mark();
        stripe.tick(1);
        stripe.update(&customer, json!({ "name": "Grace" }));
        stripe.events_since(mark).iter().map(crate::support::stripe::Event::thin).collect()
    });
    sync.fetch().await;
    // a concurrent worker may have projected the plans of the product, or a job for it is left
    let left: Vec<String> = sync.left().await.into_iter().filter(|job| !job.starts_with("reproject ")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with(&format!("fetch customer {}", sale.customer)), "{left:?}");
    let served = sync.served(&path);
    sync.pass_the_margin();
    sync.settle().await;
    assert!(sync.served(&path) > served, "the object was fetched again");
    assert_eq!(sync.app.text("SELECT name FROM billing.billing_contacts").await.as_deref(), Some("Grace"));
    sync.finish().await;
}

#[tokio::test]
async fn the_lease_of_a_dead_worker_expires() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let path = format!("/v1/customers/{}", sale.customer);
    sync.pass_the_margin();
    sync.emit(0, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.app.drain().await;
    let mut conn = sync.app.pool.acquire().await.unwrap();
    let lost = claim::due(&mut conn, Kind::Fetch, 100, Duration::from_hours(1)).await.unwrap();
    drop(conn);
    assert!(lost.iter().any(|job| job.key.object_id == sale.customer), "{lost:?}");
    sync.fetch().await;
    assert_eq!(sync.served(&path), 0, "the lease has not expired");
    sync.wake_jobs().await; // the lease expires
    sync.settle().await;
    assert_eq!(sync.served(&path), 1);
    assert_eq!(sync.app.text("SELECT name FROM billing.billing_contacts").await.as_deref(), Some("Ada"));
    sync.finish().await;
}

#[tokio::test]
async fn a_thin_event_without_its_snapshot_is_fetched() {
    let (sync, sale) = Fetching::sold().await;
    sync.stripe.tick(5);
    let mark = sync.stripe.mark();
    sync.stripe.update(&sale.customer, json!({ "name": "Grace" }));
    let event = sync.stripe.events_since(mark).remove(0);
    sync.app.deliver(&event.thin()).await;
    sync.pass_the_margin();
    sync.settle().await;
    assert_eq!(sync.app.fate(&format!("{}_thin", event.id)).await, "done ignored needs_fetch");
    assert_eq!(sync.app.text("SELECT name FROM billing.billing_contacts").await.as_deref(), Some("Grace"));
    assert_eq!(sync.served(&format!("/v1/customers/{}", sale.customer)), 1);
    sync.finish().await;
}

#[tokio::test]
async fn a_thin_event_with_its_snapshot_fetches_nothing() {
    let (sync, sale) = Fetching::sold().await;
    let (mark, requests) = (sync.stripe.mark(), sync.stripe.served().len());
    sync.stripe.tick(5);
    sync.stripe.update(&sale.customer, json!({ "name": "Grace" }));
    let event = sync.stripe.events_since(mark).remove(0);
    sync.app.deliver(&event.json(Epoch::Endive)).await;
    sync.app.deliver(&event.thin()).await;
    sync.settle().await;
    assert_eq!(sync.app.fate(&format!("{}_thin", event.id)).await, "done superseded superseded_by_snapshot");
    assert_eq!(sync.app.fate(&event.id).await, "done applied -");
    assert_eq!(sync.stripe.served().len(), requests);
    sync.finish().await;
}

#[tokio::test]
async fn without_a_key_no_read_is_queued_and_missing_data_is_counted() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let app = TestApp::start().await;
    app.deliver_all(&sync.stripe.events_of(&sale.subscription), Epoch::Endive).await;
    app.drain().await;
    assert_eq!(app.text("SELECT count(*)::text FROM billing.jobs").await.as_deref(), Some("0"));
    assert!(app.metric("billing_sync_event_reasons_total{reason=\"needs_fetch\"}") >= 1.0);
    assert_eq!(app.text("SELECT stripe_status FROM billing.subscriptions").await.as_deref(), Some("active"));
    app.finish().await;
    sync.finish().await;
}
