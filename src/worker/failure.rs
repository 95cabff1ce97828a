//! A failure carries its decision: whose fault it is, and whether trying again can help.
//!
//! The text of a failure is stored and shown, so it never contains what the event contained: of a database
//! error it keeps the code and the names, of a panic the literal message only.

use std::any::Any;

/// Why a batch, or an attempt at one event, did not commit.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Not the fault of any event: connection loss, deadlock, lock timeout, shutdown of the server. It costs no
    /// attempt.
    #[error("{0}")]
    Transient(String),
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
                let at = database.constraint().or(database.table()).map(|name| format!(" ({name})")).unwrap_or_default();
                let text = format!("database error {code}{at}");
                if is_transient(&code) { Self::Transient(text) } else { Self::Retry(text) }
            }
            // the server speaks in errors of its own; everything else is the way to it, or the pool in front
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            // somebody else has settled an event of ours: what is left comes back at the next claim
            | sqlx::Error::RowNotFound => Self::Transient(kind(&error).to_owned()),
            _ => Self::Retry(kind(&error).to_owned()),
        }
    }
}

/// A name for an error whose own text may show data.
fn kind(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
            "the connection to the database was lost"
        }
        sqlx::Error::PoolTimedOut => "no connection to the database in time",
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => "the connection pool is closed",
        sqlx::Error::RowNotFound => "an event of the batch was settled by somebody else",
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => "a value from the database could not be read",
        sqlx::Error::Encode(_) => "a value could not be sent to the database",
        _ => "unexpected database client error",
    }
}

/// Whether a SQLSTATE is no fault of the event: connection (08), serialization failure, deadlock, lock timeout,
/// disk full, too many connections, operator intervention (57P0x).
///
/// A cancelled statement (57014) and exhausted memory (53200) are not among them: an event that causes them every
/// time must run out of attempts.
fn is_transient(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03" | "53100" | "53300")
        || code.starts_with("08")
        || code.starts_with("57P0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_event_can_cause_costs_no_attempt() {
        for code in ["40001", "40P01", "55P03", "57P01", "57P03", "08006", "53300"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["23514", "22P05", "57014", "53200", "42P01", ""] {
            assert!(!is_transient(code), "{code}");
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
