//! Fields of which nothing is known are null, and what the caller may not see does not exist.

use billing_sync::domain::object::row_id;
use serde_json::json;
use uuid::Uuid;

use super::harness::{ADA, ApiTest, BO};
use super::json_object::JsonObject;
use super::synced::{Synced, written};
use crate::support::fetching::Sale;

#[tokio::test]
async fn b3_a_workspace_without_a_subscription_has_no_embedded_rows() {
    let test = ApiTest::start().await;
    let id = test.workspace("Online Marketing Team", ADA).await;
    let reply = test.user(ADA).await.get(&format!("/v1/workspaces/{id}")).await;
    let times = (test.time("workspaces", "created_at", id).await, test.time("workspaces", "updated_at", id).await);
    JsonObject::read(&reply.text).check(&[
        ("_embedded", &r#"{"avatar":null,"billingContact":null,"currentSubscription":null}"#),
        ("billingContactId", &"null"),
        ("createdAt", &times.0),
        ("createdByUserId", &"null"),
        ("currentSubscriptionId", &"null"),
        ("firstMemberInvitedAt", &"null"),
        ("firstPaidSubscriptionAt", &"null"),
        ("id", &json!(id)),
        ("importedFromLegacyCustomerId", &"null"),
        ("importedFromLegacyTeamId", &"null"),
        // the product has given it no key
        ("key", &"null"),
        ("keyIndex", &1),
        ("name", &json!("Online Marketing Team")),
        ("trialStartedAt", &"null"),
        ("updatedAt", &times.1),
    ]);
    test.finish().await;
}

#[tokio::test]
async fn b3_a_workspace_that_only_a_subscription_names_is_visible_to_the_admin_only() {
    let synced = Synced::start().await;
    let id = Uuid::from_u128(7);
    let sale = synced.sell(id, &json!({}));
    synced.sync().await;
    let path = format!("/v1/workspaces/{id}");
    let workspace = JsonObject::read(&synced.api.admin().await.get(&path).await.text);
    workspace.check(&[
        ("_embedded", &workspace.text("_embedded")),
        ("billingContactId", &json!(row_id("", &sale.customer))),
        ("createdAt", &"null"),
        ("createdByUserId", &"null"),
        ("currentSubscriptionId", &json!(row_id("", &sale.subscription))),
        ("firstMemberInvitedAt", &"null"),
        ("firstPaidSubscriptionAt", &"null"),
        ("id", &json!(id)),
        ("importedFromLegacyCustomerId", &"null"),
        ("importedFromLegacyTeamId", &"null"),
        ("key", &"null"),
        ("keyIndex", &"null"),
        ("name", &"null"),
        ("trialStartedAt", &"null"),
        ("updatedAt", &"null"),
    ]);
    synced.api.user(ADA).await.get(&path).await.problem("not-found");
    synced.finish().await;
}

#[tokio::test]
async fn b3_a_plain_subscription_has_null_where_nothing_is_known() {
    let synced = Synced::start().await;
    let id = synced.api.workspace("Plain", ADA).await;
    synced.sell(id, &json!({}));
    synced.sync().await;
    let ada = synced.api.user(ADA).await;
    let subscription = synced.subscription(&ada, id).await;
    let embedded = &subscription["_embedded"];
    for name in [
        "createdByUserId",
        "endDate",
        "importedFromLegacyCustomerId",
        "inactiveReason",
        "paymentCardNumberLastFourDigits",
        "paymentMethodCardBrand",
        "paymentType",
        "trialEndsAt",
        "trialStartedAt",
    ] {
        assert_eq!(subscription.get(name), Some(&json!(null)), "{name}");
    }
    assert_eq!(subscription["activeDiscounts"], json!([]));
    for flag in ["isGracePeriod", "isTrial", "paymentPaused", "sepaPaymentFailed"] {
        assert_eq!(subscription[flag], false, "{flag}");
    }
    assert!(embedded["newPricingPlan"].is_null() && embedded["pricingPlanCategory"].is_null(), "{embedded}");
    assert_eq!(embedded["pricingPlan"]["displayName"], "Writing", "the name of the product");
    synced.finish().await;
}

#[tokio::test]
async fn b3_without_a_subscription_the_contact_is_the_newest_live_one_that_names_the_workspace() {
    let synced = Synced::start().await;
    let (id, stripe) = (synced.api.workspace("Fresh", ADA).await, &synced.stripe);
    let mut customers = Vec::new();
    for name in ["first", "second", "third"] {
        customers.push(stripe.customer(json!({ "name": name, "metadata": { "workspace_id": id } })));
        stripe.tick(60);
    }
    stripe.customer(json!({ "name": "of no workspace" }));
    stripe.delete(&customers[2]);
    synced.sync().await;
    let ada = synced.api.user(ADA).await;
    let path = format!("/v1/workspaces/{id}");
    let found = ada.get(&path).await.json(200);
    assert_eq!(found["billingContactId"], json!(row_id("", &customers[1])));
    assert_eq!(found["_embedded"]["billingContact"]["name"], "second");
    assert_eq!(found["_embedded"]["currentSubscription"], json!(null));
    // the others can be read, too: they name the workspace
    let contact = format!("{path}/billing-contacts/{}", row_id("", &customers[0]));
    assert_eq!(ada.get(&contact).await.json(200)["name"], "first");
    // the product's choice comes first
    let choice = row_id("", &customers[0]);
    synced.api.execute(&format!("UPDATE billing.workspaces SET billing_contact_override = '{choice}'")).await;
    assert_eq!(ada.get(&path).await.json(200)["_embedded"]["billingContact"]["name"], "first");
    synced.finish().await;
}

#[tokio::test]
async fn a2_a_contact_with_nothing_but_its_id_has_nulls() {
    let synced = Synced::start().await;
    let id = synced.api.workspace("Plain", ADA).await;
    let customer = synced.stripe.customer(json!({ "metadata": { "workspace_id": id } }));
    synced.sync().await;
    let contact = row_id("", &customer);
    let reply = synced.api.user(ADA).await.get(&format!("/v1/workspaces/{id}/billing-contacts/{contact}")).await;
    let updated_at = synced.api.time("billing_contacts", "updated_at", contact).await;
    JsonObject::read(&reply.text).check(&[
        ("activeDiscount", &"null"),
        ("addressLine1", &"null"),
        ("addressLine2", &"null"),
        ("city", &"null"),
        ("country", &"null"),
        ("createdAt", &written(synced.began)),
        ("createdByUserId", &"null"),
        ("defaultPaymentCardNumberLastFourDigits", &"null"),
        ("defaultPaymentMethod", &"null"),
        ("defaultPaymentMethodCardBrand", &"null"),
        ("email", &"null"),
        ("id", &json!(contact)),
        ("importedFromLegacyCustomerId", &"null"),
        ("name", &"null"),
        ("postalCode", &"null"),
        ("state", &"null"),
        ("stripeCustomerId", &json!(customer)),
        ("updatedAt", &updated_at),
    ]);
    synced.finish().await;
}

#[tokio::test]
async fn a3_an_expired_session_has_no_subscription_and_no_coupon() {
    let synced = Synced::start().await;
    let (id, stripe) = (synced.api.workspace("Plain", ADA).await, &synced.stripe);
    let sale = synced.sell(id, &json!({}));
    let session = stripe.checkout(&sale.price, json!({ "customer": sale.customer, "locale": "auto" }));
    stripe.expire_checkout(&session);
    synced.sync().await;
    let contact = row_id("", &sale.customer);
    let path = format!("/v1/workspaces/{id}/billing-contacts/{contact}/stripe-checkout-sessions/{session}");
    let reply = synced.api.user(ADA).await.get(&path).await;
    JsonObject::read(&reply.text).check(&[
        ("_embedded", &r#"{"coupon":null}"#),
        ("callbackUrl", &json!("https://example.com/done")),
        ("language", &"null"),
        ("legacyPricingPlanId", &"null"),
        // events do not contain it, and the items of an expired session are not read
        ("pricingPlanId", &"null"),
        ("status", &json!("expired")),
        ("stripeClientSecret", &"null"),
        ("stripePriceId", &"null"),
        ("stripeSubscriptionId", &"null"),
    ]);
    synced.finish().await;
}

/// Contacts and sessions are found only below their own workspace, also by a caller who may see both workspaces.
#[tokio::test]
async fn a2_and_a3_find_nothing_below_another_workspace() {
    let synced = Synced::start().await;
    let (api, stripe) = (&synced.api, &synced.stripe);
    let (own, other) = (api.workspace("Own", ADA).await, api.workspace("Other", ADA).await);
    let (sale, other_sale) = (synced.sell(own, &json!({})), synced.sell(other, &json!({})));
    let session = stripe.checkout(&sale.price, json!({ "customer": sale.customer }));
    stripe.expire_checkout(&session);
    synced.sync().await;
    let contact = |workspace: Uuid, sale: &Sale| {
        format!("/v1/workspaces/{workspace}/billing-contacts/{}", row_id("", &sale.customer))
    };
    let session_of = |path: String| format!("{path}/stripe-checkout-sessions/{session}");
    let (ada, bo, admin) = (api.user(ADA).await, api.user(BO).await, api.admin().await);
    for client in [&ada, &admin] {
        client.get(&contact(own, &sale)).await.json(200);
        client.get(&session_of(contact(own, &sale))).await.json(200);
        client.get(&contact(other, &sale)).await.problem("not-found");
        client.get(&session_of(contact(other, &sale))).await.problem("not-found");
        client.get(&session_of(contact(own, &other_sale))).await.problem("not-found");
        client.get(&session_of(contact(other, &other_sale))).await.problem("not-found");
        client.get(&format!("{}/stripe-checkout-sessions/cs_unknown", contact(own, &sale))).await.problem("not-found");
    }
    bo.get(&contact(own, &sale)).await.problem("not-found");
    bo.get(&session_of(contact(own, &sale))).await.problem("not-found");
    synced.finish().await;
}
