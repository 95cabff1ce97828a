//! `outbox`: inspects stored events, and retries or discards dead ones.

mod decide;
mod list;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use sqlx::PgConnection;
use sqlx::error::DatabaseError;

use super::database;
use super::task::Task;
use crate::config::database::required;
use crate::config::source::{Flags, Source};

/// The `outbox` commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List stored events, newest first.
    List(list::Args),
    /// Show all details of one event.
    Show(show::Args),
    /// Retry dead events, with a fresh number of attempts.
    Retry(decide::RetryArgs),
    /// Discard dead events; they stay stored and are never retried.
    Discard(decide::DiscardArgs),
}

impl Command {
    pub(super) fn flags(&self) -> Flags {
        match self {
            Self::List(args) => args.settings.flags(),
            Self::Show(args) => args.settings.flags(),
            Self::Retry(args) => args.settings.flags(),
            Self::Discard(args) => args.settings.flags(),
        }
    }

    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        match self {
            Self::List(args) => with_database(source, async move |conn| list::list(conn, &args).await),
            Self::Show(args) => with_database(source, async move |conn| show::show(conn, &args).await),
            Self::Retry(args) => with_database(source, async move |conn| decide::retry(conn, &args).await),
            Self::Discard(args) => with_database(source, async move |conn| decide::discard(conn, &args).await),
        }
    }
}

fn with_database<F>(source: &mut Source, command: F) -> Option<Task>
where
    F: AsyncFnOnce(&mut PgConnection) -> anyhow::Result<ExitCode> + 'static,
{
    let options = required(source)?;
    Some(Box::pin(async move {
        let mut conn = database::connect(&options).await?;
        command(&mut conn).await.map_err(schema_hint)
    }))
}

/// Adds a hint to the error of a database without these tables: usually it was never migrated.
fn schema_hint(error: anyhow::Error) -> anyhow::Error {
    let code =
        error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error).and_then(DatabaseError::code);
    // undefined_table, invalid_schema_name
    if matches!(code.as_deref(), Some("42P01" | "3F000")) {
        return anyhow::anyhow!("the database has no outbox yet: run `billing-sync migrate`");
    }
    error
}
