//! The checkout session.
//!
//! Owns the location of its fields: an embedded session returns to `return_url`, a hosted one to `success_url`. The
//! `dahlia` versions of 2026 renamed the modes, which are not read. The client secret is never read. PURE.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::reader::Reader;
use super::workspace::WorkspaceLink;
use crate::domain::event::Reason;
use crate::stripe::json::Json;

const STATUSES: [&str; 3] = ["complete", "expired", "open"];
const PAYMENT_STATUSES: [&str; 3] = ["no_payment_required", "paid", "unpaid"];

/// The fields read from a checkout session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckoutView {
    /// `livemode`.
    pub livemode: Option<bool>,
    /// `status`, unknown values kept.
    pub status: Option<String>,
    /// `payment_status`, unknown values kept.
    pub payment_status: Option<String>,
    /// `customer`.
    pub customer_id: Option<String>,
    /// `subscription`.
    pub subscription_id: Option<String>,
    /// `return_url`, else `success_url`.
    pub callback_url: Option<String>,
    /// `locale`.
    pub locale: Option<String>,
    /// `metadata`, else `client_reference_id`.
    pub workspace: WorkspaceLink,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// `expires_at`.
    pub expires_at: Option<OffsetDateTime>,
    /// Notes on invalid and unknown values.
    pub notes: BTreeSet<Reason>,
}

impl CheckoutView {
    /// Reads a checkout session.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        let session = json.object().unwrap_or_default();
        let status = reader.text(session.get("status"));
        let payment_status = reader.text(session.get("payment_status"));
        reader.expect_one_of(status.as_deref(), &STATUSES);
        reader.expect_one_of(payment_status.as_deref(), &PAYMENT_STATUSES);
        let embedded = reader.text(session.get("return_url"));
        Self {
            livemode: reader.boolean(session.get("livemode")),
            status,
            payment_status,
            customer_id: reader
                .reference(session.get("customer"))
                .or_else(|| reader.reference(session.get("customer_account"))),
            subscription_id: reader.reference(session.get("subscription")),
            callback_url: embedded.or_else(|| reader.text(session.get("success_url"))),
            locale: reader.text(session.get("locale")),
            workspace: WorkspaceLink::of_session(json),
            created: reader.instant(session.get("created")),
            expires_at: reader.instant(session.get("expires_at")),
            notes: reader.notes,
        }
    }
}

/// The price of the first of `line_items`, a list that only reads contain.
pub fn first_price(line_items: Json<'_>) -> Option<String> {
    let items = line_items.get("data").array().unwrap_or_default();
    Reader::default().reference(items.first()?.get("price"))
}
