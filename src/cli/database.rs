//! One connection for a command that does one thing, with errors that say where it went and never the password.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, PgPool};

use super::output;
use crate::database::{self, Session, target};
use crate::migrations;

/// Longer than any network takes that works.
const LIMIT: Duration = Duration::from_secs(10);

/// Connects.
///
/// # Errors
/// With the place, the reason and the mend.
pub async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let mend = |error| anyhow::anyhow!("{}; start the database, or correct DATABASE_URL", output::causes(&error));
    reach(options).await.map_err(mend)
}

/// The same, to a schema that is of this release; the inner error says what it is else, and the mend.
///
/// # Errors
/// As [`connect`], and those of the database.
pub(super) async fn current(options: &PgConnectOptions) -> anyhow::Result<Result<PgConnection, String>> {
    let mut conn = connect(options).await?;
    let status = migrations::pending(&mut conn).await?;
    Ok(if status.is_current() { Ok(conn) } else { Err(format!("{}: {}", status.describe(), status.mend())) })
}

/// The same for `doctor`, which has a line of its own for the mend.
///
/// # Errors
/// With the place and the reason.
pub(super) async fn reach(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let place = target(options);
    match tokio::time::timeout(LIMIT, database::connect(options, Session::COMMAND)).await {
        Ok(connected) => connected.with_context(|| format!("cannot reach the database at {place}")),
        Err(_) => anyhow::bail!("the database at {place} did not answer within {} s", LIMIT.as_secs()),
    }
}

/// The connections of a command that works as a part of `serve` does. Its session is the one of [`connect`].
pub(super) fn pool(options: &PgConnectOptions, connections: u32) -> PgPool {
    database::pool(options, Session::COMMAND, connections, LIMIT)
}
