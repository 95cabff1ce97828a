//! The pricing plan: a price with its product and limits. One row for each Stripe price (or plan, in very old
//! payloads).

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::decimal::{self, Decimal};

/// The synced columns of a row of `billing.pricing_plans`. Source: Stripe's price object, and its product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PricingPlan {
    /// Row id, see [`crate::domain::object::row_id`].
    pub id: Uuid,
    /// Connected account; empty for the key's own account.
    pub account: String,
    /// `price.id`.
    pub stripe_price_id: String,
    /// `price.product`.
    pub stripe_product_id: Option<String>,
    /// `price.livemode`.
    pub livemode: Option<bool>,
    /// `price.active` and `product.active`, and neither is deleted.
    pub active: Option<bool>,
    /// `price.recurring.interval`: day, week, month or year; unknown values kept.
    pub billing_interval: Option<String>,
    /// `price.recurring.interval_count`.
    pub billing_interval_count: Option<i64>,
    /// `price.currency`, lower-case ISO 4217.
    pub currency: Option<String>,
    /// `price.unit_amount_decimal`, else `unit_amount`: in the currency's smallest unit, exact, as decimal text.
    #[serde(serialize_with = "decimal::number")]
    pub unit_amount_decimal: Option<String>,
    /// `price.recurring.usage_type` is `metered`.
    pub stripe_track_usage: Option<bool>,
    /// Decides which item of a subscription is its plan; see [`crate::stripe::views::standing::Standing::rank`].
    pub plan_rank: i16,
    /// `product.name`.
    pub product_name: Option<String>,
    /// The price in euros, in whole units.
    pub price_in_euro: Option<Decimal>,
    /// The price in each currency, in whole units.
    pub price_per_currency: BTreeMap<String, Decimal>,
}

/// Maximum amount of a limit, so that sums of several stay within `bigint`. Larger numbers in Stripe count as this one.
pub const LARGEST_AMOUNT: i64 = 1_000_000_000_000_000_000;

/// A row of `billing.plan_limits`. Source: `limit_…` in the metadata of the price, else of its product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanLimit {
    /// Row id, see [`crate::domain::object::row_id`].
    pub id: Uuid,
    /// Row id of the plan.
    pub pricing_plan_id: Uuid,
    /// Name of the limit: words, images, members …
    pub limit_key: String,
    /// Included amount, independent of the quantity; `None` if it is unlimited or a value is invalid.
    pub included: Option<i64>,
    /// Additional amount for each unit of the quantity.
    pub per_unit: i64,
    /// Whether one of the two values is `unlimited`.
    pub unlimited: bool,
    /// The invalid values and the objects that contain them; `None` if the limit can be read.
    pub invalid_value: Option<String>,
}
