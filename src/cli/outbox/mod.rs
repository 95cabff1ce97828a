//! `outbox`: inspects stored events, and retries or discards dead ones.

mod decide;
mod filter;
mod list;
mod prune;
mod show;

use clap::Subcommand;

use super::database;
use super::task::Task;
use crate::config::database::required;
use crate::config::retention::RetentionConfig;
use crate::config::source::{Flags, Source};

/// The `outbox` commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List stored events, newest first.
    ///
    /// Indexes find the states pending and dead, an object, and --newer-than. Any other list reads the whole outbox, which
    /// takes seconds with many millions of events.
    List(list::Args),
    /// Show all details of one event.
    Show(show::Args),
    /// Retry dead events, with a fresh number of attempts, and pending ones at once.
    ///
    /// Events are named by their ids, or selected by a filter. A filter, and --all-dead, select dead events only. The
    /// command then prints their number and asks for a confirmation. A pending event that is named becomes due now; its
    /// attempts stay counted.
    Retry(decide::RetryArgs),
    /// Discard dead events and record why; they stay stored and are never retried.
    ///
    /// Events are named by their ids, or selected by a filter. A filter, and --all-dead, select dead events only. The
    /// command then prints their number and asks for a confirmation.
    Discard(decide::DiscardArgs),
    /// Remove events and histories that are older than the retention, as `serve` does every hour.
    Prune(prune::Args),
}

impl Command {
    pub(super) fn flags(&self) -> Flags {
        match self {
            Self::List(args) => args.settings.flags(),
            Self::Show(args) => args.settings.flags(),
            Self::Retry(args) => args.settings.flags(),
            Self::Discard(args) => args.settings.flags(),
            Self::Prune(args) => args.settings.flags(),
        }
    }

    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        match self {
            Self::List(args) => database::run(source, async move |conn| list::list(conn, &args).await),
            Self::Show(args) => database::run(source, async move |conn| show::show(conn, &args).await),
            Self::Retry(args) => database::run(source, async move |conn| decide::retry(conn, &args).await),
            Self::Discard(args) => database::run(source, async move |conn| decide::discard(conn, &args).await),
            Self::Prune(args) => {
                let (config, hosts) = (RetentionConfig::read(source), required(source));
                let (config, hosts) = (config?, hosts?);
                Some(database::on(hosts, async move |conn| prune::prune(conn, &args, &config).await))
            }
        }
    }
}
