//! The coupon. None of its fields has moved between API versions.
//!
//! PURE.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::reader::Reader;
use crate::domain::event::Reason;
use crate::stripe::json::Json;

const DURATIONS: [&str; 3] = ["forever", "once", "repeating"];

/// The fields read from a coupon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CouponView {
    /// `livemode`.
    pub livemode: Option<bool>,
    /// `name`.
    pub name: Option<String>,
    /// `percent_off`, as decimal text.
    pub percent_off: Option<String>,
    /// `amount_off`.
    pub amount_off: Option<i64>,
    /// `currency`.
    pub currency: Option<String>,
    /// `duration`, unknown values kept.
    pub duration: Option<String>,
    /// `duration_in_months`.
    pub duration_in_months: Option<i64>,
    /// `redeem_by`.
    pub redeem_by: Option<OffsetDateTime>,
    /// `max_redemptions`.
    pub max_redemptions: Option<i64>,
    /// `times_redeemed`.
    pub times_redeemed: Option<i64>,
    /// `valid`.
    pub valid: Option<bool>,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// Notes on invalid and unknown values.
    pub notes: BTreeSet<Reason>,
}

impl CouponView {
    /// Reads a coupon.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        let duration = reader.text(json.get("duration"));
        reader.expect_one_of(duration.as_deref(), &DURATIONS);
        Self {
            livemode: reader.boolean(json.get("livemode")),
            name: reader.text(json.get("name")),
            percent_off: reader.number(json.get("percent_off")),
            amount_off: reader.integer(json.get("amount_off")),
            currency: reader.text(json.get("currency")),
            duration,
            duration_in_months: reader.integer(json.get("duration_in_months")),
            redeem_by: reader.instant(json.get("redeem_by")),
            max_redemptions: reader.integer(json.get("max_redemptions")),
            times_redeemed: reader.integer(json.get("times_redeemed")),
            valid: reader.boolean(json.get("valid")),
            created: reader.instant(json.get("created")),
            notes: reader.notes,
        }
    }
}
