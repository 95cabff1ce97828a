//! The bodies of the workspace API, with the field names of its public pages. PURE.
//!
//! Absent values are null, never left out. Times are UTC in whole seconds: `2025-01-14T16:20:59Z`.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::timestamp::Timestamp;

/// A workspace with its embedded rows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Workspace {
    #[serde(rename = "_embedded")]
    pub(crate) embedded: WorkspaceEmbedded,
    /// ID of the billing contact for this workspace.
    pub(crate) billing_contact_id: Option<Uuid>,
    /// When the workspace was created; null if only a subscription in Stripe names it.
    pub(crate) created_at: Option<Timestamp>,
    /// The user who created the workspace.
    pub(crate) created_by_user_id: Option<Uuid>,
    /// ID of the current subscription of this workspace.
    pub(crate) current_subscription_id: Option<Uuid>,
    /// When the first member was invited.
    #[schema(deprecated)]
    pub(crate) first_member_invited_at: Option<Timestamp>,
    /// When the first paid subscription of this workspace began.
    pub(crate) first_paid_subscription_at: Option<Timestamp>,
    /// ID of the workspace.
    pub(crate) id: Uuid,
    /// ID of the legacy customer from which the workspace was imported.
    #[schema(deprecated)]
    pub(crate) imported_from_legacy_customer_id: Option<i64>,
    /// ID of the legacy team from which the workspace was imported.
    #[schema(deprecated)]
    pub(crate) imported_from_legacy_team_id: Option<i64>,
    /// Human readable unique identifier of the workspace.
    pub(crate) key: Option<String>,
    /// Unique generated number from which the key is derived.
    pub(crate) key_index: Option<i64>,
    /// Name of the workspace.
    pub(crate) name: Option<String>,
    /// When the first trial of this workspace began.
    pub(crate) trial_started_at: Option<Timestamp>,
    /// When the workspace last changed.
    pub(crate) updated_at: Option<Timestamp>,
}

/// The rows that a workspace embeds; null where there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkspaceEmbedded {
    pub(crate) avatar: Option<Avatar>,
    pub(crate) billing_contact: Option<BillingContact>,
    pub(crate) current_subscription: Option<Subscription>,
}

/// The picture of a workspace.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Avatar {
    #[serde(rename = "_embedded")]
    pub(crate) embedded: AvatarEmbedded,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by_user_id: Option<Uuid>,
    pub(crate) file_name: Option<String>,
    pub(crate) id: Uuid,
    /// URL at which a browser can load the picture.
    pub(crate) signed_url: String,
    pub(crate) storage_key: Option<String>,
    pub(crate) updated_at: Timestamp,
    pub(crate) workspace_id: Uuid,
}

/// The URL of a picture again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AvatarEmbedded {
    pub(crate) signed_url: String,
}

/// A billing contact: a customer in Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BillingContact {
    /// ID of the coupon of the customer's own discount, while that has an effect.
    pub(crate) active_discount: Option<String>,
    pub(crate) address_line1: Option<String>,
    pub(crate) address_line2: Option<String>,
    pub(crate) city: Option<String>,
    /// Two letters (ISO 3166).
    pub(crate) country: Option<String>,
    /// When the customer was created in Stripe.
    pub(crate) created_at: Timestamp,
    pub(crate) created_by_user_id: Option<Uuid>,
    pub(crate) default_payment_card_number_last_four_digits: Option<String>,
    /// Type of the default payment method, as Stripe names it: `card`, `sepa_debit` and others.
    pub(crate) default_payment_method: Option<String>,
    pub(crate) default_payment_method_card_brand: Option<String>,
    /// Email address of the billing contact.
    pub(crate) email: Option<String>,
    pub(crate) id: Uuid,
    #[schema(deprecated)]
    pub(crate) imported_from_legacy_customer_id: Option<i64>,
    /// Name of the billing contact.
    pub(crate) name: Option<String>,
    pub(crate) postal_code: Option<String>,
    pub(crate) state: Option<String>,
    /// ID of the customer in Stripe.
    pub(crate) stripe_customer_id: String,
    pub(crate) updated_at: Timestamp,
}

