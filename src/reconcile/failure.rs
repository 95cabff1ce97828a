//! Errors that end a comparison early. Events that it stored before stay stored.

use std::time::Duration;

use crate::client::ApiError;
use crate::database;
use crate::metrics::reconcile::RunOutcome;

/// Timeout of one database step; only an unresponsive database takes that long.
pub(super) const STEP_LIMIT: Duration = Duration::from_mins(1);

/// Why a comparison is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A request to Stripe failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The response is not a page of a list, or has no cursor for the next page.
    #[error("Stripe's response is not a page of events, or has no cursor for the next page")]
    Page,
    /// The key may belong to another account.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The requested start time is invalid.
    #[error("{0}")]
    Since(&'static str),
    /// A database step timed out.
    #[error("the database did not answer within {} s", STEP_LIMIT.as_secs())]
    Late,
    /// A database error, without its message, which may contain a value.
    #[error("{0}")]
    Database(String),
    /// The database could not be reached.
    #[error("no usable connection: {}", database::message(.0))]
    Connection(sqlx::Error),
    /// Another session deleted the account's row during the comparison.
    #[error("the account's row in billing.reconcile_state is missing; another session deleted it")]
    Gone,
    /// The process is shutting down.
    #[error("the comparison was stopped")]
    Stopped,
}

/// Why a key is not used for listing: the events of another account would be stored.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Stripe refuses the key.
    #[error(transparent)]
    Refused(ApiError),
    /// The key belongs to another account or mode than the stored data; contains the evidence.
    #[error(
        "STRIPE_SECRET_KEY belongs to another account or mode than the stored data ({0}); its events are not stored"
    )]
    OtherAccount(String),
    /// All stored events are too young or too old to look them up at Stripe.
    #[error(
        "cannot verify yet that STRIPE_SECRET_KEY belongs to the account of the stored events, because all of them are \
         too young or too old to look up; the next delivered webhook verifies it"
    )]
    Unverified,
}

impl Failure {
    /// The outcome to count; `None` for a shutdown or an invalid argument, which are not failures.
    pub(super) fn outcome(&self) -> Option<RunOutcome> {
        match self {
            Self::Stopped | Self::Since(_) => None,
            Self::Key(_) => Some(RunOutcome::Refused),
            _ => Some(RunOutcome::Failed),
        }
    }

    /// What the operator can do, if the text does not say it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Api(error) | Self::Key(KeyError::Refused(error)) => Some(error.fix("STRIPE_SECRET_KEY")),
            Self::Connection(error) => Some(database::fix(error).to_owned()),
            _ => None,
        }
    }

    /// Minimum wait that Stripe requested, or zero.
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
            error => database::describe(&error).map_or(Self::Connection(error), Self::Database),
        }
    }
}
