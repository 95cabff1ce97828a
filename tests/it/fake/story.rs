//! Tests of a long story with every kind of change: its events, and that they are consistent with each other.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Shop;
use crate::support::app::TestApp;
use crate::support::stripe::{Epoch, Event, FakeStripe, shuffled};

/// Runs every change that can happen to subscriptions.
fn run_subscriptions(shop: &Shop, yearly: &str) {
    let (stripe, sub) = (&shop.stripe, &shop.subscription);
    stripe.pause_collection(sub);
    stripe.resume_collection(sub);
    stripe.tick(5);
    stripe.switch_price(sub, yearly);
    stripe.replace_item(sub, &shop.price);
    stripe.add_item(sub, yearly);
    stripe.cancel_at_period_end(sub);
    stripe.uncancel(sub);
    stripe.set_pending_update(sub, yearly);
    stripe.apply_pending_update(sub);
    stripe.set_pending_update(sub, &shop.price);
    stripe.expire_pending_update(sub);
    stripe.pause(sub);
    stripe.tick(5);
    stripe.resume(sub);
    stripe.renew(sub);
    let (now, later) = (stripe.now(), stripe.now() + 1000);
    let schedule = stripe.schedule(sub, &[(&shop.price, now, later), (yearly, later, later + 1000)], "cancel");
    stripe.update(&schedule, json!({ "end_behavior": "release" }));
    stripe.set_clock(later);
    stripe.next_phase(&schedule);
    stripe.release(&schedule);
    let trial = stripe.trial(&shop.customer, &shop.price, 14);
    stripe.cancel_at(&trial, later + 9);
    stripe.uncancel(&trial);
    stripe.tick(20);
    stripe.convert_trial(&trial);
    stripe.cancel_now(&trial);
    let incomplete = stripe.subscribe_with(&shop.customer, &shop.price, json!({ "status": "incomplete" }));
    stripe.set_status(&incomplete, "incomplete_expired");
}

fn run_payments(shop: &Shop) {
    let (stripe, sub) = (&shop.stripe, &shop.subscription);
    let (card, bank) = (shop.card(), stripe.sepa_debit("3000"));
    stripe.attach(&bank, &shop.customer);
    let first = stripe.bill(sub, 1000);
    stripe.charge_pending(&first, &bank);
    stripe.tick(1);
    stripe.charge_failed(&first, &bank, "insufficient_funds");
    stripe.set_status(sub, "past_due");
    let charge = stripe.charge_succeeded(&first, &card);
    let dispute = stripe.dispute(&charge);
    stripe.close_dispute(&dispute, false);
    stripe.void(&stripe.bill(sub, 5));
    stripe.mark_uncollectible(&stripe.bill(sub, 6));
    stripe.pay_out_of_band(&stripe.bill(sub, 7));
    stripe.pay_nothing(&stripe.bill(sub, 0));
    let session = stripe.checkout(&shop.price, json!({ "client_reference_id": "w" }));
    stripe.complete_checkout(&session, sub, "unpaid");
    stripe.async_payment_failed(&session);
    stripe.async_payment_succeeded(&session);
    let abandoned = stripe.checkout(&shop.price, json!({ "ui_mode": "embedded_page" }));
    stripe.expire_checkout(&abandoned);
    stripe.network_updates_card(&card, "1881");
    stripe.update(&card, json!({ "metadata": { "a": "1" } }));
    stripe.detach(&card);
    let legacy = stripe.legacy_card(&shop.customer, "Visa", "0005");
    stripe.sepa_source(&shop.customer, "6000");
    stripe.delete_source(&legacy);
}

fn run_discounts(shop: &Shop) {
    let stripe = &shop.stripe;
    let coupon = stripe.coupon("TEN OFF", 10.0);
    let code = stripe.promotion_code(&coupon, "HELLO");
    let first = stripe.discount(&shop.customer, &coupon);
    let second = stripe.discount(&shop.subscription, &code);
    stripe.update(&second, json!({ "end": stripe.now() + 100 }));
    stripe.discount(&shop.subscription, &coupon);
    stripe.update(&coupon, json!({ "name": "Ten" }));
    stripe.update(&code, json!({ "active": false }));
    stripe.end_discount(&second);
    stripe.end_discount(&first);
    stripe.delete(&coupon);
}

async fn full_story() -> Shop {
    let shop = Shop::open().await;
    let stripe = &shop.stripe;
    let product = stripe.product(json!({ "name": "Yearly" }));
    let yearly = stripe.price(&product, 9000, json!({ "recurring": { "interval": "year" } }));
    run_discounts(&shop);
    run_subscriptions(&shop, &yearly);
    run_payments(&shop);
    stripe.update(&shop.price, json!({ "active": false }));
    stripe.update(&product, json!({ "active": false }));
    stripe.update(&shop.customer, json!({ "metadata": { "a": null, "b": "2" }, "address": { "city": "Berlin" } }));
    stripe.update(&shop.customer, json!({ "address": { "city": "Bonn", "line1": "Markt 1" } }));
    let unused = stripe.price(&product, 1, json!({}));
    stripe.delete(&unused);
    stripe.delete(&shop.customer);
    shop
}

