//! Whether a SEPA payment of a subscription has failed and still counts.
//!
//! A fold over facts, so that no order of arrival matters: one slot that is set and cleared would be wrong, because a
//! failure may be told after the success that followed it. PURE; called by the subscription projection.

pub use crate::domain::payment::Payment;

/// Whether a failed or disputed SEPA payment still counts.
///
/// A failure, dated by its charge, holds until its own invoice is paid (with any method, out of band included) or until
/// a later charge of the subscription succeeds. An unwon dispute, dated by its opening, holds until a later charge
/// succeeds. Nothing else clears either: no void invoice, no zero amount, no new method, no status.
pub fn sepa_payment_failed(payments: &[Payment]) -> bool {
    let newest_success = payments.iter().filter(|payment| payment.succeeded).map(|payment| payment.created).max();
    let holds = |at| newest_success.is_none_or(|success| success <= at);
    payments.iter().filter(|payment| payment.sepa).any(|payment| {
        let unpaid = payment.invoice_paid_at.is_none_or(|paid| paid <= payment.created);
        (payment.failed && unpaid && holds(payment.created)) || payment.disputed_at.iter().any(|at| holds(*at))
    })
}
