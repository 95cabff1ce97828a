//! The charge of a subscription, with the fields that decide whether a SEPA payment has failed.

use time::OffsetDateTime;

/// One charge of a subscription, with the fields that decide `sepa_payment_failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// `charge.id`.
    pub charge_id: String,
    /// `charge.created`; if only its failure is known, the time of that event, which is not earlier.
    pub created: OffsetDateTime,
    /// Whether the charge was a SEPA direct debit.
    pub sepa: bool,
    /// Whether the charge failed.
    pub failed: bool,
    /// Whether the charge succeeded with an amount above zero.
    pub succeeded: bool,
    /// When its invoice was paid: with any method, including out of band, but not with an amount of zero.
    pub invoice_paid_at: Option<OffsetDateTime>,
    /// When each dispute that was not won was opened.
    pub disputed_at: Vec<OffsetDateTime>,
}
