//! `token`: creates, lists and revokes the tokens of services that call the API.
//!
//! Must not know how a token is stored or compared.

mod create;
mod list;
mod revoke;

use clap::Subcommand;

use super::task::Task;
use super::{database, output};
use crate::config::source::{Flags, Source};

/// The `token` commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a token and print it once.
    Create(create::Args),
    /// List all tokens, newest first, without their secrets.
    List(list::Args),
    /// Revoke tokens at once and for good.
    Revoke(revoke::Args),
}

impl Command {
    pub(super) fn flags(&self) -> Flags {
        match self {
            Self::Create(args) => args.settings.flags(),
            Self::List(args) => args.settings.flags(),
            Self::Revoke(args) => args.settings.flags(),
        }
    }

    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        match self {
            Self::Create(args) => match args.contradiction() {
                Some(wrong) => Some(Box::pin(async move { anyhow::Ok(output::refuse(wrong)) })),
                None => database::run(source, async move |conn| create::create(conn, &args).await),
            },
            Self::List(args) => database::run(source, async move |conn| list::list(conn, &args).await),
            Self::Revoke(args) => database::run(source, async move |conn| revoke::revoke(conn, &args).await),
        }
    }
}
