//! `demo`: its arguments and its configuration. What it does with them is [`run`].

use std::process::ExitCode;

use super::Task;
use super::settings::{SettingArgs, Uses};
use crate::config::embedded::EmbeddedConfig;
use crate::config::settings::Concern;
use crate::config::source::Source;

/// The settings of `demo`.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const CONCERNS: &'static [Concern] = &[Concern::Embedded, Concern::Log];
}

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep the database afterwards, to look around in it.
    #[arg(long)]
    keep: bool,
    /// Print the rows as JSON, one object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

/// Everything that `demo` needs to know, checked.
#[derive(Debug)]
pub struct Config {
    /// Keep the database afterwards.
    pub keep: bool,
    /// Print JSON.
    pub json: bool,
    /// Where the private PostgreSQL lives.
    pub embedded: EmbeddedConfig,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let config = Config { keep: self.keep, json: self.json, embedded: EmbeddedConfig::read(source)? };
        Some(Box::pin(run(config)))
    }
}

/// Tells the story of an event.
///
/// # Errors
/// When a part of it fails.
// SEAM: the lead fills this in.
#[expect(clippy::unused_async, reason = "a seam: the body comes with the demo's branch")]
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    drop(config);
    anyhow::bail!("demo is not part of this build yet")
}
