//! The checkout session: how a subscription is bought.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::instant;

/// A row of `billing.checkout_sessions`. Source: Stripe's checkout session; its client secret is never read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckoutSession {
    /// Row id, see [`crate::domain::object::row_id`].
    pub id: Uuid,
    /// Connected account; empty for the key's own account.
    pub account: String,
    /// `session.id`.
    pub stripe_session_id: String,
    /// `session.livemode`.
    pub livemode: Option<bool>,
    /// `session.status`, unknown values kept.
    pub status: Option<String>,
    /// `session.payment_status`, unknown values kept.
    pub payment_status: Option<String>,
    /// `session.customer`.
    pub stripe_customer_id: Option<String>,
    /// `session.subscription`.
    pub stripe_subscription_id: Option<String>,
    /// Price of the first line item, which only reads contain.
    pub stripe_price_id: Option<String>,
    /// Coupon of the first discount whose coupon the payload contains: a coupon, or a promotion code with its coupon.
    pub stripe_coupon_id: Option<String>,
    /// `session.return_url`, else `success_url`.
    pub callback_url: Option<String>,
    /// `session.locale`.
    pub language: Option<String>,
    /// The workspace in its metadata, else in its `client_reference_id`.
    pub workspace_id: Option<Uuid>,
    /// `session.created`.
    #[serde(serialize_with = "instant::option::serialize")]
    pub stripe_created_at: Option<OffsetDateTime>,
    /// `session.expires_at`.
    #[serde(serialize_with = "instant::option::serialize")]
    pub expires_at: Option<OffsetDateTime>,
}
