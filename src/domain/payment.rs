//! The charge of a subscription, as far as it decides whether a SEPA payment has failed.

use time::OffsetDateTime;

/// One charge of a subscription, with all that counts for the flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// `charge.id`.
    pub charge_id: String,
    /// `charge.created`; where only its failure was told, the time of that event, which is no earlier.
    pub created: OffsetDateTime,
    /// It was a SEPA direct debit.
    pub sepa: bool,
    /// It failed.
    pub failed: bool,
    /// It succeeded, with an amount above zero.
    pub succeeded: bool,
    /// When its invoice was paid: with any method, out of band included, but not with an amount of zero.
    pub invoice_paid_at: Option<OffsetDateTime>,
    /// When each dispute that was not won was opened.
    pub disputed_at: Vec<OffsetDateTime>,
}
