//! `send`: signs event files as Stripe does and delivers them, for smoke tests and small load tests.
//!
//! Reads files and posts them; prints the answers, which determine the exit code. Knows the receiver only as a URL, so
//! any deployment can be the target.

mod delivery;
mod new_event;
mod report;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::Uri;
use hyper::body::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use self::delivery::{Endpoint, File};
use self::new_event::new_event;
use self::report::Report;
use super::settings::{SettingArgs, Uses};
use super::task::Task;
use crate::base::clock;
use crate::config::egress;
use crate::config::receiver;
use crate::config::secret::WebhookSecret;
use crate::config::settings::SettingGroup;
use crate::config::source::Source;
use crate::tls::Roots;

/// The settings of `send`.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const SETTING_GROUPS: &'static [SettingGroup] = &[SettingGroup::Signing, SettingGroup::Tls, SettingGroup::Log];
}

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files with one JSON event each; `-` means standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// URL of the endpoint, such as `http://127.0.0.1:8080/webhooks/stripe`.
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    to: Uri,
    /// Deliver each file this number of times; repetitions are duplicates, which get 200.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeat: u32,
    /// Deliver new events: each gets a new id and the current time, so that repetitions are not duplicates.
    #[arg(long)]
    as_new: bool,
    /// Time between the starts of two deliveries.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Maximum number of simultaneous deliveries.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        // during rotation, the first secret is the newest by convention
        let secret = receiver::secrets(source).and_then(|secrets| secrets.into_iter().next());
        let roots = egress::roots(source);
        Some(Box::pin(self.send(secret?, roots?)))
    }

    async fn send(self, secret: WebhookSecret, roots: Roots) -> anyhow::Result<ExitCode> {
        let files = read(&self.files)?;
        let endpoint = Arc::new(Endpoint::new(self.to, secret, &roots));
        let slots = Arc::new(Semaphore::new(usize::from(self.concurrency)));
        let mut deliveries = JoinSet::new();
        let mut report = Report::default();
        for (started, file) in std::iter::repeat_n(&files, self.repeat as usize).flatten().enumerate() {
            if started > 0 {
                tokio::time::sleep(self.interval).await;
            }
            let slot = Arc::clone(&slots).acquire_owned().await?;
            let (endpoint, mut file) = (Arc::clone(&endpoint), file.clone());
            if self.as_new {
                let body = new_event(&file.body, Uuid::new_v4(), clock::now());
                file.body = body.with_context(|| format!("{} is not an event", file.name))?.into();
            }
            deliveries.spawn(async move {
                let answer = endpoint.deliver(&file).await;
                drop(slot);
                (file.name, answer)
            });
            while let Some(delivered) = deliveries.try_join_next() {
                report.add(delivered?);
            }
        }
        while let Some(delivered) = deliveries.join_next().await {
            report.add(delivered?);
        }
        report.print()
    }
}

/// Reads all files. Blocks, which is fine because nothing runs concurrently yet.
fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let name: Arc<str> = path.display().to_string().into();
        let mut content = Vec::new();
        if path.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut content).context("cannot read standard input")?;
        } else {
            content = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
        }
        files.push(File { name, body: Bytes::from(content) });
    }
    Ok(files)
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let wanted = "must be a URL such as http://127.0.0.1:8080/webhooks/stripe";
    let uri: Uri = text.parse().map_err(|_| wanted.to_owned())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err(wanted.to_owned()),
    }
}
