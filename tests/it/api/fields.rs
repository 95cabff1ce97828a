//! Every field of the public pages, for a workspace that has a value in each: one table for each of their objects.

use billing_sync::domain::object::row_id;
use serde_json::json;

use super::filled::{CALLBACK, Filled, PICTURE};
use super::harness::{ADA, BO};
use super::json_object::JsonObject;
use super::synced::{months_later, written};

/// The rows that the current subscription embeds.
async fn embedded_in_subscription(filled: &Filled) -> JsonObject {
    filled.read().await.object("_embedded").object("currentSubscription").object("_embedded")
}

#[tokio::test]
async fn b3_workspace_has_14_fields_and_3_embedded_rows() {
    let filled = Filled::start().await;
    let workspace = filled.read().await;
    workspace.check(&[
        ("_embedded", &workspace.text("_embedded")),
        ("billingContactId", &json!(filled.contact_id())),
        ("createdAt", &json!("2025-01-14T16:20:59Z")),
        ("createdByUserId", &json!(ADA)),
        ("currentSubscriptionId", &json!(filled.subscription_id())),
        ("firstMemberInvitedAt", &json!("2025-01-15T08:00:00Z")),
        ("firstPaidSubscriptionAt", &written(filled.stripe.paid_at)),
        ("id", &json!(filled.workspace)),
        ("importedFromLegacyCustomerId", &71),
        ("importedFromLegacyTeamId", &72),
        ("key", &json!("NF-GK352")),
        ("keyIndex", &57),
        ("name", &json!("Online Marketing Team")),
        ("trialStartedAt", &written(filled.synced.began)),
        ("updatedAt", &json!("2025-02-01T00:00:00Z")),
    ]);
    let embedded = workspace.object("_embedded");
    embedded.check(&[
        ("avatar", &embedded.text("avatar")),
        ("billingContact", &embedded.text("billingContact")),
        ("currentSubscription", &embedded.text("currentSubscription")),
    ]);
    filled.finish().await;
}

#[tokio::test]
async fn b2_list_has_the_workspaces_of_b3_and_4_page_numbers() {
    let filled = Filled::start().await;
    let one = filled.read().await;
    let list = filled.read_at("/v1/workspaces").await;
    list.check(&[("data", &list.text("data")), ("page", &list.text("page"))]);
    assert_eq!(JsonObject::read_all(list.text("data")), [one]);
    list.object("page").check(&[("currentPage", &1), ("size", &20), ("totalElements", &1), ("totalPages", &1)]);
    filled.finish().await;
}

#[tokio::test]
async fn a2_billing_contact_has_18_fields() {
    let filled = Filled::start().await;
    let path = format!("/v1/workspaces/{}/billing-contacts/{}", filled.workspace, filled.contact_id());
    let contact = filled.read_at(&path).await;
    let updated_at = filled.synced.api.time("billing_contacts", "updated_at", filled.contact_id()).await;
    contact.check(&[
        ("activeDiscount", &json!("TEN")),
        ("addressLine1", &json!("Hauptstr. 1")),
        ("addressLine2", &json!("Hof")),
        ("city", &json!("Hamburg")),
        ("country", &json!("DE")),
        ("createdAt", &written(filled.synced.began)),
        ("createdByUserId", &json!(ADA)),
        ("defaultPaymentCardNumberLastFourDigits", &json!("4242")),
        ("defaultPaymentMethod", &json!("card")),
        ("defaultPaymentMethodCardBrand", &json!("visa")),
        ("email", &json!("ada@example.com")),
        ("id", &json!(filled.contact_id())),
        ("importedFromLegacyCustomerId", &73),
        ("name", &json!("Ada Lovelace")),
        ("postalCode", &json!("20095")),
        ("state", &json!("HH")),
        ("stripeCustomerId", &json!(filled.stripe.customer)),
        ("updatedAt", &updated_at),
    ]);
    assert_eq!(filled.read().await.object("_embedded").object("billingContact"), contact, "B3 embeds the same");
    filled.finish().await;
}