/// A subscription as of now.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "the public pages have these fields")]
#[serde(rename_all = "camelCase")]
pub(crate) struct Subscription {
    #[serde(rename = "_embedded")]
    pub(crate) embedded: SubscriptionEmbedded,
    /// Whether the subscription may be used now; see `inactiveReason`.
    pub(crate) active: bool,
    /// IDs of the coupons whose discounts have an effect now.
    pub(crate) active_discounts: Vec<String>,
    /// Words that can still be used; 0 if the subscription is inactive, null if they are unlimited or the plan has no
    /// limit of words (see `limits`).
    #[schema(deprecated)]
    pub(crate) available_words: Option<i64>,
    /// Bonus of the workspace, in addition to its plan.
    #[schema(deprecated)]
    pub(crate) bonus_words: Option<i64>,
    /// When the subscription was created in Stripe.
    pub(crate) created_at: Timestamp,
    pub(crate) created_by_user_id: Option<Uuid>,
    /// Three letters in lower case (ISO 4217).
    pub(crate) currency: Option<String>,
    /// When the subscription ended or will end.
    pub(crate) end_date: Option<Timestamp>,
    pub(crate) id: Uuid,
    #[schema(deprecated)]
    pub(crate) imported_from_legacy_customer_id: Option<i64>,
    /// Why the subscription is not active; null if it is.
    pub(crate) inactive_reason: Option<String>,
    /// Whether the subscription will end at `endDate` and has not ended yet.
    pub(crate) is_grace_period: bool,
    pub(crate) is_trial: bool,
    /// When the limits renew next, every month, on yearly plans too.
    pub(crate) limit_renewal_date: Option<Timestamp>,
    /// All limits of the subscription.
    pub(crate) limits: Vec<Limit>,
    /// When the next billing period begins.
    pub(crate) next_subscription_cycle_start: Option<Timestamp>,
    pub(crate) payment_card_number_last_four_digits: Option<String>,
    pub(crate) payment_method_card_brand: Option<String>,
    /// Whether payment collection is paused; then the subscription is inactive.
    pub(crate) payment_paused: bool,
    /// Type of the payment method that will be charged, as Stripe names it.
    pub(crate) payment_type: Option<String>,
    pub(crate) pricing_plan_id: Option<Uuid>,
    /// Words that the plan includes each month; null if they are unlimited or the plan has no limit of words.
    #[schema(deprecated)]
    pub(crate) pricing_plan_words: Option<i64>,
    /// Whether a SEPA payment failed and was not made good since.
    pub(crate) sepa_payment_failed: bool,
    /// Words that were carried over from the previous month.
    #[schema(deprecated)]
    pub(crate) spillover_words: Option<i64>,
    /// Status of the subscription in Stripe.
    pub(crate) stripe_status: String,
    pub(crate) stripe_subscription_id: String,
    pub(crate) stripe_subscription_item_id: Option<String>,
    pub(crate) trial_ends_at: Option<Timestamp>,
    /// When the trial began, while it runs.
    pub(crate) trial_started_at: Option<Timestamp>,
    pub(crate) updated_at: Timestamp,
    /// Words that were used in this month.
    #[schema(deprecated)]
    pub(crate) used_words: Option<i64>,
    /// ID of the workspace to which the subscription belongs.
    pub(crate) workspace_id: Option<Uuid>,
}

/// The rows that a subscription embeds; null where there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionEmbedded {
    /// The same as `availableWords` of the subscription.
    #[schema(deprecated)]
    pub(crate) available_words: Option<i64>,
    /// The plan to which the subscription will change.
    pub(crate) new_pricing_plan: Option<PricingPlan>,
    pub(crate) pricing_plan: Option<PricingPlan>,
    /// The category of `pricingPlan`.
    pub(crate) pricing_plan_category: Option<PricingPlanCategory>,
}

