//! `doctor`: checks what `serve` with all its roles needs, and shows a fix for each failure.
//!
//! Reads only, apart from a test row in a temporary table, unless `--fix` is given (`fix`). The configuration is part
//! of what it checks, so an invalid setting is a line of the report and not a refusal to start. The checks of the
//! database are in `checks`, those of changes at Stripe in `writes`, of the webhook endpoints in `endpoints`, the
//! output in `report`, and `--orphans` in `orphans`.

mod api;
mod checks;
mod deliveries;
mod disk;
mod endpoints;
mod fix;
mod listing;
mod orphans;
mod report;
mod stripe;
mod writes;

use std::process::ExitCode;

pub(super) use self::checks::OLD_SECONDS as OLD_ITEM_SECONDS;
use self::fix::{Fix, Fixed};
use self::listing::ListedSetting;
use self::report::{Check, Report};
pub(super) use self::stripe::OLD_SECONDS as OLD_WATERMARK_SECONDS;
pub(super) use self::writes::OLD_SECONDS as OLD_CHANGE_SECONDS;
use super::confirm::ConfirmArgs;
use super::serve::read_database;
use super::settings::{AllSettings, SettingArgs};
use super::task::Task;
use crate::config::api::{ApiConfig, JwtConfig};
use crate::config::database::DatabaseConfig;
use crate::config::embedded::EmbeddedConfig;
use crate::config::error::Problem;
use crate::config::log::LogConfig;
use crate::config::ops::{self, OpsConfig};
use crate::config::receiver::ReceiverConfig;
use crate::config::reconcile::ReconcileConfig;
use crate::config::retention::RetentionConfig;
use crate::config::settings;
use crate::config::shutdown::ShutdownConfig;
use crate::config::source::Source;
use crate::config::stripe::StripeConfig;
use crate::config::sync::SyncConfig;
use crate::config::unknown;
use crate::config::value::Origin;
use crate::config::worker::WorkerConfig;
use crate::database::hosts::Hosts;
use crate::service::{ServiceConfig, connections};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Args {
    /// Check what `serve --embedded` needs: PostgreSQL's server programs instead of `DATABASE_URL`.
    #[arg(long)]
    embedded: bool,
    /// Check nothing; list orphans: contacts without a workspace and subscriptions without a known price or customer,
    /// each with the missing object and the fix. An orphan is not always a failure.
    #[arg(long, conflicts_with = "embedded")]
    orphans: bool,
    /// List at most this number of orphans of each kind; the counts at the end include all.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, requires = "orphans")]
    limit: usize,
    /// URL of the webhook endpoint at Stripe that leads to this service. Without it, the endpoint is found by its event
    /// types.
    #[arg(long, value_name = "URL", value_parser = fix::endpoint_url, conflicts_with_all = ["embedded", "orphans"])]
    endpoint_url: Option<String>,
    /// Subscribe the webhook endpoint to the missing event types, with `STRIPE_WRITE_KEY`; then check. If no endpoint
    /// has the --endpoint-url, create one.
    #[arg(long, conflicts_with_all = ["embedded", "orphans"])]
    fix: bool,
    /// Print JSON, one object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    pub(super) settings: SettingArgs<AllSettings>,
}

/// The settings, and what is wrong with them.
struct LocalSettings {
    listed: Vec<ListedSetting>,
    problems: Vec<Problem>,
    unknown: Vec<String>,
    odd: Vec<String>,
    /// Whether the embedded database is checked.
    is_embedded: bool,
    database: Option<Hosts>,
    embedded: Option<EmbeddedConfig>,
    /// The ops listener of a running `serve`, if its settings are valid.
    ops: Option<OpsConfig>,
    /// How long data is kept, if the settings are valid.
    retention: Option<RetentionConfig>,
    /// How Stripe's API is reached, if its settings are valid.
    stripe: Option<StripeConfig>,
    /// Whether connected accounts are synced.
    has_accounts: bool,
    /// Whether any setting of the workspace API is set.
    is_api_configured: bool,
    /// The identity provider of the workspace API, if there is one and its settings are valid.
    identity_provider: Option<JwtConfig>,
    /// Database connections that `serve` with all its roles uses, if the settings are valid.
    connections: Option<u32>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Task {
        let local = read_settings(source, self.embedded);
        if self.orphans {
            return Box::pin(orphans::list(local.database, self.json, self.limit));
        }
        Box::pin(async move {
            let url = self.endpoint_url.as_deref();
            let mut is_fixed = true;
            if self.fix {
                let fix = Fix { url, confirm: &self.confirm, is_json: self.json, has_accounts: local.has_accounts };
                match fix.run(local.stripe.as_ref(), local.database.as_ref()).await? {
                    Fixed::Done => {}
                    Fixed::Failed => is_fixed = false,
                    Fixed::Refused(code) => return Ok(code),
                }
            }
            let code = local.report(url, self.json).await?;
            Ok(if is_fixed { code } else { ExitCode::FAILURE })
        })
    }
}

