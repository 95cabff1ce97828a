//! Database connections of the short commands. Errors name the target and never contain the password.

use std::process::ExitCode;

use sqlx::error::DatabaseError;
use sqlx::{PgConnection, PgPool};

use super::output;
use super::task::Task;
use crate::config::database::required;
use crate::config::source::Source;
use crate::database::hosts::Hosts;
use crate::database::{self, Session, pooler, target};
use crate::migrations;

/// Reads the settings of a command that needs one connection, and returns its task; `None` after noting problems.
/// `subject`: what the command is about, for the error of a database that was never migrated.
pub(super) fn run<F>(source: &mut Source, subject: &'static str, command: F) -> Option<Task>
where
    F: AsyncFnOnce(&mut PgConnection) -> anyhow::Result<ExitCode> + 'static,
{
    let hosts = required(source)?;
    Some(Box::pin(async move {
        let mut conn = connect(&hosts).await?;
        command(&mut conn).await.map_err(|error| with_schema_hint(error, subject))
    }))
}

/// Adds a hint to the error of a database without these tables: usually it was never migrated.
fn with_schema_hint(error: anyhow::Error, subject: &str) -> anyhow::Error {
    let code =
        error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error).and_then(DatabaseError::code);
    // undefined_table, invalid_schema_name
    if matches!(code.as_deref(), Some("42P01" | "3F000")) {
        return anyhow::anyhow!("the database has no {subject} yet: run `billing-sync migrate`");
    }
    error
}

/// Opens a connection.
///
/// # Errors
/// With the target, the reason and the fix.
pub async fn connect(hosts: &Hosts) -> anyhow::Result<PgConnection> {
    connect_with(hosts, Session::COMMAND).await
}

/// Opens a connection with these limits.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_with(hosts: &Hosts, session: Session) -> anyhow::Result<PgConnection> {
    if let Some(wrong) = pooled(hosts).await {
        anyhow::bail!("{wrong}; {}", pooler::FIX);
    }
    let fix = |error: anyhow::Error| {
        anyhow::anyhow!("{}; start the database, or correct DATABASE_URL", output::causes(&error))
    };
    hosts.connect(session).await.map_err(|error| fix(error.into()))
}

/// Opens a connection to a schema of this release. The inner error describes a different schema and the fix.
///
/// # Errors
/// As [`connect`], and those of the database.
pub(super) async fn current(hosts: &Hosts) -> anyhow::Result<Result<PgConnection, String>> {
    let mut conn = connect(hosts).await?;
    let status = migrations::pending(&mut conn).await?;
    Ok(if status.is_current() { Ok(conn) } else { Err(format!("{}: {}", status.describe(), status.fix())) })
}

/// Describes a pooler in front of the database that is not supported. Checked first, because even the settings of a
/// session would reach other clients of the pooler.
pub(super) async fn pooled(hosts: &Hosts) -> Option<String> {
    for options in hosts.all() {
        if pooler::shares_sessions(options).await {
            let place = target(options);
            return Some(format!(
                "a pooler in transaction or statement mode is in front of the database at {place}; it loses the \
                 settings, locks, notifications and prepared statements of a session"
            ));
        }
    }
    None
}

/// Opens a connection for `doctor`, which prints the fix on a separate line.
///
/// # Errors
/// With the target and the reason.
pub(super) async fn reach(hosts: &Hosts) -> anyhow::Result<PgConnection> {
    Ok(hosts.connect(Session::COMMAND).await?)
}

/// A pool for a command that does the work of a part of `serve`, to the server of the last [`connect`].
pub(super) fn pool(hosts: &Hosts, connections: u32) -> PgPool {
    database::pool(hosts.current(), Session::COMMAND, connections, hosts.limit())
}
