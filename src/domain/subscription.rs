//! The subscription: for what, until when, and whether it may be used. One row for each Stripe subscription.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use uuid::Uuid;

use super::instant;

/// A row of `billing.subscriptions`, as far as the sync writes it. Source: Stripe's subscription object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of the table")]
pub struct Subscription {
    /// Row id, see [`crate::domain::object::row_id`].
    pub id: Uuid,
    /// Connected account, empty for the account itself.
    pub account: String,
    /// `subscription.id`.
    pub stripe_subscription_id: String,
    /// `subscription.customer`.
    pub stripe_customer_id: String,
    /// `subscription.livemode`.
    pub livemode: Option<bool>,
    /// Row id of the customer's billing contact, whether or not it is there yet.
    pub billing_contact_id: Uuid,
    /// The workspace named in the metadata of the subscription, else of its customer.
    pub workspace_id: Option<Uuid>,
    /// `subscription.status`, unknown values kept.
    pub stripe_status: String,
    /// May be used: status allows it, payment is not paused, not ended.
    pub active: bool,
    /// Why it is not active; none exactly where it is.
    pub inactive_reason: Option<InactiveReason>,
    /// `pause_collection` is set.
    pub payment_paused: bool,
    /// `pause_collection.resumes_at`: when Stripe will end the pause; it says so when it has.
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
    /// A SEPA payment has failed or was disputed, and nothing has been paid since.
    pub sepa_payment_failed: bool,
    /// The status is `trialing`, or a trial offer runs for the item that counts.
    pub is_trial: bool,
    /// Start of the running trial offer, else `trial_start`; only while the trial runs.
    #[serde(serialize_with = "instant::option::serialize")]
    pub trial_started_at: Option<OffsetDateTime>,
    /// End of that item's trial offer, else `trial_end`, which stays after the trial.
    #[serde(serialize_with = "instant::option::serialize")]
    pub trial_ends_at: Option<OffsetDateTime>,
    /// `trial_settings.end_behavior.missing_payment_method`, unknown values kept.
    pub trial_end_behavior: Option<String>,
    /// It will end at `end_date` and has not ended yet.
    pub is_grace_period: bool,
    /// When it ended or will end.
    #[serde(serialize_with = "instant::option::serialize")]
    pub end_date: Option<OffsetDateTime>,
    /// When the next billing period begins; null where none will.
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
    /// All its items, the plan first; none where they are not all known.
    pub items: Option<Vec<Item>>,
    /// The price that it will change to: by an update that waits for its payment, else by its schedule.
    pub new_stripe_price_id: Option<String>,
    /// Row id of that price's pricing plan; null while the price is not known.
    pub new_pricing_plan_id: Option<Uuid>,
    /// When it will change: the start of the schedule's phase; null while an update waits for its payment.
    #[serde(serialize_with = "instant::option::serialize")]
    pub new_pricing_plan_at: Option<OffsetDateTime>,
    /// Type of the method that it will be charged to: its own, else the customer's, else that of its last payment.
    pub payment_type: Option<String>,
    /// Brand of that card; none where it is no card.
    pub payment_method_card_brand: Option<String>,
    /// Last four digits of that card, account or IBAN.
    pub payment_card_number_last_four_digits: Option<String>,
    /// Coupon ids of its discounts, in stable order.
    pub active_discounts: Vec<String>,
    /// The end of each of those discounts, at the same place; null has no end.
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
    /// Its price is metered.
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
    /// Its collection is paused. Stripe means it to go on for free; the product does not.
    PaymentPaused,
    /// The status is `paused`, and Stripe does not say why: before 2026-09-30.endive, or for a reason of its own.
    Paused,
    /// Paused by a request (`POST /v1/subscriptions/{id}/pause`, the dashboard, a schedule).
    PauseRequested,
    /// Paused because a trial ended and no payment method was there.
    TrialEndWithoutPaymentMethod,
    /// Paused because the first payment of a renewal failed.
    FirstPaymentFailure,
    /// Paused because the last attempt to be paid failed.
    FinalPaymentFailure,
    PastDue,
    Unpaid,
    Incomplete,
    IncompleteExpired,
    Canceled,
    /// It has an end in the past, whatever its status.
    Ended,
    /// The status is new in Stripe.
    UnknownStatus,
}

/// Times as texts, as `json_populate_recordset` reads them.
fn rfc3339_list<S: Serializer>(times: &[Option<OffsetDateTime>], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(transparent)]
    struct Text(#[serde(serialize_with = "instant::option::serialize")] Option<OffsetDateTime>);
    serializer.collect_seq(times.iter().copied().map(Text))
}
