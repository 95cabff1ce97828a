//! Decides whether a failed SEPA payment of a subscription still counts.
//!
//! A fold over facts, so the order of arrival does not matter. A flag that is set and cleared would be wrong, because
//! the event of a failure may arrive after that of the later success. PURE; called by the subscription projection.

pub use crate::domain::payment::Payment;

/// Returns whether a failed or disputed SEPA payment still counts.
///
/// A failure, dated by its charge, counts until its own invoice is paid (with any method, including out of band) or a
/// later charge of the subscription succeeds. A dispute that is not won, dated by its opening, counts until a later
/// charge succeeds. Nothing else clears either: no void invoice, no zero amount, no new method, no status.
pub fn sepa_payment_failed(payments: &[Payment]) -> bool {
    let newest_success = payments.iter().filter(|payment| payment.succeeded).map(|payment| payment.created).max();
    let holds = |at| newest_success.is_none_or(|success| success <= at);
    payments.iter().filter(|payment| payment.sepa).any(|payment| {
        let unpaid = payment.invoice_paid_at.is_none_or(|paid| paid <= payment.created);
        (payment.failed && unpaid && holds(payment.created)) || payment.disputed_at.iter().any(|at| holds(*at))
    })
}
