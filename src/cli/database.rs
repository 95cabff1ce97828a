//! One connection for a command that does one thing, with errors that say where it went and never the password.

use sqlx::{PgConnection, PgPool};

use super::output;
use crate::database::hosts::Hosts;
use crate::database::{self, Session};
use crate::migrations;

/// Connects.
///
/// # Errors
/// With the place, the reason and the mend.
pub async fn connect(hosts: &Hosts) -> anyhow::Result<PgConnection> {
    let mend = |error| anyhow::anyhow!("{}; start the database, or correct DATABASE_URL", output::causes(&error));
    reach(hosts).await.map_err(mend)
}

/// The same, to a schema that is of this release; the inner error says what it is else, and the mend.
///
/// # Errors
/// As [`connect`], and those of the database.
pub(super) async fn current(hosts: &Hosts) -> anyhow::Result<Result<PgConnection, String>> {
    let mut conn = connect(hosts).await?;
    let status = migrations::pending(&mut conn).await?;
    Ok(if status.is_current() { Ok(conn) } else { Err(format!("{}: {}", status.describe(), status.mend())) })
}

/// The same for `doctor`, which has a line of its own for the mend.
///
/// # Errors
/// With the place and the reason.
pub(super) async fn reach(hosts: &Hosts) -> anyhow::Result<PgConnection> {
    Ok(hosts.connect(Session::COMMAND).await?)
}

/// The connections of a command that works as a part of `serve` does, to the server of the last [`connect`].
pub(super) fn pool(hosts: &Hosts, connections: u32) -> PgPool {
    database::pool(hosts.current(), Session::COMMAND, connections, hosts.limit())
}
