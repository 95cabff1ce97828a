//! `health`: queries the ops listener of a running `serve` and prints one line, for container health checks.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::http_error::root_cause;
use super::output;
use super::settings::{SettingArgs, Uses};
use super::task::Task;
use crate::config::ops::OpsConfig;
use crate::config::settings::SettingGroup;
use crate::config::source::Source;
use crate::service::on_this_machine;

/// Timeout of a request: longer than the listener's own timeout for the database, shorter than an orchestrator's.
const LIMIT: Duration = Duration::from_secs(3);
/// Maximum size of an answer, which is one line.
const LONGEST_ANSWER: usize = 4096;
/// Maximum size of the metrics, which are a few hundred lines.
const LONGEST_METRICS: usize = 4 * 1024 * 1024;

/// The settings of `health`.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const SETTING_GROUPS: &'static [SettingGroup] = &[SettingGroup::Ops, SettingGroup::Log];
}

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check only that the process answers, not that its database is usable.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let ops = OpsConfig::read(source)?;
        let path = if self.live { "/livez" } else { "/readyz" };
        Some(Box::pin(health(on_this_machine(ops.listen), path)))
    }
}

async fn health(address: SocketAddr, path: &'static str) -> anyhow::Result<ExitCode> {
    let uri = format!("http://{address}{path}");
    let answer = tokio::time::timeout(LIMIT, get(&uri, LONGEST_ANSWER)).await;
    let (status, body) =
        answer.with_context(|| format!("{uri} did not answer within {} s", LIMIT.as_secs()))?.map_err(|error| {
            let why = output::causes(&error);
            anyhow::anyhow!(
                "{uri} could not be reached ({why}); check that `serve` is running with this BILLING_SYNC_OPS_LISTEN"
            )
        })?;
    if status == StatusCode::OK {
        output::print(body.trim())?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("{uri} answered {}: {}", status.as_u16(), body.trim())
}

/// The metrics of the `serve` that listens at this address; `None` if nothing or another program answers.
pub(super) async fn metrics(listen: SocketAddr) -> Option<String> {
    let uri = format!("http://{}/metrics", on_this_machine(listen));
    let (status, text) = tokio::time::timeout(LIMIT, get(&uri, LONGEST_METRICS)).await.ok()?.ok()?;
    (status == StatusCode::OK).then_some(text)
}

/// Sends one request, never through a proxy, because the listener is on this machine.
async fn get(uri: &str, longest: usize) -> anyhow::Result<(StatusCode, String)> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.get(uri.parse()?).await.map_err(root_cause)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), longest).collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}
