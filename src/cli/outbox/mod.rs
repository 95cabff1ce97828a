//! `outbox`: to look at stored events, and to decide about dead ones.

mod decide;
mod list;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use sqlx::PgConnection;
use sqlx::error::DatabaseError;

use super::settings::Uses;
use super::{Task, database};
use crate::config::database::required;
use crate::config::settings::Concern;
use crate::config::source::{Flags, Source};

/// The settings of the `outbox` commands.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const CONCERNS: &'static [Concern] = &[Concern::Database, Concern::Log];
}

/// The `outbox` commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List stored events, the newest first.
    List(list::Args),
    /// Show everything that is known about one event.
    Show(show::Args),
    /// Have dead events tried again, with all their attempts before them.
    Retry(decide::RetryArgs),
    /// Give dead events up; they are kept and never tried again.
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

/// A database without our tables is mostly one that was never migrated.
fn schema_hint(error: anyhow::Error) -> anyhow::Error {
    let code =
        error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error).and_then(DatabaseError::code);
    // undefined_table, invalid_schema_name
    if matches!(code.as_deref(), Some("42P01" | "3F000")) {
        return anyhow::anyhow!("the database has no outbox yet: run `billing-sync migrate`");
    }
    error
}
