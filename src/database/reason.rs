//! Where a database is, and why it cannot be reached: a pool only says that its time ran out.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Error, PgPool};

use super::waiting::Working;
use super::{Session, connect};

/// SQLSTATE of a connection beyond a limit.
const TOO_MANY: &str = "53300";

/// One attempt, which must fit into the time of a probe.
const LIMIT: Duration = Duration::from_millis(300);

/// A statement that the server has worked on for so long is what keeps a connection.
const OLD: Duration = Duration::from_secs(1);

/// Where the options lead: host and port or socket, database and user. Never the password.
pub fn target(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    format!("{host}, database {database}, user {}", options.get_username())
}

/// Why the pool has no connection, in one line. Where it ran out of time, which hides the reason, one direct attempt
/// of at most 0.3 s finds it.
pub async fn unreachable_reason(pool: &PgPool, error: &Error) -> String {
    let options = pool.connect_options();
    let why = match error {
        Error::PoolTimedOut => attempt(&options).await,
        error => one_line(error),
    };
    format!("the database at {} cannot be reached: {why}", target(&options))
}

/// Whether the pool has a connection, or can have one. One that is busy has, so only a failed attempt of its own counts.
///
/// # Errors
/// Why there is none, in one line.
pub async fn check_connection(pool: &PgPool) -> Result<(), String> {
    let options = pool.connect_options();
    let why = match tokio::time::timeout(LIMIT, pool.acquire()).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) if !matches!(error, Error::PoolTimedOut) => one_line(&error),
        Ok(Err(_)) | Err(_) => match tokio::time::timeout(LIMIT, connect(&options, Session::OPS)).await {
            Ok(Ok(conn)) => {
                let _ = conn.close().await;
                return Ok(());
            }
            Ok(Err(error)) => one_line(&error),
            Err(_) => "it does not answer".to_owned(),
        },
    };
    Err(format!("the database at {} cannot be reached: {why}", target(&options)))
}

/// Whether the server has no connection free, for this role, this database or at all.
pub(super) fn is_too_many(error: &Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == TOO_MANY)
}

/// Whether the database refuses further connections, where the pool has none: of this role, to this database, or at all.
pub(super) async fn is_refused(pool: &PgPool, error: &Error) -> bool {
    match error {
        // a transient error to sqlx, which goes on trying until the time is over
        Error::PoolTimedOut => {
            let tried = tokio::time::timeout(LIMIT, connect(&pool.connect_options(), Session::OPS)).await;
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

async fn attempt(options: &PgConnectOptions) -> String {
    let asked = async {
        let mut conn = connect(options, Session::OPS).await?;
        Ok((Working::for_at_least(&mut conn, OLD).await?, conn))
    };
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok((working, conn))) => {
            let _ = conn.close().await;
            occupied(&working)
        }
        Ok(Err(error)) => one_line(&error),
        Err(_) => "it does not answer".to_owned(),
    }
}

/// Connections there are, and all are taken.
fn occupied(working: &Working) -> String {
    let Working { statements, waits } = working;
    let waits = if waits.is_empty() { String::new() } else { format!(", waiting for {waits}") };
    match statements {
        0 => "no connection of the pool came free in time".to_owned(),
        1 => format!("no connection of the pool came free in time: the server still works on a statement{waits}"),
        _ => format!(
            "no connection of the pool came free in time: the server still works on {statements} statements{waits}"
        ),
    }
}

fn one_line(error: &Error) -> String {
    match error {
        // what the system said is enough
        Error::Io(error) => format!("{error}"),
        error => error.to_string().replace('\n', " "),
    }
}
