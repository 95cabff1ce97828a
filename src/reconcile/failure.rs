//! Why a comparison did not come to its end. What it had stored until then stays.

use std::time::Duration;

use super::STEP_LIMIT;
use crate::client::ApiError;
use crate::metrics::reconcile::RunOutcome;

/// Why there is no complete comparison.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Stripe did not answer as it should.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What Stripe answered is no page of a list, or does not lead on to the next one.
    #[error("what Stripe answered is no page of events that leads on to the next one")]
    Page,
    /// The key may be of another account.
    #[error(transparent)]
    Key(#[from] Doubt),
    /// The time from which to compare cannot be.
    #[error("{0}")]
    Since(&'static str),
    /// The database was too slow.
    #[error("the database did not answer within {} s", STEP_LIMIT.as_secs())]
    Late,
    /// The code only: the message of a database error may quote a value.
    #[error("the database answered with error {0}")]
    Database(String),
    /// The database could not be reached.
    #[error("no usable connection: {0}")]
    Connection(sqlx::Error),
    /// Somebody has deleted the row meanwhile.
    #[error("the account's row in billing.watermarks is gone")]
    Gone,
    /// The process ends.
    #[error("it was stopped")]
    Stopped,
}

/// Why a key is not used: its events would become ours.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    /// Stripe refuses it.
    #[error(transparent)]
    Refused(ApiError),
    /// It is of another account or mode than what is stored; says what shows it.
    #[error(
        "STRIPE_SECRET_KEY is of another account or mode than what is stored here ({0}); its events are not stored"
    )]
    OtherAccount(String),
    /// The stored events are too young or too old for Stripe to be asked about them.
    #[error(
        "nothing shows yet that STRIPE_SECRET_KEY is of the account of the stored events, since they are all too young or \
         too old to be looked up; the next webhook that comes will show it"
    )]
    Unproven,
}

impl Failure {
    /// How it is counted; what is nobody's failure is not.
    pub(super) fn outcome(&self) -> Option<RunOutcome> {
        match self {
            Self::Stopped | Self::Since(_) => None,
            Self::Key(_) => Some(RunOutcome::Refused),
            _ => Some(RunOutcome::Failed),
        }
    }

    /// When Stripe wants to be asked again, where it has said so.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Api(error) => error.retry_after().unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::RowNotFound => Self::Gone,
            sqlx::Error::Database(error) => Self::Database(error.code().unwrap_or_default().into_owned()),
            error => Self::Connection(error),
        }
    }
}
