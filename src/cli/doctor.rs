//! `doctor`: checks what `serve` with all its roles needs, and says for each failure how to mend it.
//!
//! Reads only. The configuration is part of what it examines, so a wrong setting is a line of the report here and not a
//! refusal to start. Further checks of the database are in `checks`, the output in `report`; `--orphans` is a command of its own,
//! in `orphans`.

mod checks;
mod deliveries;
mod listing;
mod orphans;
mod report;
mod stripe;

use std::process::ExitCode;

use self::listing::Listed;
use self::report::{Check, Report};
use super::Task;
use super::serve::read_database;
use super::settings::{SettingArgs, Uses};
use crate::config::database::DatabaseConfig;
use crate::config::embedded::EmbeddedConfig;
use crate::config::error::Problem;
use crate::config::log::LogConfig;
use crate::config::ops::{self, OpsConfig};
use crate::config::receiver::ReceiverConfig;
use crate::config::reconcile::ReconcileConfig;
use crate::config::settings::Concern;
use crate::config::shutdown::ShutdownConfig;
use crate::config::source::Source;
use crate::config::stripe::StripeConfig;
use crate::config::sync::SyncConfig;
use crate::config::unknown;
use crate::config::worker::WorkerConfig;
use crate::database::hosts::Hosts;
use crate::service::{ServiceConfig, connections};

/// The settings of `doctor`: all, to list them.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const CONCERNS: &'static [Concern] = Concern::ALL;
}

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check what `serve --embedded` needs: no `DATABASE_URL`, but server programs.
    #[arg(long)]
    embedded: bool,
    /// Check nothing, and list orphans: contacts without a workspace, subscriptions without a known price or
    /// customer, each with what is missing and how it is mended. Some are no failure.
    #[arg(long, conflicts_with = "embedded")]
    orphans: bool,
    /// List at most so many orphans of each kind; the counts at the end are of all of them.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, requires = "orphans")]
    limit: usize,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

/// What is known before the database is asked.
struct Examined {
    listed: Vec<Listed>,
    problems: Vec<Problem>,
    unknown: Vec<String>,
    odd: Vec<String>,
    /// Whether the database is the embedded one.
    is_embedded: bool,
    database: Option<Hosts>,
    embedded: Option<EmbeddedConfig>,
    /// Where the ops listener of a running `serve` is, where that is known.
    ops: Option<OpsConfig>,
    /// How Stripe's API is reached, where that is known.
    stripe: Option<StripeConfig>,
    /// Connections to the database that `serve` with all its roles wants, where the settings can be used.
    connections: Option<u32>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Task {
        let examined = examine(source, self.embedded);
        if self.orphans {
            return Box::pin(orphans::list(examined.database, self.json, self.limit));
        }
        Box::pin(examined.report(self.json))
    }
}

fn examine(source: &mut Source, is_embedded: bool) -> Examined {
    let database = source.collect(|source| {
        // an external one that is missing is a check of its own
        if is_embedded { read_database(source, true) } else { DatabaseConfig::read(source) }
    });
    let embedded = source.collect(EmbeddedConfig::read);
    let rest = source.collect(|source| {
        let receiver = ReceiverConfig::read(source);
        let (stripe, sync) = (StripeConfig::read(source), SyncConfig::read(source));
        let (worker, reconcile) = (WorkerConfig::read(source), ReconcileConfig::read(source));
        let ops = OpsConfig::read(source);
        let shutdown = ShutdownConfig::read(source);
        let log = LogConfig::read(source);
        let apart = ops::apart(source, receiver.as_ref()?.listen, ops.as_ref()?.listen);
        Some((receiver?, stripe?, sync?, worker?, reconcile?, ops?, shutdown?, log?, apart?))
    });
    let connections = rest.as_ref().ok().map(|(receiver, stripe, sync, worker, reconcile, ops, ..)| {
        connections::wanted(&ServiceConfig {
            receiver: Some(receiver.clone()),
            worker: Some((worker.clone(), sync.clone())),
            renewals: Some(sync.clone()),
            reconcile: Some((reconcile.clone(), sync.clone(), worker.clone())),
            stripe: Some(stripe.clone()),
            upkeep: true,
            ops: ops.clone(),
        })
    });
    let stripe = source.collect(StripeConfig::read).ok();
    let ops = source.collect(OpsConfig::read).ok();
    let options = database.as_ref().ok().and_then(|config| config.hosts.clone());
    let embedded_options = embedded.as_ref().ok().cloned();
    let errors = database.err().into_iter().chain(embedded.err()).chain(rest.err());
    Examined {
        problems: errors.flat_map(|error| error.problems).collect(),
        is_embedded,
        listed: listing::list(source),
        unknown: unknown::warnings(source),
        odd: source.warnings().to_vec(),
        database: options,
        embedded: embedded_options,
        ops,
        stripe,
        connections,
    }
}

impl Examined {
    async fn report(self, json: bool) -> anyhow::Result<ExitCode> {
        let mut report = Report::new(self.listed);
        if self.problems.is_empty() {
            report.add(Check::ok("settings", "all of them can be used"));
        }
        for problem in self.problems {
            report.add(Check::failed("settings", format!("{} {}", problem.subject, problem.wrong), problem.mend));
        }
        for warning in self.unknown {
            report.add(Check::warning("settings", warning, "correct the name, or unset it"));
        }
        for warning in self.odd {
            let (detail, mend) = warning.split_once("; ").unwrap_or((&warning, "correct it"));
            report.add(Check::warning("settings", detail, mend));
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
            report.add(checks::not_looked_at());
        } else {
            let stripe = self.stripe.as_ref();
            checks::database(self.database.as_ref(), stripe, self.connections, &mut report).await;
        }
        report.print(json)
    }
}
