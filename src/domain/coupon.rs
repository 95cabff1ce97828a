//! The coupon: a discount that can be redeemed.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{decimal, instant};

/// The synced columns of a row of `billing.coupons`. Source: Stripe's coupon object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coupon {
    /// Row id, see [`crate::domain::object::row_id`].
    pub id: Uuid,
    /// Connected account; empty for the key's own account.
    pub account: String,
    /// `coupon.id`.
    pub stripe_coupon_id: String,
    /// `coupon.livemode`.
    pub livemode: Option<bool>,
    /// `coupon.name`.
    pub name: Option<String>,
    /// `coupon.percent_off`, as decimal text.
    #[serde(serialize_with = "decimal::number")]
    pub discount_percentage: Option<String>,
    /// `coupon.amount_off`, in the smallest unit of the currency.
    pub amount_off: Option<i64>,
    /// `coupon.currency`.
    pub currency: Option<String>,
    /// `coupon.duration`, unknown values kept.
    pub duration: Option<String>,
    /// `coupon.duration_in_months`.
    pub duration_in_months: Option<i64>,
    /// `coupon.redeem_by`: the last time at which it can be redeemed.
    #[serde(serialize_with = "instant::option::serialize")]
    pub redeem_by: Option<OffsetDateTime>,
    /// `coupon.max_redemptions`.
    pub max_redemptions: Option<i64>,
    /// `coupon.times_redeemed`.
    pub times_redeemed: Option<i64>,
    /// `coupon.valid`, false once it is deleted. `billing.live_coupons` computes the validity that depends on the date.
    pub valid: Option<bool>,
    /// `coupon.created`.
    #[serde(serialize_with = "instant::option::serialize")]
    pub stripe_created_at: Option<OffsetDateTime>,
    /// When the coupon was deleted in Stripe.
    #[serde(serialize_with = "instant::option::serialize")]
    pub stripe_deleted_at: Option<OffsetDateTime>,
}
