//! `migrate`: brings the schema up to date and prints what was done.

use std::process::ExitCode;

use super::settings::{DatabaseSettings, SettingArgs};
use super::task::Task;
use super::{database, output};
use crate::config::database::required;
use crate::config::source::Source;
use crate::database::hosts::Hosts;
use crate::migrations;

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

impl Args {
    #[expect(clippy::unused_self, reason = "every command has the same signature")]
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let options = required(source)?;
        Some(Box::pin(migrate(options)))
    }
}

async fn migrate(options: Hosts) -> anyhow::Result<ExitCode> {
    let mut conn = database::connect(&options).await?;
    let applied = migrations::run(&mut conn).await?;
    for migration in &applied {
        output::print(&format!("applied {:04} {}", migration.version, migration.description))?;
    }
    let known = migrations::migrator().iter().count();
    output::print(&match applied.len() {
        0 => format!("nothing to do: all {known} migrations are applied"),
        1 => "1 migration applied; the schema is up to date".to_owned(),
        count => format!("{count} migrations applied; the schema is up to date"),
    })?;
    Ok(ExitCode::SUCCESS)
}
