//! Tests of how each API version shows the same world.

use serde_json::{Value, json};

use super::{Shop, read};
use crate::support::events::START;
use crate::support::stripe::{Epoch, FakeStripe};

/// The object of the latest event of a type, in an API version.
fn last(stripe: &FakeStripe, event_type: &str, epoch: Epoch) -> Value {
    let latest = stripe.events().into_iter().rev().find(|event| event.event_type == event_type).unwrap();
    let event = latest.json(epoch);
    assert_eq!((&event["api_version"], &event["id"]), (&json!(epoch.version()), &json!(latest.id)));
    event["data"]["object"].clone()
}

#[tokio::test]
async fn the_period_moved_from_subscription_to_items_in_basil() {
    let shop = Shop::open().await;
    for epoch in Epoch::ALL {
        let sub = last(&shop.stripe, "customer.subscription.created", epoch);
        let (own, item) = (&sub["current_period_end"], &sub["items"]["data"][0]["current_period_end"]);
        let is_old = epoch < Epoch::Basil;
        assert_eq!((own.is_null(), item.is_null()), (!is_old, is_old), "{epoch:?}");
        let end = own.as_i64().or(item.as_i64());
        assert_eq!(end, Some(shop.stripe.now() + 31 * 86_400), "January has 31 days");
        assert_eq!(sub["items"]["data"][0]["price"]["id"], json!(shop.price));
        assert_eq!(sub["items"]["data"][0]["plan"]["amount"], 1000);
        assert_eq!(sub["billing_mode"].is_null(), epoch < Epoch::Clover);
    }
}

#[tokio::test]
async fn a_renewal_shows_the_changed_period_in_each_version() {
    let shop = Shop::open().await;
    shop.stripe.renew(&shop.subscription);
    let renewed = shop.stripe.events().pop().unwrap();
    let old = &renewed.json(Epoch::V2022)["data"]["previous_attributes"];
    assert_eq!(old["current_period_end"], shop.stripe.now() + 31 * 86_400);
    assert_eq!(old["items"], Value::Null);
    let new = &renewed.json(Epoch::Basil)["data"]["previous_attributes"];
    assert_eq!(new["items"]["data"][0]["current_period_start"], shop.stripe.now());
    assert_eq!(new["current_period_end"], Value::Null);
}

#[tokio::test]
async fn periods_begin_on_the_anchor_day_or_the_last_of_the_month() {
    let shop = Shop::open().await;
    shop.stripe.tick(30 * 86_400);
    let yearly = shop.stripe.price("prod_1", 9000, json!({ "recurring": { "interval": "year" } }));
    let day = |sub: &str| {
        let end = &shop.stripe.object(sub)["items"]["data"][0]["current_period_end"];
        (end.as_i64().unwrap() - START) / 86_400
    };
    let (monthly, yearly) =
        (shop.stripe.subscribe(&shop.customer, &shop.price), shop.stripe.subscribe(&shop.customer, &yearly));
    assert_eq!((day(&monthly), day(&yearly)), (31 + 27, 365 + 30), "28 February, 31 January");
    shop.stripe.renew(&monthly);
    assert_eq!(day(&monthly), 31 + 28 + 30, "31 March");
}

#[tokio::test]
async fn a_discount_contains_its_coupon_until_clover() {
    let shop = Shop::open().await;
    let coupon = shop.stripe.coupon("TEN", 10.0);
    let code = shop.stripe.promotion_code(&coupon, "HELLO");
    let discount = shop.stripe.discount(&shop.subscription, &code);
    shop.stripe.discount(&shop.customer, &coupon);
    for epoch in Epoch::ALL {
        let shown = last(&shop.stripe, "customer.discount.created", epoch);
        let customer = last(&shop.stripe, "customer.updated", epoch);
        assert_eq!(customer["discount"], shown, "a customer carries its discount");
        let code = last(&shop.stripe, "promotion_code.created", epoch);
        if epoch < Epoch::Clover {
            assert_eq!((&shown["coupon"]["percent_off"], &code["coupon"]["id"]), (&json!(10.0), &json!(coupon)));
        } else {
            assert_eq!(shown["source"], json!({ "type": "coupon", "coupon": coupon }));
            assert_eq!(code["promotion"]["coupon"], json!(coupon));
        }
        let sub = last(&shop.stripe, "customer.subscription.updated", epoch);
        assert_eq!(sub["discount"]["id"].as_str(), (epoch < Epoch::Basil).then_some(discount.as_str()), "{epoch:?}");
        let ids = (epoch >= Epoch::V2024).then(|| json!([discount]));
        assert_eq!(sub.get("discounts"), ids.as_ref(), "{epoch:?}");
    }
}

