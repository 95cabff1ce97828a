//! Classifies errors: does the attempt count, and can a retry help?
//!
//! The text of a failure is stored and shown, so it never contains data of the event. Of a database error it holds the
//! code and the names of the objects, of a panic only a literal message.

use std::any::Any;
use std::borrow::Cow;

use crate::base::waits::LOCKED_ROWS;

use crate::database;

/// Why a batch, or an attempt at one event, did not commit.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database is unreachable or cannot process statements. The attempt does not count, and the worker pauses.
    #[error("{0}")]
    Unavailable(String),
    /// Another session held a needed lock: deadlock, lock timeout, serialization failure. The attempt does not count,
    /// and the worker continues with other events.
    #[error("{0}")]
    Contended(String),
    /// An error of the event or of billing-sync; retried with backoff until the attempts run out.
    #[error("{0}")]
    Retryable(String),
    /// No attempt can succeed until an operator or a new release changes something: dead at once.
    #[error("{0}")]
    Permanent(String),
}

impl Failure {
    /// What a caller waits for before a retry.
    pub fn awaited(&self) -> Cow<'static, str> {
        match self {
            Self::Contended(_) => LOCKED_ROWS.into(),
            Self::Unavailable(why) => format!("the database ({why})").into(),
            Self::Retryable(why) | Self::Permanent(why) => format!("another try ({why})").into(),
        }
    }

    /// Makes a failure of a panic in the mapping.
    ///
    /// A literal message comes from the source code and may be shown; a formatted one may contain data of the event.
    pub fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&'static str>()
            .copied()
            .unwrap_or("message withheld; its place in the code is in the log");
        Self::Retryable(format!("the mapping panicked: {message}"))
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refused) => {
                of_code(&refused.code().unwrap_or_default(), database::describe(&error).unwrap_or_default())
            }
            // errors of the connection or of a pooler in front; the server's own errors are `Database`
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => {
                Self::Unavailable("the connection to the database was lost".into())
            }
            sqlx::Error::PoolTimedOut => Self::Unavailable("no connection to the database in time".into()),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable("the connection pool is closed".into())
            }
            sqlx::Error::RowNotFound => Self::Retryable("a required row is missing".into()),
            // the texts of these errors may contain data
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Retryable("a value from the database cannot be read".into())
            }
            sqlx::Error::Encode(_) | sqlx::Error::Protocol(_) => {
                Self::Retryable("a value cannot be sent to the database".into())
            }
            _ => Self::Retryable("unexpected error of the database client".into()),
        }
    }
}

/// Classifies a SQLSTATE.
///
/// Unavailable: connection (08, except 08P01, a protocol violation, which a message of more than 1 GiB causes), disk
/// full, too many connections, read-only server, I/O error, operator intervention (57P0x). A cancelled statement
/// (57014) and exhausted memory (53200) count as errors of the event: an event that always causes them must run out of
/// attempts.
fn of_code(code: &str, text: String) -> Failure {
    match code {
        "40001" | "40P01" | "55P03" => Failure::Contended(text),
        // the last two: the transaction was idle or open for too long, because this machine was suspended
        "53100" | "53300" | "25006" | "58030" | "25P03" | "25P04" => Failure::Unavailable(text),
        "08P01" => Failure::Retryable(text),
        _ if code.starts_with("08") || code.starts_with("57P0") => Failure::Unavailable(text),
        _ => Failure::Retryable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_infrastructure_errors_cost_no_attempt() {
        let fault = |code: &str| of_code(code, String::new());
        for code in ["40001", "40P01", "55P03"] {
            assert!(matches!(fault(code), Failure::Contended(_)), "{code}");
        }
        for code in ["57P01", "57P03", "08006", "53300", "53100", "25P03"] {
            assert!(matches!(fault(code), Failure::Unavailable(_)), "{code}");
        }
        for code in ["23514", "22P05", "57014", "53200", "08P01", "42P01", ""] {
            assert!(matches!(fault(code), Failure::Retryable(_)), "{code}");
        }
    }

    #[test]
    fn a_formatted_panic_message_is_withheld() {
        let value = "jane@example.com".to_owned();
        let formatted = std::panic::catch_unwind(|| panic!("bad value {value}")).unwrap_err();
        assert!(!Failure::from_panic(&*formatted).to_string().contains("jane"));
        let literal = std::panic::catch_unwind(|| panic!("no items")).unwrap_err();
        assert!(Failure::from_panic(&*literal).to_string().contains("no items"));
    }
}
