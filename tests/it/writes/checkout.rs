//! Checkout sessions: what they offer, what a completed one does, and where their secret is.

use serde_json::{Value, json};

use super::harness::{CALLBACK, Shop};
use crate::support::stripe::Fault;

/// The parameters of the only session at Stripe.
fn session(shop: &Shop) -> Value {
    let sessions: Vec<Value> =
        shop.stripe.truth().into_values().filter(|object| object["object"] == "checkout.session").collect();
    let [session] = &sessions[..] else { panic!("{} sessions", sessions.len()) };
    shop.stripe.stored(session["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_session_is_created_with_a_secret_and_can_be_read() {
    let shop = Shop::open().await;
    let body = json!({ "callbackUrl": CALLBACK, "pricingPlanId": shop.plan().await, "language": "de-AT" });
    let reply = shop.checkout_with(&body, &[]).await;
    let created = reply.json(201);
    let session = session(&shop);
    let id = session["id"].as_str().unwrap();
    let location = reply.header("location").unwrap().to_owned();
    assert!(location.ends_with(&format!("/stripe-checkout-sessions/{id}")), "{location}");
    assert_eq!(created["stripeClientSecret"], session["client_secret"]);
    assert_eq!(
        (&created["status"], &created["callbackUrl"], &created["language"], &created["stripePriceId"]),
        (&json!("open"), &json!(CALLBACK), &json!("de"), &json!(shop.price))
    );
    assert_eq!((&session["ui_mode"], &session["mode"]), (&json!("embedded_page"), &json!("subscription")));
    assert_eq!(session["metadata"]["workspace_id"], shop.workspace.to_string());
    let path = location.strip_prefix(crate::api::harness::PREFIX).unwrap();
    let read = shop.ada.get(path).await.json(200);
    assert_eq!((&read["status"], &read["stripeClientSecret"]), (&json!("open"), &json!(null)));
    shop.finish().await;
}

#[tokio::test]
async fn a_trial_is_given_once_and_a_single_coupon_is_applied() {
    let shop = Shop::open().await;
    let mark = shop.stripe.mark();
    shop.stripe.coupon("WELCOME", 20.0);
    shop.deliver(mark).await;
    shop.test.execute("UPDATE billing.pricing_plans SET trial_days = 14").await;
    shop.checkout(&[]).await.json(201);
    let first = session(&shop);
    assert_eq!(first["subscription_data"]["trial_period_days"], 14);
    assert_eq!((&first["discounts"], &first["allow_promotion_codes"]), (&json!([]), &json!(true)));
    let mark = shop.stripe.mark();
    shop.stripe.visit_checkout(first["id"].as_str().unwrap());
    shop.deliver(mark).await;
    shop.test.execute("UPDATE billing.coupons SET pricing_plan_id = (SELECT id FROM billing.pricing_plans)").await;
    let second = shop.checkout(&[]).await.json(201);
    let id = second["stripeClientSecret"].as_str().unwrap().split("_secret").next().unwrap().to_owned();
    let second = shop.stripe.stored(&id);
    assert_eq!(second["subscription_data"]["trial_period_days"], json!(null), "the workspace had its trial");
    assert_eq!(second["discounts"][0]["coupon"], "WELCOME");
    shop.recover().await;
    shop.finish().await;
}

#[tokio::test]
async fn a_completed_checkout_ends_the_subscription_that_it_replaces() {
    let shop = Shop::open().await;
    let mark = shop.stripe.mark();
    let metadata = json!({ "workspace_id": shop.workspace.to_string() });
    let old = shop.stripe.subscribe(&shop.customer, &shop.price);
    shop.stripe.update(&old, json!({ "metadata": metadata }));
    shop.deliver(mark).await;
    shop.checkout(&[]).await.json(201);
    let session = session(&shop);
    assert_eq!(session["subscription_data"]["metadata"]["replaces"], old);
    assert_eq!(shop.lines().await, "checkout_session.create done");
    let mark = shop.stripe.mark();
    // it renews meanwhile
    shop.stripe.renew(&old);
    let new = shop.stripe.visit_checkout(session["id"].as_str().unwrap());
    assert_eq!(shop.stripe.object(&old)["status"], "active", "not before the event");
    shop.deliver(mark).await;
    let mark = shop.stripe.mark();
    shop.recover().await;
    assert_eq!(shop.lines().await, "checkout_session.create done, subscription.cancel done");
    assert_eq!(shop.stripe.object(&old)["status"], "canceled");
    let cancel = shop.stripe.writes().pop().unwrap();
    assert!(format!("{}{}", cancel.query, cancel.body).contains("prorate=true"), "{cancel:?}");
    shop.deliver(mark).await;
    let current = format!(
        "SELECT s.stripe_subscription_id FROM billing.workspace_billing AS b
        JOIN billing.subscriptions AS s ON s.id = b.current_subscription_id WHERE b.workspace_id = '{}'",
        shop.workspace
    );
    assert_eq!(shop.text(&current).await, Some(new));
    shop.finish().await;
}

#[tokio::test]
async fn a_live_subscription_can_be_protected() {
    let shop = Shop::open_with(&[("BILLING_SYNC_API_LIVE_SUBSCRIPTION", "refuse")]).await;
    let key = [("Idempotency-Key", "once")];
    shop.checkout(&key).await.json(201);
    let mark = shop.stripe.mark();
    let old = shop.stripe.subscribe(&shop.customer, &shop.price);
    shop.stripe.update(&old, json!({ "metadata": { "workspace_id": shop.workspace.to_string() } }));
    shop.deliver(mark).await;
    shop.checkout(&[]).await.problem("subscription-exists");
    shop.checkout(&key).await.json(201);
    assert_eq!(shop.stripe.effects().len(), 1);
    shop.finish().await;
}

#[tokio::test]
async fn a_customer_returns_only_to_pages_of_the_product_and_buys_only_its_plans() {
    let shop = Shop::open().await;
    let plan = shop.plan().await;
    for (body, pointer) in [
        (json!({ "pricingPlanId": plan }), "/callbackUrl"),
        (json!({ "callbackUrl": "https://evil.example/paid", "pricingPlanId": plan }), "/callbackUrl"),
        (json!({ "callbackUrl": "https://app.example.com@evil.example/", "pricingPlanId": plan }), "/callbackUrl"),
        (json!({ "callbackUrl": "https://ada:x@app.example.com/", "pricingPlanId": plan }), "/callbackUrl"),
        (json!({ "callbackUrl": "//app.example.com/paid", "pricingPlanId": plan }), "/callbackUrl"),
        (json!({ "callbackUrl": CALLBACK, "pricingPlanId": "plan" }), "/pricingPlanId"),
        (json!({ "callbackUrl": CALLBACK, "pricingPlanId": uuid::Uuid::nil() }), "/pricingPlanId"),
        (json!({ "callbackUrl": CALLBACK, "legacyPricingPlanId": 7 }), "/legacyPricingPlanId"),
        (json!({ "callbackUrl": CALLBACK, "legacyPricingPlanId": "7" }), "/legacyPricingPlanId"),
        (json!({ "callbackUrl": CALLBACK }), "/pricingPlanId"),
    ] {
        let problem = shop.checkout_with(&body, &[]).await.problem("invalid-fields");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(shop.stripe.writes().len(), 0);
    shop.test.execute("UPDATE billing.pricing_plans SET imported_from_legacy_id = 7, is_default = true").await;
    let other = json!({ "callbackUrl": CALLBACK, "pricingPlanId": plan, "legacyPricingPlanId": 8 });
    shop.checkout_with(&other, &[]).await.problem("invalid-fields");
    for body in [
        json!({ "callbackUrl": CALLBACK, "legacyPricingPlanId": 7 }),
        json!({ "callbackUrl": CALLBACK, "pricingPlanId": plan, "legacyPricingPlanId": 7 }),
        json!({ "callbackUrl": CALLBACK }),
    ] {
        assert_eq!(shop.checkout_with(&body, &[]).await.json(201)["pricingPlanId"], plan, "{body}");
    }
    shop.finish().await;
}

#[tokio::test]
async fn a_repeated_request_gets_the_secret_from_stripe_again() {
    let shop = Shop::open().await;
    let key = [("Idempotency-Key", "checkout-1")];
    let first = shop.checkout(&key).await;
    let second = shop.checkout(&key).await;
    assert_eq!(first.status, 201);
    assert_eq!((second.text.as_str(), second.header("idempotent-replayed")), (first.text.as_str(), Some("true")));
    assert_eq!(second.header("location"), first.header("location"));
    assert!(first.text.contains("_secret_"));
    assert_eq!(shop.stripe.effects().len(), 1);
    let stored = "SELECT body FROM billing.api_requests";
    assert!(!shop.text(stored).await.unwrap().contains("_secret_"));
    // after a day, Stripe does not have the answer any more
    shop.test.execute("UPDATE billing.api_requests SET created_at = created_at - interval '25 hours'").await;
    shop.checkout(&key).await.problem("idempotency-key-expired");
    assert_eq!(shop.stripe.effects().len(), 1);
    shop.finish().await;
}

#[tokio::test]
async fn the_secret_is_read_if_stripe_has_saved_an_error_under_the_key() {
    let shop = Shop::open().await;
    shop.stripe.fail_next_of("POST", "/v1/checkout/sessions", 1, Fault::ApiErrorAfterEffect);
    let key = [("Idempotency-Key", "checkout-1")];
    shop.checkout(&key).await.problem("outcome-unknown");
    shop.stripe.tick(20);
    shop.recover().await;
    let created = shop.checkout(&key).await.json(201);
    assert_eq!(created["stripeClientSecret"], session(&shop)["client_secret"]);
    assert!(created["stripeClientSecret"].is_string());
    shop.finish().await;
}
