//! The subscription: its plan, its end, and whether it is active. One row for each Stripe subscription.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use uuid::Uuid;

use super::instant;

/// The synced columns of a row of `billing.subscriptions`. Source: Stripe's subscription object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of the table")]
pub struct Subscription {
    /// Row id, see [`crate::domain::object::row_id`].
    pub id: Uuid,
    /// Connected account; empty for the key's own account.
    pub account: String,
    /// `subscription.id`.
    pub stripe_subscription_id: String,
    /// `subscription.customer`.
    pub stripe_customer_id: String,
    /// `subscription.livemode`.
    pub livemode: Option<bool>,
    /// Row id of the customer's billing contact, even if that does not exist yet.
    pub billing_contact_id: Uuid,
    /// The workspace in the metadata of the subscription, else of its customer, else in its checkout session.
    pub workspace_id: Option<Uuid>,
    /// `subscription.status`, unknown values kept.
    pub stripe_status: String,
    /// Whether it may be used: the status allows it, payment is not paused, and it has not ended.
    pub active: bool,
    /// Why it is not active; `None` if and only if it is active.
    pub inactive_reason: Option<InactiveReason>,
    /// Whether `pause_collection` is set.
    pub payment_paused: bool,
    /// `pause_collection.resumes_at`: when Stripe will end the pause; an event follows when it has ended.
    #[serde(serialize_with = "instant::option::serialize")]
    pub payment_resumes_at: Option<OffsetDateTime>,
    /// `status_details.paused.subscription.type`, only while the status is `paused`; unknown values kept.
    pub pause_reason: Option<String>,
    /// `status_details.paused.transitioned_at`, only while the status is `paused`.
    #[serde(serialize_with = "instant::option::serialize")]
    pub paused_at: Option<OffsetDateTime>,
    /// When its schedule will pause it (`pause_schedules`, `pause.pause_at`).
    #[serde(serialize_with = "instant::option::serialize")]
    pub pauses_at: Option<OffsetDateTime>,
    /// When its schedule will resume it (`pause_schedules`, `resume.resume_at`).
    #[serde(serialize_with = "instant::option::serialize")]
    pub resumes_at: Option<OffsetDateTime>,
    /// Whether a SEPA payment has failed or was disputed, and no payment has succeeded since.
    pub sepa_payment_failed: bool,
    /// Whether the status is `trialing`, or a trial offer of the plan's item is running.
    pub is_trial: bool,
    /// Start of the running trial offer, else `trial_start`; only while the trial runs.
    #[serde(serialize_with = "instant::option::serialize")]
    pub trial_started_at: Option<OffsetDateTime>,
    /// End of that item's trial offer, else `trial_end`, which stays after the trial.
    #[serde(serialize_with = "instant::option::serialize")]
    pub trial_ends_at: Option<OffsetDateTime>,
    /// `trial_settings.end_behavior.missing_payment_method`, unknown values kept.
    pub trial_end_behavior: Option<String>,
    /// Whether it will end at `end_date` and has not ended yet.
    pub is_grace_period: bool,
    /// When it ended or will end.
    #[serde(serialize_with = "instant::option::serialize")]
    pub end_date: Option<OffsetDateTime>,
    /// When the next billing period begins; null if no period follows.
    #[serde(serialize_with = "instant::option::serialize")]
    pub next_subscription_cycle_start: Option<OffsetDateTime>,
    /// `currency`, lower-case ISO 4217.
    pub currency: Option<String>,
    /// Id of the item that is the plan; see [`crate::stripe::views::item::sort`].
    pub stripe_subscription_item_id: Option<String>,
    /// Price (in very old payloads: plan) of that item.
    pub stripe_price_id: Option<String>,
    /// Row id of that price's pricing plan; null while the price is not known.
    pub pricing_plan_id: Option<Uuid>,
    /// All its items, the plan first; `None` unless all of them are known.
    pub items: Option<Vec<Item>>,
    /// The price that it will change to: by a pending update, else by its schedule or after its trial offer.
    pub new_stripe_price_id: Option<String>,
    /// Row id of that price's pricing plan; null while the price is not known.
    pub new_pricing_plan_id: Option<Uuid>,
    /// When it will change: the start of the schedule's phase or the end of the trial; null for a pending update.
    #[serde(serialize_with = "instant::option::serialize")]
    pub new_pricing_plan_at: Option<OffsetDateTime>,
    /// Type of the payment method to be charged: its own, else the customer's, else that of its last payment.
    pub payment_type: Option<String>,
    /// Brand of that card; `None` for other payment methods.
    pub payment_method_card_brand: Option<String>,
    /// Last four digits of that card, account or IBAN.
    pub payment_card_number_last_four_digits: Option<String>,
    /// Coupon ids of its discounts, in stable order.
    pub active_discounts: Vec<String>,
    /// The end of each of those discounts, at the same index; null means no end.
    #[serde(serialize_with = "rfc3339_list")]
    pub active_discount_ends: Vec<Option<OffsetDateTime>>,
    /// `created`.
    #[serde(serialize_with = "instant::option::serialize")]
    pub stripe_created_at: Option<OffsetDateTime>,
    /// `start_date`.
    #[serde(serialize_with = "instant::option::serialize")]
    pub started_at: Option<OffsetDateTime>,
}

/// One item of a subscription, an element of `billing.subscriptions.items`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// `item.id`.
    pub item_id: Option<String>,
    /// Its price (in very old payloads: plan).
    pub price_id: Option<String>,
    /// `item.quantity`; 0 for a metered item.
    pub quantity: i64,
    /// Whether its price is metered.
    pub metered: Option<bool>,
    /// `item.current_period_start`, before 2025-03-31.basil that of the subscription.
    #[serde(with = "time::serde::rfc3339::option")]
    pub current_period_start: Option<OffsetDateTime>,
    /// `item.current_period_end`, before 2025-03-31.basil that of the subscription.
    #[serde(with = "time::serde::rfc3339::option")]
    pub current_period_end: Option<OffsetDateTime>,
}

/// Why a subscription is not active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "most are Stripe's statuses")]
pub enum InactiveReason {
    /// Its payment collection is paused. At Stripe such a subscription continues for free; here it is not active.
    PaymentPaused,
    /// The status is `paused` without a reason: before 2026-09-30.endive, or for an internal reason of Stripe.
    Paused,
    /// Paused by a request (`POST /v1/subscriptions/{id}/pause`, the dashboard, a schedule).
    PauseRequested,
    /// Paused because a trial ended without a payment method.
    TrialEndWithoutPaymentMethod,
    /// Paused because the first payment of a renewal failed.
    FirstPaymentFailure,
    /// Paused because the last payment attempt failed.
    FinalPaymentFailure,
    PastDue,
    Unpaid,
    Incomplete,
    IncompleteExpired,
    Canceled,
    /// It has ended (`ended_at`), although its status does not report that.
    Ended,
    /// The status is unknown to this release.
    UnknownStatus,
}

/// Serializes times as text, which `json_populate_recordset` parses.
fn rfc3339_list<S: Serializer>(times: &[Option<OffsetDateTime>], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(transparent)]
    struct Text(#[serde(serialize_with = "instant::option::serialize")] Option<OffsetDateTime>);
    serializer.collect_seq(times.iter().copied().map(Text))
}
