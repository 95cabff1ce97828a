//! One connection for a command that does one thing, with errors that say where it went and never the password.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

/// Longer than any network takes that works.
const LIMIT: Duration = Duration::from_secs(10);

/// Connects.
///
/// # Errors
/// With the place, the reason and the setting.
pub async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let place = place(options);
    match tokio::time::timeout(LIMIT, options.connect()).await {
        Ok(connected) => connected.with_context(|| format!("cannot reach the database at {place} (DATABASE_URL)")),
        Err(_) => anyhow::bail!("the database at {place} (DATABASE_URL) did not answer within {} s", LIMIT.as_secs()),
    }
}

/// Where the options lead: host, port, database and user.
pub fn place(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    format!("{host}, database {database}, user {}", options.get_username())
}
