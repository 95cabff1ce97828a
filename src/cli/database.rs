//! Database connections of the short commands. Errors name the target and never contain the password.

use std::process::ExitCode;

use super::output;
use super::task::Task;
use crate::config::database::required;
use crate::config::source::Source;
use crate::database::hosts::{Hosts, Unreachable};
use crate::database::{self, Connection, Pool, Session, pooler, target};
use crate::migrations;

/// Reads the settings of a command that needs one connection, and returns its task; `None` after noting problems.
pub(super) fn run<F>(source: &mut Source, command: F) -> Option<Task>
where
    F: AsyncFnOnce(&mut Connection) -> anyhow::Result<ExitCode> + 'static,
{
    Some(on(required(source)?, command))
}

/// The task of a command that needs one connection to a schema of this release.
pub(super) fn on<F>(hosts: Hosts, command: F) -> Task
where
    F: AsyncFnOnce(&mut Connection) -> anyhow::Result<ExitCode> + 'static,
{
    Box::pin(async move {
        match current(&hosts).await? {
            Ok(mut conn) => command(&mut conn).await,
            Err(wrong) => Ok(output::refuse(&wrong)),
        }
    })
}

/// Opens a connection, to a schema of any release.
///
/// # Errors
/// With the target, the reason and the fix.
pub async fn connect(hosts: &Hosts) -> anyhow::Result<Connection> {
    connect_with(hosts, Session::COMMAND).await
}

/// Opens a connection with these limits.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_with(hosts: &Hosts, session: Session) -> anyhow::Result<Connection> {
    if let Some(wrong) = pooled(hosts).await {
        anyhow::bail!("{wrong}; {}", pooler::FIX);
    }
    hosts.connect(session).await.map_err(|error| anyhow::anyhow!("{error}: {}", error.fix()))
}

/// Opens a connection to a schema of this release. The inner error describes a different schema and the fix.
///
/// # Errors
/// As [`connect`], and those of the database.
pub(super) async fn current(hosts: &Hosts) -> anyhow::Result<Result<Connection, String>> {
    let mut conn = connect(hosts).await?;
    let status = migrations::pending(&mut conn).await?;
    Ok(if status.is_current() { Ok(conn) } else { Err(format!("{}: {}", status.describe(), status.fix())) })
}

/// Describes a pooler in front of the database that is not the declared one. Checked first, because even the settings of
/// a session would reach other clients of the pooler.
pub(super) async fn pooled(hosts: &Hosts) -> Option<String> {
    for address in hosts.all() {
        if let Some(pooler) = pooler::contradiction(address).await {
            return Some(format!("in front of the database at {} is {pooler}", target(&address.options)));
        }
    }
    None
}

/// Opens a connection for `doctor`, which prints the fix on a separate line.
///
/// # Errors
/// With the target and the reason.
pub(super) async fn reach(hosts: &Hosts) -> Result<Connection, Unreachable> {
    hosts.connect(Session::COMMAND).await
}

/// A pool for a command that does the work of a part of `serve`, to the server of the last [`connect`].
pub(super) fn pool(hosts: &Hosts, connections: u32) -> Pool {
    database::pool(hosts.current(), Session::COMMAND, connections, hosts.limit())
}