/// Reads all settings, and collects the problems of all groups.
fn read_settings(source: &mut Source, is_embedded: bool) -> LocalSettings {
    let database = source.collect(|source| {
        // a missing external database is a separate check
        if is_embedded { read_database(source, true) } else { DatabaseConfig::read(source) }
    });
    let embedded = source.collect(EmbeddedConfig::read);
    let rest = source.collect(|source| {
        let receiver = ReceiverConfig::read(source);
        let (stripe, sync) = (StripeConfig::read(source), SyncConfig::read(source));
        let (worker, reconcile) = (WorkerConfig::read(source), ReconcileConfig::read(source));
        let retention = RetentionConfig::read(source);
        let ops = OpsConfig::read(source);
        let shutdown = ShutdownConfig::read(source);
        let log = LogConfig::read(source);
        let listeners = [
            receiver.as_ref().map(|receiver| (&settings::LISTEN, receiver.listen)),
            ops.as_ref().map(|ops| (&settings::OPS_LISTEN, ops.listen)),
        ];
        let apart = ops::check_distinct(source, listeners.into_iter().flatten());
        Some((receiver?, stripe?, sync?, worker?, reconcile?, retention?, ops?, shutdown?, log?, apart?))
    });
    let api = source.collect(ApiConfig::read);
    let is_set = |setting: &settings::Setting| {
        let found = source.look_up(setting).ok().flatten();
        found.is_some_and(|found| found.origin != Origin::Default)
    };
    let is_api_configured =
        settings::ALL.iter().any(|setting| setting.name.starts_with("BILLING_SYNC_API_") && is_set(setting));
    // `serve` runs the workspace API only if it is named
    let served_api = api.as_ref().ok().filter(|_| is_api_configured);
    let connections = rest.as_ref().ok().map(|(receiver, stripe, sync, worker, reconcile, retention, ops, ..)| {
        connections::wanted(&ServiceConfig {
            receiver: Some(receiver.clone()),
            api: served_api.map(|api| (api.clone(), sync.clone())),
            writes: served_api.and(stripe.write_key.as_ref()).map(|_| (stripe.clone(), worker.clone())),
            worker: Some((worker.clone(), sync.clone())),
            renewals: Some(sync.clone()),
            reconcile: Some((reconcile.clone(), sync.clone(), worker.clone())),
            stripe: Some(stripe.clone()),
            maintenance: Some(retention.clone()),
            ops: ops.clone(),
        })
    });
    let has_accounts = rest.as_ref().is_ok_and(|(_, _, sync, ..)| !sync.accounts.is_empty());
    let identity_provider = api.as_ref().ok().and_then(|api| api.jwt.clone());
    let stripe = source.collect(StripeConfig::read).ok();
    let ops = source.collect(OpsConfig::read).ok();
    let retention = source.collect(RetentionConfig::read).ok();
    let options = database.as_ref().ok().and_then(|config| config.hosts.clone());
    let embedded_options = embedded.as_ref().ok().cloned();
    let errors = database.err().into_iter().chain(embedded.err()).chain(rest.err()).chain(api.err());
    LocalSettings {
        problems: errors.flat_map(|error| error.problems).collect(),
        is_embedded,
        listed: listing::list(source),
        unknown: unknown::warnings(source),
        odd: source.warnings().to_vec(),
        database: options,
        embedded: embedded_options,
        ops,
        retention,
        stripe,
        has_accounts,
        is_api_configured,
        identity_provider,
        connections,
    }
}

impl LocalSettings {
    async fn report(self, endpoint_url: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
        let mut report = Report::new(self.listed);
        if self.problems.is_empty() {
            report.add(Check::ok("settings", "all are valid"));
        }
        for problem in self.problems {
            report.add(Check::failed("settings", format!("{} {}", problem.subject, problem.wrong), problem.fix));
        }
        for warning in self.unknown {
            report.add(Check::warning("settings", warning, "correct the name, or unset it"));
        }
        for warning in self.odd {
            let (detail, fix) = warning.split_once("; ").unwrap_or((&warning, "correct it"));
            report.add(Check::warning("settings", detail, fix));
        }
        if let Some(embedded) = self.embedded {
            report.add(checks::embedded(&embedded, self.is_embedded));
        }
        if let Some(config) = &self.ops {
            report.add(deliveries::check(config.listen).await);
        }
        if let Some(config) = &self.stripe {
            report.add(stripe::egress(config));
        }
        if self.is_embedded {
            report.add(checks::embedded_not_checked());
        } else {
            let stripe = self.stripe.as_ref();
            let settings = checks::Settings {
                stripe,
                retention: self.retention.as_ref(),
                connections: self.connections,
                endpoint_url,
                has_accounts: self.has_accounts,
            };
            checks::database(self.database.as_ref(), settings, &mut report).await;
            let provider = self.identity_provider.as_ref();
            let has_write_key = stripe.is_none_or(|stripe| stripe.write_key.is_some());
            api::check(self.database.as_ref(), self.is_api_configured, provider, has_write_key, &mut report).await;
        }
        report.print(json)
    }
}
