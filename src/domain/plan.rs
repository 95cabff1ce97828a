//! The pricing plan: what a price buys. One row for each Stripe price (or plan, in very old payloads).

use serde::Serialize;
use uuid::Uuid;

/// A row of `billing.pricing_plans`, as far as the sync writes it. Source: Stripe's price object.
///
/// Built from the price that a subscription item carries; products, prices per currency and limits come from
/// objects of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PricingPlan {
    /// Row id, see [`crate::domain::object::row_id`].
    pub id: Uuid,
    /// Connected account, empty for the account itself.
    pub account: String,
    /// `price.id`.
    pub stripe_price_id: String,
    /// `price.product`.
    pub stripe_product_id: Option<String>,
    /// `price.livemode`.
    pub livemode: Option<bool>,
    /// `price.active`.
    pub active: Option<bool>,
    /// `price.recurring.interval`: day, week, month or year; unknown values kept.
    pub billing_interval: Option<String>,
    /// `price.recurring.interval_count`.
    pub billing_interval_count: Option<i64>,
    /// `price.currency`, lower-case ISO 4217.
    pub currency: Option<String>,
    /// `price.unit_amount_decimal`, else `unit_amount`: in the currency's smallest unit, exact, as decimal text.
    pub unit_amount_decimal: Option<String>,
    /// `price.recurring.usage_type` is `metered`.
    pub stripe_track_usage: Option<bool>,
}
