//! A failure carries its decision: whose fault it is, and whether trying again can help.
//!
//! The text of a failure is stored and shown, so it never contains what the event contained: of a database
//! error it keeps the code and the names, of a panic the literal message only.

use std::any::Any;

/// Why a batch, or an attempt at one event, did not commit.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database cannot be reached or cannot work. Costs no attempt, and the worker pauses.
    #[error("{0}")]
    Away(String),
    /// Somebody else held what was needed: deadlock, lock timeout, serialization failure. Costs no attempt, and the
    /// worker goes on with others.
    #[error("{0}")]
    Contended(String),
    /// Something about an event, or about us; tried again with backoff until the attempts run out.
    #[error("{0}")]
    Retry(String),
    /// No attempt can succeed until an operator or a new release changes something: parked at once.
    #[error("{0}")]
    Bury(String),
}

impl Failure {
    /// What a panic in the mapping is called.
    ///
    /// A literal message was written by us and may be shown; a formatted one may hold what was in the event.
    pub fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let message =
            payload.downcast_ref::<&'static str>().copied().unwrap_or("message withheld, see the log for its place");
        Self::Retry(format!("the mapping panicked: {message}"))
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                let at = database.constraint().or(database.table());
                of_code(&code, &at.map(|name| format!(" ({name})")).unwrap_or_default())
            }
            // the server speaks in errors of its own; these are the way to it, or the pool in front
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Self::Away("the connection to the database was lost".into()),
            sqlx::Error::PoolTimedOut => Self::Away("no connection to the database in time".into()),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Away("the connection pool is closed".into()),
            sqlx::Error::RowNotFound => Self::Retry("a row was not there that must be".into()),
            // their own texts may show data
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Retry("a value from the database could not be read".into())
            }
            sqlx::Error::Encode(_) | sqlx::Error::Protocol(_) => {
                Self::Retry("a value could not be sent to the database".into())
            }
            _ => Self::Retry("unexpected error of the database client".into()),
        }
    }
}

/// What a SQLSTATE says about whose fault it is.
///
/// Away: connection (08, but for the protocol violation that a message of more than 1 GiB is), disk full, too many
/// connections, read-only server, I/O error, operator intervention (57P0x). A cancelled statement (57014) and
/// exhausted memory (53200) are an event's fault: one that causes them every time must run out of attempts.
fn of_code(code: &str, at: &str) -> Failure {
    let text = format!("database error {code}{at}");
    match code {
        "40001" | "40P01" | "55P03" => Failure::Contended(text),
        // the last two: our transaction was idle or open for too long, since this machine was suspended
        "53100" | "53300" | "25006" | "58030" | "25P03" | "25P04" => Failure::Away(text),
        "08P01" => Failure::Retry(text),
        _ if code.starts_with("08") || code.starts_with("57P0") => Failure::Away(text),
        _ => Failure::Retry(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_event_can_cause_costs_no_attempt() {
        let fault = |code: &str| of_code(code, "");
        for code in ["40001", "40P01", "55P03"] {
            assert!(matches!(fault(code), Failure::Contended(_)), "{code}");
        }
        for code in ["57P01", "57P03", "08006", "53300", "53100", "25P03"] {
            assert!(matches!(fault(code), Failure::Away(_)), "{code}");
        }
        for code in ["23514", "22P05", "57014", "53200", "08P01", "42P01", ""] {
            assert!(matches!(fault(code), Failure::Retry(_)), "{code}");
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