#[tokio::test]
async fn b3_current_subscription_has_30_fields_and_4_embedded_rows() {
    let filled = Filled::start().await;
    let subscription = filled.read().await.object("_embedded").object("currentSubscription");
    let item = filled.synced.stripe.stored(&filled.stripe.subscription)["items"]["data"][0]["id"].clone();
    let renewal = months_later(filled.synced.began, 2);
    let updated_at = filled.synced.api.time("subscriptions", "updated_at", filled.subscription_id()).await;
    subscription.check(&[
        ("_embedded", &subscription.text("_embedded")),
        ("active", &true),
        ("activeDiscounts", &json!(["SAVE"])),
        // 1000 of the plan and 1000 carried over, 300 used, and the bonus
        ("availableWords", &1750),
        ("bonusWords", &50),
        ("createdAt", &written(filled.synced.began)),
        ("createdByUserId", &json!(BO)),
        ("currency", &json!("eur")),
        ("endDate", &written(filled.ends_at())),
        ("id", &json!(filled.subscription_id())),
        ("importedFromLegacyCustomerId", &74),
        ("isGracePeriod", &true),
        ("isTrial", &true),
        ("limitRenewalDate", &written(renewal)),
        ("nextSubscriptionCycleStart", &written(filled.trial_ends_at())),
        ("paymentCardNumberLastFourDigits", &json!("4444")),
        ("paymentMethodCardBrand", &json!("mastercard")),
        ("paymentPaused", &false),
        ("paymentType", &json!("card")),
        ("pricingPlanId", &json!(row_id("", &filled.stripe.price))),
        ("pricingPlanWords", &1000),
        ("sepaPaymentFailed", &true),
        ("spilloverWords", &1000),
        ("stripeStatus", &json!("trialing")),
        ("stripeSubscriptionId", &json!(filled.stripe.subscription)),
        ("stripeSubscriptionItemId", &item),
        ("trialEndsAt", &written(filled.trial_ends_at())),
        ("trialStartedAt", &written(filled.synced.began)),
        ("updatedAt", &updated_at),
        ("usedWords", &300),
        ("workspaceId", &json!(filled.workspace)),
        // additions to the public pages
        ("inactiveReason", &"null"),
        ("limits", &subscription.text("limits")),
    ]);
    let embedded = subscription.object("_embedded");
    embedded.check(&[
        ("availableWords", &1750),
        ("newPricingPlan", &embedded.text("newPricingPlan")),
        ("pricingPlan", &embedded.text("pricingPlan")),
        ("pricingPlanCategory", &embedded.text("pricingPlanCategory")),
    ]);
    filled.finish().await;
}

#[tokio::test]
async fn b3_current_subscription_adds_its_limits_with_10_fields() {
    let filled = Filled::start().await;
    let subscription = filled.read().await.object("_embedded").object("currentSubscription");
    let limits = JsonObject::read_all(subscription.text("limits"));
    let [members, words] = &limits[..] else { panic!("{limits:?}") };
    let began = filled.synced.began;
    members.check(&[
        ("key", &json!("members")),
        ("kind", &json!("capacity")),
        ("unlimited", &false),
        ("included", &3),
        ("spillover", &0),
        ("bonus", &0),
        ("used", &0),
        ("available", &3),
        ("periodStartedAt", &written(began)),
        ("renewsAt", &"null"),
    ]);
    words.check(&[
        ("key", &json!("words")),
        ("kind", &json!("renewing")),
        ("unlimited", &false),
        ("included", &1000),
        ("spillover", &1000),
        ("bonus", &50),
        ("used", &300),
        ("available", &1750),
        ("periodStartedAt", &written(months_later(began, 1))),
        ("renewsAt", &written(months_later(began, 2))),
    ]);
    filled.finish().await;
}

