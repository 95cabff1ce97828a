//! One connection for a command that does one thing, with errors that say where it went and never the password.

use sqlx::{PgConnection, PgPool};

use super::output;
use crate::database::hosts::Hosts;
use crate::database::{self, Session, pooler, target};
use crate::migrations;

/// Connects.
///
/// # Errors
/// With the place, the reason and the mend.
pub async fn connect(hosts: &Hosts) -> anyhow::Result<PgConnection> {
    if let Some(wrong) = pooled(hosts).await {
        anyhow::bail!("{wrong}; {}", pooler::FIX);
    }
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

/// What stands between us and a server, where it is a pooler that we cannot work with. Asked before anything else,
/// because already the settings of a session would reach other clients of the pooler.
pub(super) async fn pooled(hosts: &Hosts) -> Option<String> {
    for options in hosts.all() {
        if pooler::shares_sessions(options).await {
            let place = target(options);
            return Some(format!(
                "a pooler in transaction or statement mode stands before the database at {place}: settings, locks, \
                 notifications and prepared statements of a session are lost there"
            ));
        }
    }
    None
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
