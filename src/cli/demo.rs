//! `demo`: sends a story of signed events to the real service on a private PostgreSQL, consumes a limit, and shows the
//! resulting rows.

use std::io;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use super::settings::{SettingArgs, Uses};
use super::signals::Signals;
use super::task::Task;
use crate::config::demo::{KeepConfig, LOG};
use crate::config::embedded::EmbeddedConfig;
use crate::config::settings::{self, Setting, SettingGroup};
use crate::config::source::Source;
use crate::demo::{self, Options};

/// The settings of `demo`.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const SETTING_GROUPS: &'static [SettingGroup] = &[SettingGroup::Embedded];

    fn settings() -> impl Iterator<Item = &'static Setting> {
        let logs = [&LOG, &settings::LOG_FORMAT];
        let of_keep = [&settings::LISTEN, &settings::API_LISTEN, &settings::OPS_LISTEN, &settings::WEBHOOK_SECRET];
        Self::SETTING_GROUPS.iter().flat_map(|group| group.settings()).chain(logs).chain(of_keep)
    }
}

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep serving after the story, to inspect the tables and for `stripe listen`.
    #[arg(long)]
    keep: bool,
    /// Serve the workspace API too, and print a request with a token for it.
    #[arg(long, requires = "keep")]
    api: bool,
    /// Print the rows as JSON instead of the story: one object per line, with its table in "table".
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let embedded = EmbeddedConfig::read(source);
        // only with --keep: a secret in the environment must not affect the story
        let keep = if self.keep { KeepConfig::read(source, self.api).map(Some) } else { Some(None) };
        let options = Options { embedded: embedded?.options(), json: self.json, keep: keep? };
        Some(Box::pin(run(options)))
    }
}

/// Runs the demo until its end or a signal.
///
/// # Errors
/// When an answer or a row is not as expected, or the demo cannot run.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let waiting = tokio::spawn(async move {
        signals.next().await;
        stop.cancel();
    });
    let outcome = demo::run(options, &mut io::stdout(), shutdown).await;
    waiting.abort();
    outcome?;
    Ok(ExitCode::SUCCESS)
}
