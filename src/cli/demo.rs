//! `demo`: a story of signed events, told to the real service on a private PostgreSQL, and the rows that come of it.

use std::io;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use super::Task;
use super::settings::{SettingArgs, Uses};
use super::signals::Signals;
use crate::config::demo::KeepConfig;
use crate::config::embedded::EmbeddedConfig;
use crate::config::settings::{self, Concern, Setting};
use crate::config::source::Source;
use crate::demo::{self, Options};

/// The settings of `demo`.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const CONCERNS: &'static [Concern] = &[Concern::Embedded, Concern::Log];

    fn settings() -> impl Iterator<Item = &'static Setting> {
        let of_keep = [&settings::LISTEN, &settings::OPS_LISTEN, &settings::WEBHOOK_SECRET];
        Self::CONCERNS.iter().flat_map(|concern| concern.settings()).chain(of_keep)
    }
}

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on serving after the story, for a look around and for `stripe listen`.
    #[arg(long)]
    keep: bool,
    /// Print the rows as JSON, one object a line, instead of the story.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let embedded = EmbeddedConfig::read(source);
        // only with --keep: a secret that stands around must not matter to the story
        let keep = if self.keep { KeepConfig::read(source).map(Some) } else { Some(None) };
        let options = Options { embedded: embedded?.options(), json: self.json, keep: keep? };
        Some(Box::pin(run(options)))
    }
}

/// Tells the story.
///
/// # Errors
/// When something is not as the story tells, or it cannot be told.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let waiting = tokio::spawn(async move {
        signals.next().await;
        stop.cancel();
    });
    let told = demo::run(options, &mut io::stdout(), shutdown).await;
    waiting.abort();
    told?;
    Ok(ExitCode::SUCCESS)
}