#[tokio::test]
async fn a_discount_keeps_a_deleted_coupon() {
    let shop = Shop::open().await;
    let coupon = shop.stripe.coupon("TEN", 10.0);
    shop.stripe.discount(&shop.subscription, &coupon);
    shop.stripe.delete(&coupon);
    shop.stripe.pause_collection(&shop.subscription);
    let sub = last(&shop.stripe, "customer.subscription.updated", Epoch::V2020);
    assert_eq!(sub["discount"]["coupon"]["percent_off"], 10.0);
}

#[tokio::test]
async fn an_invoice_names_subscription_and_payment_until_basil() {
    let shop = Shop::open().await;
    let card = shop.card();
    let invoice = shop.stripe.bill(&shop.subscription, 1000);
    let charge = shop.stripe.charge_succeeded(&invoice, &card);
    let intent = shop.stripe.object(&charge)["payment_intent"].clone();
    for epoch in Epoch::ALL {
        let shown = last(&shop.stripe, "invoice.paid", epoch);
        let line = &shown["lines"]["data"][0];
        if epoch < Epoch::Basil {
            assert_eq!((&shown["subscription"], &shown["charge"]), (&json!(shop.subscription), &json!(charge)));
            assert_eq!((&shown["payment_intent"], &shown["paid"]), (&intent, &json!(true)));
            assert_eq!((&shown["paid_out_of_band"], &shown["parent"]), (&json!(false), &Value::Null));
            assert_eq!(line["subscription"], json!(shop.subscription));
        } else {
            assert_eq!(shown["parent"]["subscription_details"]["subscription"], json!(shop.subscription));
            let gone = ["subscription", "charge", "payment_intent", "paid", "paid_out_of_band"];
            assert!(gone.iter().all(|field| shown.get(field).is_none()), "{epoch:?}");
            assert!(line["parent"]["subscription_item_details"]["subscription_item"].is_string());
        }
    }
    let by_hand = shop.stripe.bill(&shop.subscription, 500);
    shop.stripe.pay_out_of_band(&by_hand);
    assert_eq!(last(&shop.stripe, "invoice.paid", Epoch::V2024)["paid_out_of_band"], true);
}

#[tokio::test]
async fn a_charge_and_its_intent_name_the_invoice_until_basil() {
    let shop = Shop::open().await;
    let invoice = shop.stripe.bill(&shop.subscription, 1000);
    let bank = shop.stripe.sepa_debit("3000");
    let charge = shop.stripe.charge_failed(&invoice, &bank, "insufficient_funds");
    for epoch in Epoch::ALL {
        let (shown, intent) =
            (last(&shop.stripe, "charge.failed", epoch), last(&shop.stripe, "payment_intent.payment_failed", epoch));
        let named = (epoch < Epoch::Basil).then_some(invoice.as_str());
        assert_eq!((shown["invoice"].as_str(), intent["invoice"].as_str()), (named, named), "{epoch:?}");
        assert_eq!(shown["payment_method_details"]["type"], "sepa_debit");
        assert_eq!(intent["last_payment_error"]["payment_method"]["type"], "sepa_debit");
        let listed = if epoch == Epoch::V2020 { &intent["charges"]["data"][0]["id"] } else { &intent["latest_charge"] };
        assert_eq!(*listed, json!(charge), "{epoch:?}");
        assert_eq!(intent["latest_charge"].is_null(), epoch == Epoch::V2020);
    }
}

#[tokio::test]
async fn a_session_has_its_versions_mode_names_and_no_line_items() {
    let shop = Shop::open().await;
    for (mode, old) in [("hosted_page", "hosted"), ("embedded_page", "embedded"), ("elements", "custom")] {
        let session = shop.stripe.checkout(&shop.price, json!({ "ui_mode": mode }));
        shop.stripe.complete_checkout(&session, &shop.subscription, "paid");
        let shown = |epoch| last(&shop.stripe, "checkout.session.completed", epoch);
        assert_eq!(shown(Epoch::V2022)["ui_mode"], Value::Null);
        assert_eq!((&shown(Epoch::Basil)["ui_mode"], &shown(Epoch::Endive)["ui_mode"]), (&json!(old), &json!(mode)));
        assert_eq!(shown(Epoch::Endive).get("line_items"), None);
        assert_eq!(shown(Epoch::Endive)["subscription"], json!(shop.subscription));
    }
}

#[tokio::test]
async fn a_thin_event_names_its_object_and_the_url() {
    let shop = Shop::open().await;
    let created = shop.stripe.events().pop().unwrap();
    let thin = created.thin();
    assert_eq!((&thin["object"], &thin["type"]), (&json!("v2.core.event"), &json!("v1.customer.subscription.created")));
    assert_eq!((&thin["created"], created.created), (&json!("2026-01-01T00:00:00Z"), shop.stripe.now()));
    let related = &thin["related_object"];
    assert_eq!((&related["id"], &related["type"]), (&json!(created.object), &json!("subscription")));
    let named = read(&shop.stripe, related["url"].as_str().unwrap()).await;
    assert_eq!(named["id"], json!(shop.subscription));
}
