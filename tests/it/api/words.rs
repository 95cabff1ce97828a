//! The words of a subscription, its other limits, and when they renew.

use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use super::harness::ADA;
use super::synced::{Synced, months_later, written};

/// The word fields of a subscription: available (embedded, own), of the plan, carried over, used, bonus.
fn words(subscription: &Value) -> Value {
    let field = |name: &str| subscription.get(name).unwrap_or_else(|| panic!("no {name} in {subscription}"));
    json!([
        subscription["_embedded"]["availableWords"],
        field("availableWords"),
        field("pricingPlanWords"),
        field("spilloverWords"),
        field("usedWords"),
        field("bonusWords")
    ])
}

/// A workspace of Ada with a subscription; returns their ids, the second one in Stripe.
async fn sold(synced: &Synced, limits: &Value) -> (Uuid, String) {
    let workspace = synced.api.workspace("Writers", ADA).await;
    let sale = synced.sell(workspace, limits);
    (workspace, sale.subscription)
}

#[tokio::test]
async fn b3_words_are_0_while_the_subscription_is_inactive() {
    let synced = Synced::start().await;
    let (limited, limited_id) = sold(&synced, &json!({ "limit_words": "1000" })).await;
    let (unlimited, unlimited_id) = sold(&synced, &json!({ "limit_words": "unlimited" })).await;
    synced.sync().await;
    let ada = synced.api.user(ADA).await;
    assert_eq!(words(&synced.subscription(&ada, limited).await), json!([2000, 2000, 1000, 1000, 0, 0]));
    for id in [&limited_id, &unlimited_id] {
        synced.stripe.pause_collection(id);
    }
    synced.sync().await;
    // the pause began in the first month, so nothing was carried over
    let paused = synced.subscription(&ada, limited).await;
    assert_eq!((&paused["active"], &paused["paymentPaused"]), (&json!(false), &json!(true)));
    assert_eq!(paused["inactiveReason"], "payment_paused");
    assert_eq!(words(&paused), json!([0, 0, 1000, 0, 0, 0]));
    let limit = &paused["limits"][0];
    assert_eq!((&limit["included"], &limit["available"]), (&json!(1000), &json!(0)));
    let paused = synced.subscription(&ada, unlimited).await;
    assert_eq!(words(&paused), json!([0, 0, null, 0, 0, 0]), "an unlimited plan is no exception");
    let limit = &paused["limits"][0];
    assert_eq!((&limit["unlimited"], &limit["available"]), (&json!(true), &json!(0)));
    synced.finish().await;
}

#[tokio::test]
async fn b3_words_are_null_if_they_are_unlimited_or_unknown_and_limits_tell_which() {
    let synced = Synced::start().await;
    let (unlimited, _) = sold(&synced, &json!({ "limit_words": "unlimited" })).await;
    let (unknown, _) = sold(&synced, &json!({ "limit_images": "5" })).await;
    synced.sync().await;
    let ada = synced.api.user(ADA).await;
    let found = synced.subscription(&ada, unlimited).await;
    assert_eq!(words(&found), json!([null, null, null, 0, 0, 0]));
    let [limit] = &found["limits"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&limit["key"], &limit["unlimited"]), (&json!("words"), &json!(true)));
    assert_eq!((&limit["included"], &limit["available"]), (&json!(null), &json!(null)));
    let found = synced.subscription(&ada, unknown).await;
    assert_eq!(words(&found), json!([null, null, null, null, null, null]));
    let [limit] = &found["limits"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&limit["key"], &limit["available"]), (&json!("images"), &json!(10)));
    synced.finish().await;
}

#[tokio::test]
async fn b3_too_many_members_make_a_subscription_inactive() {
    let synced = Synced::start().await;
    let (workspace, _) = sold(&synced, &json!({ "limit_words": "1000", "limit_members": "3" })).await;
    synced.sync().await;
    let ada = synced.api.user(ADA).await;
    for (members, reason, available) in
        [("NULL", json!(null), 2000), ("3", json!(null), 2000), ("4", json!("too_many_members"), 0)]
    {
        synced.api.execute(&format!("UPDATE billing.workspaces SET member_count = {members}")).await;
        let found = synced.subscription(&ada, workspace).await;
        assert_eq!(found["inactiveReason"], reason, "{members}");
        assert_eq!(found["active"], reason.is_null(), "{members}");
        assert_eq!(words(&found), json!([available, available, 1000, 1000, 0, 0]), "{members}");
    }
    synced.finish().await;
}

#[tokio::test]
async fn b3_limit_renewal_date_is_known_with_words_with_another_limit_and_without_any() {
    let synced = Synced::start().await;
    let (began, mut workspaces) = (synced.began, Vec::new());
    for limits in [
        json!({ "limit_words": "1000" }),
        json!({ "limit_words": "unlimited" }),
        json!({ "limit_images": "5" }),
        json!({ "limit_members": "5" }),
        json!({}),
    ] {
        workspaces.push((sold(&synced, &limits).await.0, limits));
    }
    let (ending, ending_id) = sold(&synced, &json!({})).await;
    synced.stripe.cancel_at(&ending_id, (began + Duration::days(50)).unix_timestamp());
    let (ended, ended_id) = sold(&synced, &json!({})).await;
    synced.stripe.cancel_now(&ended_id);
    synced.sync().await;
    let ada = synced.api.user(ADA).await;
    for (workspace, limits) in workspaces {
        let found = synced.subscription(&ada, workspace).await;
        assert_eq!(found["limitRenewalDate"], written(months_later(began, 2)), "{limits}");
    }
    // they end before the next renewal
    for workspace in [ending, ended] {
        let found = synced.subscription(&ada, workspace).await;
        assert_eq!(found["limitRenewalDate"], json!(null), "{found}");
    }
    synced.finish().await;
}

#[tokio::test]
async fn b3_limit_renewal_date_without_any_limit_follows_the_rule_of_renewals() {
    let synced = Synced::start().await;
    let (workspace, stripe) = (synced.api.workspace("Writers", ADA).await, &synced.stripe);
    let customer = stripe.customer(json!({ "metadata": { "workspace_id": workspace } }));
    let price = stripe.price(&stripe.product(json!({})), 1990, json!({}));
    // the billing cycle begins with the end of the trial, before the second month is over
    stripe.trial(&customer, &price, 50);
    synced.sync().await;
    let ada = synced.api.user(ADA).await;
    for (rule, expected) in
        [("subscription_start", months_later(synced.began, 2)), ("billing_cycle", synced.began + Duration::days(50))]
    {
        synced.api.execute(&format!("UPDATE billing.renewal_rules SET renewal_anchor = '{rule}'")).await;
        let found = synced.subscription(&ada, workspace).await;
        assert_eq!(found["limitRenewalDate"], written(expected), "{rule}");
    }
    synced.finish().await;
}
