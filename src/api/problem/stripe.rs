//! Failures of changes at Stripe as problems: each says whether something was changed, and what to do.

use std::time::Duration;

use super::{Code, Problem};
use crate::client::WriteError;
use crate::writes::SendError;

/// Suggested wait while Stripe cannot be reached, or locks the object.
const STRIPE_RETRY: Duration = Duration::from_secs(5);
/// Suggested wait while the outcome is unknown: recovery repeats the request within seconds.
const OUTCOME_RETRY: Duration = Duration::from_secs(5);

impl Problem {
    /// The problem of a change that is neither made nor refused yet.
    pub(crate) fn outcome_unknown() -> Self {
        let detail = "Stripe may have made the change or not; billing-sync finds out and completes it. Repeat the \
                      request with the same Idempotency-Key to get its answer";
        Self::new(Code::OutcomeUnknown, detail).retry_after(OUTCOME_RETRY)
    }

    /// The problem of a process without a key for writes.
    pub(crate) fn writes_not_configured() -> Self {
        let detail = "this service only reads: the operator must set STRIPE_WRITE_KEY";
        Self::new(Code::WritesNotConfigured, detail)
    }
}

/// The problem of a change that is not complete. The log has the error.
pub(crate) fn of_send(error: SendError) -> Problem {
    match error {
        SendError::Database(error) => error.into(),
        // the caller waits in these cases; it is still in progress
        SendError::Busy | SendError::Merge(_) => Problem::outcome_unknown(),
        SendError::Unknown => {
            let detail = "the change was sent more than a day ago, and its outcome cannot be found out any more; an \
                          operator must resolve it (billing-sync writes)";
            Problem::new(Code::OutcomeUnknown, detail)
        }
        SendError::Key(_) => key_refused(),
        SendError::Expired => {
            let detail = "the answer contained a secret, which only Stripe keeps, and only for 24 hours; send a new \
                          request with a new Idempotency-Key";
            Problem::new(Code::IdempotencyKeyExpired, detail)
        }
        SendError::Stripe(error) => of_stripe(error),
    }
}

fn of_stripe(error: WriteError) -> Problem {
    match error {
        WriteError::Unreachable { .. } => {
            let detail = "nothing was changed; repeat the request";
            Problem::new(Code::StripeUnavailable, detail).retry_after(STRIPE_RETRY)
        }
        WriteError::Later { code: "lock_timeout", retry_after, .. } => {
            let detail = "Stripe is changing the object already; nothing was changed, so repeat the request";
            Problem::new(Code::StripeUnavailable, detail).retry_after(retry_after.unwrap_or(STRIPE_RETRY))
        }
        WriteError::Later { retry_after, .. } => {
            let detail = "nothing was changed; repeat the request";
            Problem::new(Code::StripeRateLimited, detail).retry_after(retry_after.unwrap_or(STRIPE_RETRY))
        }
        WriteError::KeyRefused { .. } => key_refused(),
        WriteError::Refused { status: 402, decline_code, code, .. } => {
            let detail = "Stripe declined the payment, and nothing was changed; see declineCode";
            Problem::new(Code::PaymentDeclined, detail).with("declineCode", decline_code.or(code))
        }
        WriteError::Refused { status: 404, .. } => {
            Problem::new(Code::NotFound, "Stripe does not have the customer any more; nothing was changed")
        }
        WriteError::Refused { code, param, .. } => {
            let detail = "Stripe refused the request of billing-sync, and nothing was changed; see stripeCode and \
                          stripeParam. The operator finds the error in the log";
            Problem::new(Code::StripeRejected, detail).with("stripeCode", code).with("stripeParam", param)
        }
        WriteError::Unknown { .. } => Problem::outcome_unknown(),
    }
}

fn key_refused() -> Problem {
    let detail = "nothing was changed: Stripe refuses STRIPE_WRITE_KEY, or it belongs to another account. The operator \
                  finds the reason in the log, and by `billing-sync doctor`";
    Problem::new(Code::StripeKeyRefused, detail)
}
