//! Which facts an object states. PURE.

use time::OffsetDateTime;

use crate::stripe::json::Json;

/// What a payment of an invoice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PaymentType {
    /// A payment intent.
    PaymentIntent,
    /// A charge.
    Charge,
}

impl PaymentType {
    /// The word of the column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PaymentIntent => "payment_intent",
            Self::Charge => "charge",
        }
    }
}

/// placeholder until the merge
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "replaced by the merge")]
pub enum Fact {
    Charge {
        charge_id: String,
        customer_id: Option<String>,
        payment_intent_id: Option<String>,
        charged_at: Option<OffsetDateTime>,
        told_at: OffsetDateTime,
        sepa: bool,
        failed: bool,
        succeeded: bool,
    },
    Payment { invoice_id: String, payment_type: PaymentType, payment_id: String },
    Invoice { invoice_id: String, subscription_id: Option<String>, paid_at: Option<OffsetDateTime> },
    Dispute { dispute_id: String, charge_id: String, disputed_at: OffsetDateTime, won: bool },
    Trial { subscription_id: String, started_at: OffsetDateTime },
    Timeline {
        subscription_id: String,
        effective_from: OffsetDateTime,
        source: String,
        status: String,
        payment_paused: bool,
        ended_at: Option<OffsetDateTime>,
        stripe_price_id: Option<String>,
        start_date: Option<OffsetDateTime>,
        billing_cycle_anchor: Option<OffsetDateTime>,
        anchor_day: Option<i32>,
    },
}

/// placeholder
pub fn fold(_t: &str, _o: Json<'_>, _e: Option<&str>, _at: OffsetDateTime, _s: &str) -> Vec<Fact> {
    Vec::new()
}
/// placeholder
pub fn wanted(_t: &str, _o: Json<'_>, _e: Option<&str>) -> Vec<(&'static str, String)> {
    Vec::new()
}
