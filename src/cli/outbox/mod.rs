//! `outbox`: inspects stored events, and retries or discards dead ones.

mod decide;
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
    List(list::Args),
    /// Show all details of one event.
    Show(show::Args),
    /// Retry dead events, with a fresh number of attempts.
    Retry(decide::RetryArgs),
    /// Discard dead events; they stay stored and are never retried.
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