/// Applies the `previous_attributes` of an update as a deep overlay.
fn overlay(object: &mut Value, previous: &Value) {
    match (object, previous) {
        (Value::Object(object), Value::Object(previous)) => {
            for (key, value) in previous {
                overlay(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, previous) => *object = previous.clone(),
    }
}

/// Treats null and absent as equal.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

#[tokio::test]
async fn previous_attributes_restore_the_state_before_in_every_version() {
    let shop = full_story().await;
    for epoch in Epoch::ALL {
        let (mut states, mut compared) = (BTreeMap::<(String, String), Value>::new(), 0);
        for event in shop.stripe.events().iter().map(|event| event.json(epoch)) {
            let object = without_nulls(event["data"]["object"].clone());
            let key = (object["object"].to_string(), object["id"].to_string());
            let previous = &event["data"]["previous_attributes"];
            let repeated = states.get(&key) == Some(&object);
            if let Some(last) = states.get(&key).filter(|_| !previous.is_null() && !repeated) {
                let mut former = event["data"]["object"].clone();
                overlay(&mut former, previous);
                assert_eq!(without_nulls(former), *last, "{} in {epoch:?}", event["type"]);
                compared += 1;
            }
            states.insert(key, object);
        }
        assert!(compared > 40, "only {compared} updates were compared");
    }
}

#[tokio::test]
async fn each_change_emits_the_event_types_of_stripe() {
    let shop = full_story().await;
    let types: Vec<String> = shop.stripe.events().into_iter().map(|event| event.event_type).collect();
    let mut kinds = types.clone();
    kinds.sort();
    kinds.dedup();
    insta::assert_json_snapshot!("the_events_of_the_long_story", kinds);
    let end = ["customer.subscription.deleted", "customer.deleted"];
    assert_eq!(types[types.len() - 2..], end, "the deletion of a customer ends its subscriptions first");
}

#[tokio::test]
async fn a_payment_emits_events_from_charge_to_subscription() {
    let shop = Shop::open().await;
    let (stripe, bank) = (&shop.stripe, shop.stripe.sepa_debit("3000"));
    stripe.attach(&bank, &shop.customer);
    stripe.set_status(&shop.subscription, "past_due");
    let invoice = stripe.bill(&shop.subscription, 1000);
    let mark = stripe.mark();
    let pending = stripe.charge_pending(&invoice, &bank);
    stripe.tick(86_400);
    assert_eq!(stripe.charge_succeeded(&invoice, &bank), pending, "the pending debit");
    let types: Vec<_> = stripe.events_since(mark).into_iter().map(|event| event.event_type).collect();
    assert_eq!(types[..3], ["payment_intent.created", "charge.pending", "payment_intent.processing"]);
    assert_eq!(types[3..5], ["charge.succeeded", "payment_intent.succeeded"]);
    assert_eq!(types[5..8], ["invoice.updated", "invoice.paid", "invoice.payment_succeeded"]);
    assert_eq!(types[8..], ["customer.subscription.updated", "invoice_payment.paid"]);
    assert_eq!(stripe.object(&shop.subscription)["status"], "active");
    assert_eq!(stripe.object(&invoice)["amount_paid"], 1000);
}

#[tokio::test]
async fn two_runs_are_equal_and_event_ids_have_no_order() {
    let (first, second) = (full_story().await.stripe, full_story().await.stripe);
    let json = |stripe: &FakeStripe| stripe.events().iter().map(|event| event.json(Epoch::Basil)).collect::<Vec<_>>();
    assert_eq!(json(&first), json(&second));
    assert_eq!(first.truth(), second.truth());
    let ids = |stripe: &FakeStripe| stripe.events().into_iter().map(|event| event.id).collect::<Vec<_>>();
    let mut sorted = ids(&first);
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), first.mark(), "an id was given twice");
    assert_ne!(sorted, ids(&first));
    let other = FakeStripe::start_with_seed(7).await;
    other.customer(json!({}));
    assert_ne!(ids(&other)[0], ids(&first)[0]);
}

async fn rows_after(events: &[Event], epoch: Epoch) -> Vec<String> {
    let app = TestApp::start().await;
    app.deliver_all(events, epoch).await;
    app.drain().await;
    let rows = app.rows().await;
    app.finish().await;
    rows
}

#[tokio::test]
async fn shuffled_duplicate_events_give_the_rows_of_the_true_order() {
    let shop = full_story().await;
    let events = shop.stripe.events();
    let truth = shop.stripe.truth();
    let subscriptions = truth.values().filter(|object| object["object"] == "subscription").count();
    for epoch in [Epoch::V2020, Epoch::Basil, Epoch::Endive] {
        let in_order = rows_after(&events, epoch).await;
        assert_eq!(in_order, rows_after(&shuffled(&events, 1), epoch).await, "{epoch:?}");
        assert_eq!(in_order.iter().filter(|row| row.starts_with("subscription ")).count(), subscriptions);
    }
}
