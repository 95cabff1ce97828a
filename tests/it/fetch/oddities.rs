//! Unusual payloads: whole objects instead of ids, missing parts, unknown values.

use serde_json::{Value, json};

use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

const STATE: &str =
    "SELECT concat_ws(' ', stripe_customer_id, stripe_status, active, payment_type) FROM billing.subscriptions";

fn last_of(sync: &Fetching, event_type: &str) -> Value {
    let event = sync.stripe.events().into_iter().rev().find(|event| event.event_type == event_type);
    event.unwrap().json(Epoch::Endive)
}

#[tokio::test]
async fn objects_nested_instead_of_ids_are_stored_separately() {
    let sync = Fetching::start().await;
    let (stripe, sale) = (&sync.stripe, sync.sell());
    let card = stripe.card("visa", "4242");
    stripe.attach(&card, &sale.customer);
    let invoice = stripe.bill(&sale.subscription, 1000);
    stripe.update(&sale.subscription, json!({ "default_payment_method": card }));
    let mut event = last_of(&sync, "customer.subscription.updated");
    for (field, id) in [("customer", &sale.customer), ("default_payment_method", &card), ("latest_invoice", &invoice)] {
        event["data"]["object"][field] = stripe.object(id);
    }
    sync.pass_the_margin();
    sync.app.deliver(&event).await;
    sync.settle().await;
    assert_eq!(sync.app.text(STATE).await, Some(format!("{} active t card", sale.customer)));
    let contact = "SELECT name || ' ' || stripe_customer_id FROM billing.billing_contacts";
    assert_eq!(sync.app.text(contact).await, Some(format!("Ada {}", sale.customer)));
    assert_eq!(sync.served(&format!("/v1/customers/{}", sale.customer)), 0, "the event contained the whole object");
    assert_eq!(sync.served(&format!("/v1/payment_methods/{card}")), 0);
    sync.finish().await;
}

#[tokio::test]
async fn a_subscription_without_items_has_a_row_without_a_plan() {
    let sync = Fetching::start().await;
    sync.sell();
    let mut event = last_of(&sync, "customer.subscription.created");
    event["data"]["object"]["items"]["data"] = json!([]);
    sync.emit(0, Epoch::Endive, &["customer.created"]).await;
    sync.app.deliver(&event).await;
    sync.pass_the_margin();
    sync.settle().await;
    let row = "SELECT concat_ws(' ', active, stripe_price_id, pricing_plan_id, stripe_subscription_item_id,
        next_subscription_cycle_start) FROM billing.subscriptions";
    assert_eq!(sync.app.text(row).await.as_deref(), Some("t"));
    sync.finish().await;
}

#[tokio::test]
async fn old_envelopes_are_read() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    sync.emit(0, Epoch::Endive, &["customer.created"]).await;
    let changes = [("request", json!("req_1")), ("request", Value::Null), ("api_version", Value::Null)];
    for (number, (field, value)) in changes.into_iter().enumerate() {
        sync.stripe.tick(1);
        sync.stripe.update(&sale.customer, json!({ "name": format!("Ada {number}") }));
        let mut event = last_of(&sync, "customer.updated");
        event[field] = value;
        sync.app.deliver_and_drain(std::slice::from_ref(&event)).await;
        assert_eq!(sync.app.fate(event["id"].as_str().unwrap()).await, "done applied -", "{field}");
        let name = sync.app.text("SELECT name FROM billing.billing_contacts").await;
        assert_eq!(name, Some(format!("Ada {number}")));
    }
    let mut upcoming = last_of(&sync, "customer.updated");
    (upcoming["id"], upcoming["type"]) = (json!("evt_upcoming"), json!("invoice.upcoming"));
    upcoming["data"] =
        json!({ "object": { "object": "invoice", "customer": sale.customer, "subscription": sale.subscription } });
    sync.app.deliver(&upcoming).await;
    sync.settle().await;
    assert_eq!(sync.app.fate("evt_upcoming").await, "done ignored informational");
    sync.finish().await;
}

#[tokio::test]
async fn unknown_types_statuses_and_brands_are_kept() {
    let sync = Fetching::start().await;
    let (stripe, sale) = (&sync.stripe, sync.sell());
    let card = stripe.card("moonexpress", "4242");
    stripe.attach(&card, &sale.customer);
    stripe.update(&sale.subscription, json!({ "default_payment_method": card, "status": "hibernating" }));
    sync.pass_the_margin();
    sync.deliver_all(Epoch::Endive).await;
    let mut unknown = last_of(&sync, "customer.subscription.updated");
    (unknown["id"], unknown["type"]) = (json!("evt_unknown"), json!("customer.subscription.hibernated"));
    sync.app.deliver(&unknown).await;
    sync.settle().await;
    assert_eq!(sync.app.fate("evt_unknown").await, "done unknown unknown_type");
    let row = "SELECT concat_ws(' ', stripe_status, active, inactive_reason, payment_method_card_brand) FROM billing.subscriptions";
    assert_eq!(sync.app.text(row).await.as_deref(), Some("hibernating f unknown_status moonexpress"));
    stripe.update(&card, json!({ "type": "moon_debit", "moon_debit": { "last4": "0042" } }));
    stripe.tick(5);
    stripe.update(&card, json!({ "metadata": { "a": "b" } }));
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    let kind = "SELECT concat_ws(' ', payment_type, payment_method_card_brand, payment_card_number_last_four_digits)
        FROM billing.subscriptions";
    assert_eq!(sync.app.text(kind).await.as_deref(), Some("moon_debit 0042"));
    sync.finish().await;
}

#[tokio::test]
async fn an_unknown_customer_is_fetched_and_its_subscription_stored() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    let mut event = last_of(&sync, "customer.subscription.created");
    event["data"]["object"]["customer"] = json!("cus_unknown");
    sync.pass_the_margin();
    sync.app.deliver(&event).await;
    sync.settle().await;
    assert_eq!(sync.served("/v1/customers/cus_unknown"), 1);
    assert_eq!(sync.served(&format!("/v1/customers/{}", sale.customer)), 0);
    assert_eq!(sync.app.text(STATE).await.as_deref(), Some("cus_unknown active t"));
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("0"));
    assert!(sync.app.metric("billing_sync_event_reasons_total{reason=\"unknown_customer\"}") >= 1.0);
    sync.finish().await;
}
