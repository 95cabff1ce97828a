//! Database errors as problems: the reasons of the product's functions, and everything else.

use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::{Code, Problem};
use crate::database::without_values;
use crate::writes::Failure;

/// Suggested wait after a failure of the database, which usually lasts some seconds.
const DATABASE_RETRY: Duration = Duration::from_secs(2);
/// Suggested wait while something is not known yet: a read of Stripe's API usually ends within seconds.
const KNOWN_RETRY: Duration = Duration::from_secs(5);
/// Suggested wait while limits cannot be computed: usually until an operator has removed the cause.
const COMPUTABLE_RETRY: Duration = Duration::from_mins(1);

impl From<sqlx::Error> for Problem {
    /// The client learns only what it can act on; the log has the error.
    fn from(error: sqlx::Error) -> Self {
        let refused = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        if let Some(problem) = refused.and_then(of_limits) {
            return problem;
        }
        let code = refused.map(PgDatabaseError::code).unwrap_or_default();
        match (&error, code) {
            // serialization failure, deadlock, lock timeout: another request holds the rows
            (_, "40001" | "40P01" | "55P03") => {
                let detail = "another transaction holds the same rows; nothing was changed, so repeat the request";
                Self::new(Code::Busy, detail).retry_after(Duration::from_secs(1))
            }
            (_, "57014") => {
                let detail = "the request took longer than the database may work on it; ask for less, or repeat it";
                Self::new(Code::Busy, detail).retry_after(Duration::from_secs(1))
            }
            (sqlx::Error::PoolTimedOut, _) => {
                let detail = "no database connection became free in time; nothing was changed, so repeat the request";
                Self::new(Code::Busy, detail).retry_after(Duration::from_secs(1))
            }
            (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed, _) => {
                Self::unavailable(&error)
            }
            // the server ends or refuses the connection
            _ if refused.is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)) => {
                Self::unavailable(&error)
            }
            // connection, read-only, resources, operator
            (_, code) if ["08", "25", "53", "57"].iter().any(|class| code.starts_with(class)) => {
                Self::unavailable(&error)
            }
            _ => {
                tracing::error!(error = without_values(&error), "an API request failed");
                Self::new(
                    Code::InternalError,
                    "the request failed because of a bug; the log of billing-sync has the cause",
                )
            }
        }
    }
}

impl Problem {
    /// Whether the database failed: such a transaction cannot be committed.
    pub(crate) fn is_of_database(&self) -> bool {
        matches!(self.code, Code::Busy | Code::DatabaseUnavailable | Code::InternalError)
    }

    /// The same as a failure of the transaction in which a change at Stripe is completed.
    pub(crate) fn into_failure(self) -> Failure {
        let why = format!("the answer could not be read: {}", self.code.as_str());
        if self.code == Code::Busy { Failure::Contended(why) } else { Failure::Retryable(why) }
    }

    /// The problem once a change at Stripe is begun: then a failure of the database does not mean that nothing was changed.
    #[must_use]
    pub(crate) fn after_begin(self) -> Self {
        match self.code {
            Code::Busy | Code::DatabaseUnavailable => Self::outcome_unknown(),
            _ => self,
        }
    }

    /// The problem of a database that cannot be used.
    pub(crate) fn unavailable(error: &sqlx::Error) -> Self {
        tracing::warn!(error = without_values(error), "the database is unavailable for an API request");
        let detail = "the database cannot be used at the moment; repeat the request with the same Idempotency-Key";
        Self::new(Code::DatabaseUnavailable, detail).retry_after(DATABASE_RETRY)
    }
}

/// The problem for a reason of `billing.consume` or `billing.release`, whose codes begin with LM.
fn of_limits(error: &PgDatabaseError) -> Option<Problem> {
    let problem = match error.code() {
        "LM001" => {
            let left: i64 = error.detail().and_then(|left| left.parse().ok()).unwrap_or_default();
            let renews = error.hint().and_then(|hint| hint.strip_prefix("They renew at "));
            let detail = "less than the amount is left; see available, and renewsAt for when it renews";
            Problem::new(Code::LimitUsedUp, detail).with("available", left).with("renewsAt", renews)
        }
        "LM002" => {
            let detail = "the subscription of the workspace is not active; see inactiveReason";
            Problem::new(Code::SubscriptionInactive, detail).with("inactiveReason", error.detail())
        }
        "LM003" => Problem::new(
            Code::NoSubscription,
            "no subscription in Stripe names this workspace in its metadata (workspace_id)",
        ),
        "LM004" => Problem::new(
            Code::NoSuchLimit,
            "the price or product of the subscription has no such limit in its metadata in Stripe (limit_<key>)",
        ),
        "LM006" => Problem::new(
            Code::LimitNotReleasable,
            "this limit renews, so what was consumed cannot be released; only capacities can, such as members",
        ),
        "LM007" => Problem::new(Code::UsageOutOfRange, "at most 10^18 can be used in one period"),
        "LM008" => {
            let detail = "an item, price or product of the subscription has not been read from Stripe yet, or its balance \
                          has not been created; repeat the request";
            Problem::new(Code::LimitNotKnownYet, detail).retry_after(KNOWN_RETRY)
        }
        "LM009" => {
            let detail =
                "the limit has a value in Stripe that is neither a whole number nor unlimited; see invalidValue";
            Problem::new(Code::LimitUnreadable, detail).with("invalidValue", error.detail())
        }
        "LM010" => {
            tracing::error!(subscription.id = error.detail(), "the limits of a subscription cannot be computed");
            let detail = "the limits of the subscription cannot be computed; `billing-sync renew` prints the error";
            Problem::new(Code::LimitNotComputable, detail).retry_after(COMPUTABLE_RETRY)
        }
        _ => return None,
    };
    Some(problem)
}