#[tokio::test]
async fn b3_pricing_plan_has_14_fields() {
    let filled = Filled::start().await;
    let embedded = embedded_in_subscription(&filled).await;
    embedded.object("pricingPlan").check(&[
        ("active", &true),
        ("billingInterval", &json!("year")),
        ("categoryId", &json!("pro")),
        ("displayName", &json!("Gold")),
        ("id", &json!(row_id("", &filled.stripe.price))),
        ("importedFromLegacyId", &150),
        ("isDefault", &true),
        ("priceInEuro", &"19.90"),
        ("pricePerCurrency", &r#"{"eur": 19.90, "jpy": 3000}"#),
        ("stripeBillingPortalEnabled", &true),
        ("stripePriceId", &json!(filled.stripe.price)),
        ("stripeTrackUsage", &false),
        ("tier", &3),
        ("trialDays", &7),
    ]);
    // the product has stored nothing about this one but its category and its legacy id
    embedded.object("newPricingPlan").check(&[
        ("active", &true),
        ("billingInterval", &json!("month")),
        ("categoryId", &json!("basic")),
        ("displayName", &json!("Writing")),
        ("id", &json!(row_id("", &filled.stripe.next_price))),
        ("importedFromLegacyId", &151),
        ("isDefault", &"null"),
        ("priceInEuro", &"29.00"),
        ("pricePerCurrency", &r#"{"eur": 29.00}"#),
        ("stripeBillingPortalEnabled", &"null"),
        ("stripePriceId", &json!(filled.stripe.next_price)),
        ("stripeTrackUsage", &false),
        ("tier", &"null"),
        ("trialDays", &"null"),
    ]);
    filled.finish().await;
}

#[tokio::test]
async fn b3_pricing_plan_category_has_3_fields() {
    let filled = Filled::start().await;
    let category = embedded_in_subscription(&filled).await.object("pricingPlanCategory");
    category.check(&[
        ("displayName", &json!("Professional")),
        ("id", &json!("pro")),
        ("translationKey", &json!("categories.pro")),
    ]);
    filled.synced.api.execute("DELETE FROM billing.pricing_plan_categories").await;
    let category = embedded_in_subscription(&filled).await.object("pricingPlanCategory");
    category.check(&[("displayName", &"null"), ("id", &json!("pro")), ("translationKey", &"null")]);
    filled.synced.api.execute("UPDATE billing.pricing_plans SET category_id = NULL").await;
    let embedded = embedded_in_subscription(&filled).await;
    assert_eq!(embedded.text("pricingPlanCategory"), "null");
    filled.finish().await;
}

#[tokio::test]
async fn b3_avatar_has_8_fields_and_an_embedded_url() {
    let filled = Filled::start().await;
    let avatar = filled.read().await.object("_embedded").object("avatar");
    avatar.check(&[
        ("_embedded", &avatar.text("_embedded")),
        ("createdAt", &json!("2025-01-16T10:00:00Z")),
        ("createdByUserId", &json!(BO)),
        ("fileName", &json!("a2G8Sa7Mn47Je0Lm.png")),
        ("id", &json!("00000000-0000-4000-8000-0000000000aa")),
        ("signedUrl", &json!(PICTURE)),
        ("storageKey", &json!("workspaces/1/avatar")),
        ("updatedAt", &json!("2025-01-17T10:00:00Z")),
        ("workspaceId", &json!(filled.workspace)),
    ]);
    avatar.object("_embedded").check(&[("signedUrl", &json!(PICTURE))]);
    filled.finish().await;
}

#[tokio::test]
async fn a3_checkout_session_has_8_fields_and_its_coupon_4() {
    let filled = Filled::start().await;
    let session = filled.read_at(&filled.session_path()).await;
    session.check(&[
        ("_embedded", &session.text("_embedded")),
        ("callbackUrl", &json!(CALLBACK)),
        ("language", &json!("de")),
        ("legacyPricingPlanId", &150),
        ("pricingPlanId", &json!(row_id("", &filled.stripe.price))),
        ("status", &json!("complete")),
        // only the answer to the creation has it
        ("stripeClientSecret", &"null"),
        ("stripePriceId", &json!(filled.stripe.price)),
        ("stripeSubscriptionId", &json!(filled.stripe.subscription)),
    ]);
    let embedded = session.object("_embedded");
    embedded.check(&[("coupon", &embedded.text("coupon"))]);
    let coupon = embedded.object("coupon");
    coupon.check(&[
        ("_embedded", &coupon.text("_embedded")),
        ("discountPercentage", &"12.5"),
        ("legacyPricingPlanId", &151),
        ("pricingPlanId", &json!(row_id("", &filled.stripe.next_price))),
        ("translationKey", &json!("coupons.save")),
    ]);
    let of_coupon = coupon.object("_embedded");
    of_coupon.check(&[
        ("pricingPlan", &of_coupon.text("pricingPlan")),
        ("pricingPlanCategory", &r#"{"displayName":null,"id":"basic","translationKey":null}"#),
    ]);
    let next_plan = embedded_in_subscription(&filled).await.object("newPricingPlan");
    assert_eq!(of_coupon.object("pricingPlan"), next_plan);
    filled.finish().await;
}