/// A limit of a subscription as of now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limit {
    /// What is limited: words, images, members and others.
    pub(crate) key: String,
    /// `renewing`: renews every month; `capacity`: is consumed and released.
    pub(crate) kind: String,
    pub(crate) unlimited: bool,
    /// Amount that the plan includes; null if it is unlimited.
    pub(crate) included: Option<i64>,
    /// Amount that was carried over from the previous period.
    pub(crate) spillover: i64,
    /// Bonus of the workspace, including what was used of it in this period.
    pub(crate) bonus: i64,
    /// Amount used in this period.
    pub(crate) used: i64,
    /// Amount that can still be used: null if unlimited, 0 if inactive or if the limit cannot be computed.
    pub(crate) available: Option<i64>,
    pub(crate) period_started_at: Timestamp,
    /// When this period ends; null if there is no further renewal.
    pub(crate) renews_at: Option<Timestamp>,
}

/// A pricing plan: a price in Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PricingPlan {
    /// Whether the plan can be chosen.
    pub(crate) active: Option<bool>,
    /// day, week, month or year.
    pub(crate) billing_interval: Option<String>,
    pub(crate) category_id: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) id: Uuid,
    pub(crate) imported_from_legacy_id: Option<i64>,
    /// Whether it is the plan of new customers.
    pub(crate) is_default: Option<bool>,
    /// The price in euros, with all its digits.
    #[schema(value_type = Option<f64>)]
    pub(crate) price_in_euro: Option<Box<RawValue>>,
    /// The price in each currency, such as `{"eur": 19.90}`, with all its digits.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub(crate) price_per_currency: Box<RawValue>,
    pub(crate) stripe_billing_portal_enabled: Option<bool>,
    pub(crate) stripe_price_id: String,
    /// Whether usage is metered in Stripe.
    pub(crate) stripe_track_usage: Option<bool>,
    pub(crate) tier: Option<i32>,
    /// Number of trial days that the plan allows.
    pub(crate) trial_days: Option<i32>,
}

/// The category of a plan.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PricingPlanCategory {
    pub(crate) display_name: Option<String>,
    pub(crate) id: String,
    pub(crate) translation_key: Option<String>,
}

/// A checkout session in Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckoutSession {
    #[serde(rename = "_embedded")]
    pub(crate) embedded: CheckoutSessionEmbedded,
    /// URL to which the customer returns.
    pub(crate) callback_url: Option<String>,
    /// Language of the session; null means the language of the browser.
    pub(crate) language: Option<String>,
    #[schema(deprecated)]
    pub(crate) legacy_pricing_plan_id: Option<i64>,
    pub(crate) pricing_plan_id: Option<Uuid>,
    /// open, complete or expired. Complete does not mean paid.
    pub(crate) status: Option<String>,
    /// Set only in the answer to the creation.
    pub(crate) stripe_client_secret: Option<String>,
    pub(crate) stripe_price_id: Option<String>,
    /// The new subscription; null until the session is complete.
    pub(crate) stripe_subscription_id: Option<String>,
}

/// The rows that a checkout session embeds; null where there is none.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckoutSessionEmbedded {
    pub(crate) coupon: Option<Coupon>,
}

/// The coupon of a checkout session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Coupon {
    #[serde(rename = "_embedded")]
    pub(crate) embedded: CouponEmbedded,
    /// From 0 to 100; null if an amount is taken off.
    #[schema(value_type = Option<f64>)]
    pub(crate) discount_percentage: Option<Box<RawValue>>,
    #[schema(deprecated)]
    pub(crate) legacy_pricing_plan_id: Option<i64>,
    /// The plan for which the coupon is offered.
    pub(crate) pricing_plan_id: Option<Uuid>,
    pub(crate) translation_key: Option<String>,
}

/// The rows that a coupon embeds; null where there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CouponEmbedded {
    pub(crate) pricing_plan: Option<PricingPlan>,
    pub(crate) pricing_plan_category: Option<PricingPlanCategory>,
}
