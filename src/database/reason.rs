//! Finds out why a database cannot be reached: a pool only reports its timeout.

use std::time::Duration;

use sqlx::Error;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;

use super::address::Address;
use super::connection::connect;
use super::pool::Pool;
use super::session::Session;
use super::sql_error::{describe, message};
use super::waiting::RunningStatements;

/// SQLSTATE of a connection beyond a limit.
const TOO_MANY: &str = "53300";

/// Timeout of one attempt, which must fit in the time of a probe.
const LIMIT: Duration = Duration::from_millis(300);

/// A statement that has run for longer counts as the reason why a connection is not free.
const OLD: Duration = Duration::from_secs(1);

/// Describes the options: host and port or socket, database and user. Never the password.
pub fn target(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    format!("{host}, database {database}, user {}", options.get_username())
}

/// Why the pool has no connection, in one line. A pool timeout hides the reason, so one direct attempt of at most 0.3 s
/// finds it.
pub async fn unreachable_reason(pool: &Pool, error: &Error) -> String {
    let address = pool.address();
    let why = match error {
        Error::PoolTimedOut => attempt(&address).await,
        error => one_line(error),
    };
    format!("the database at {} cannot be reached: {why}", target(&address.options))
}

/// Why a statement on this pool failed, in one line without values, for a log.
pub async fn reason(pool: &Pool, error: &Error) -> String {
    match describe(error) {
        Some(described) => described,
        None => unreachable_reason(pool, error).await,
    }
}

/// Checks that the pool has a connection or can open one. A busy pool has connections, so only a failed attempt of this
/// function counts.
///
/// # Errors
/// The reason, in one line.
pub async fn check_connection(pool: &Pool) -> Result<(), String> {
    let address = pool.address();
    let why = match tokio::time::timeout(LIMIT, pool.acquire()).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) if !matches!(error, Error::PoolTimedOut) => one_line(&error),
        Ok(Err(_)) | Err(_) => match tokio::time::timeout(LIMIT, connect(&address, Session::OPS)).await {
            Ok(Ok(conn)) => {
                let _ = conn.close().await;
                return Ok(());
            }
            Ok(Err(error)) => one_line(&error),
            Err(_) => "it does not answer".to_owned(),
        },
    };
    Err(format!("the database at {} cannot be reached: {why}", target(&address.options)))
}

/// Whether the server has no free connection: for this role, for this database or at all.
pub(super) fn is_too_many(error: &Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == TOO_MANY)
}

/// Whether the pool has no connection because the server refuses further ones: for this role, for this database or at
/// all.
pub(super) async fn is_refused(pool: &Pool, error: &Error) -> bool {
    match error {
        // sqlx treats a refusal as transient and retries until the timeout
        Error::PoolTimedOut => {
            let tried = tokio::time::timeout(LIMIT, connect(&pool.address(), Session::OPS)).await;
            match tried {
                Ok(Ok(conn)) => {
                    let _ = conn.close().await;
                    false
                }
                Ok(Err(error)) => is_too_many(&error),
                Err(_) => false,
            }
        }
        error => is_too_many(error),
    }
}

async fn attempt(address: &Address) -> String {
    let answer = async {
        let mut conn = connect(address, Session::OPS).await?;
        Ok((RunningStatements::for_at_least(&mut conn, OLD).await?, conn))
    };
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(Ok((working, conn))) => {
            let _ = conn.close().await;
            occupied(&working)
        }
        Ok(Err(error)) => one_line(&error),
        Err(_) => "it does not answer".to_owned(),
    }
}

/// Reason text for a pool whose connections are all in use.
fn occupied(working: &RunningStatements) -> String {
    let RunningStatements { statements, waits } = working;
    let waits = if waits.is_empty() { String::new() } else { format!(", waiting for {waits}") };
    match statements {
        0 => "no connection of the pool became free in time".to_owned(),
        1 => format!("no connection of the pool became free in time: the server still runs a statement{waits}"),
        _ => format!(
            "no connection of the pool became free in time: the server still runs {statements} statements{waits}"
        ),
    }
}

fn one_line(error: &Error) -> String {
    match error {
        // the operating system's message is enough
        Error::Io(error) => format!("{error}"),
        error => message(error),
    }
}
