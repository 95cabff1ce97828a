//! Where a database is, and why it cannot be reached: a pool only says that its time ran out.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Error, PgPool};

use super::{Session, connect};

/// One attempt, which must fit into the time of a probe.
const LIMIT: Duration = Duration::from_millis(300);

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

async fn attempt(options: &PgConnectOptions) -> String {
    match tokio::time::timeout(LIMIT, connect(options, Session::OPS)).await {
        Ok(Ok(conn)) => {
            let _ = conn.close().await;
            "no connection of the pool came free in time".to_owned()
        }
        Ok(Err(error)) => one_line(&error),
        Err(_) => "it does not answer".to_owned(),
    }
}

fn one_line(error: &Error) -> String {
    match error {
        // what the system said is enough
        Error::Io(error) => format!("{error}"),
        error => error.to_string().replace('\n', " "),
    }
}
