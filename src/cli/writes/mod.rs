//! `writes`: inspects the changes that the API makes at Stripe, and decides those whose outcome is unknown.

mod list;
mod resolve;
mod show;

use clap::Subcommand;

use super::database;
use super::task::Task;
use crate::config::source::{Flags, Source};

/// The `writes` commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List changes at Stripe, newest first.
    List(list::Args),
    /// Show all details of one change, and the next step.
    Show(show::Args),
    /// Record whether Stripe made a change whose outcome is unknown.
    Resolve(resolve::Args),
}

impl Command {
    pub(super) fn flags(&self) -> Flags {
        match self {
            Self::List(args) => args.settings.flags(),
            Self::Show(args) => args.settings.flags(),
            Self::Resolve(args) => args.settings.flags(),
        }
    }

    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        match self {
            Self::List(args) => database::run(source, async move |conn| list::list(conn, &args).await),
            Self::Show(args) => database::run(source, async move |conn| show::show(conn, &args).await),
            Self::Resolve(args) => database::run(source, async move |conn| resolve::resolve(conn, &args).await),
        }
    }
}
