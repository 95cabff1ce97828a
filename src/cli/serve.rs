//! `serve`: its arguments and its configuration. What it does with them is [`run`].

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;
use sqlx::PgConnection;

use super::database::connect;
use super::settings::{SettingArgs, Uses};
use super::signals::Signals;
use super::{Task, output};
use crate::admin::checkup;
use crate::config::database::{self, DatabaseConfig};
use crate::config::embedded::EmbeddedConfig;
use crate::config::error::Problem;
use crate::config::ops::{self, OpsConfig};
use crate::config::receiver::ReceiverConfig;
use crate::config::reconcile::ReconcileConfig;
use crate::config::settings::Concern;
use crate::config::shutdown::ShutdownConfig;
use crate::config::source::Source;
use crate::config::stripe::{self, StripeConfig};
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::hosts::Hosts;
use crate::database::limits::{ConnectionLimit, connection_limits};
use crate::database::shortage::SPARE;
use crate::database::{role, target};
use crate::embedded::{Cluster, EmbeddedError};
use crate::listener::Ending;
use crate::migrations;
use crate::receiver::PATH;
use crate::service::{Service, ServiceConfig, connections};

/// The settings of `serve`.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const CONCERNS: &'static [Concern] = Concern::ALL;
}

/// A part of the work, so that it can be spread over processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Receives and stores webhooks.
    Receiver,
    /// Processes stored events.
    Worker,
    /// Renews limits when their time has come.
    Renewals,
    /// Looks for events that Stripe has and nobody delivered; needs an API key.
    Reconcile,
    /// Makes partitions ahead and keeps the tables in order.
    Upkeep,
}

impl Role {
    /// As on the command line.
    fn as_str(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Worker => "worker",
            Self::Renewals => "renewals",
            Self::Reconcile => "reconcile",
            Self::Upkeep => "upkeep",
        }
    }
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What this process does.
    #[arg(long, value_delimiter = ',', default_value = "receiver,worker,renewals,reconcile,upkeep")]
    roles: Vec<Role>,
    /// Use a private PostgreSQL under the data directory instead of `DATABASE_URL`.
    #[arg(long)]
    embedded: bool,
    /// Bring the schema up to date first (the embedded database always is).
    #[arg(long)]
    migrate: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

/// Everything that `serve` needs to know, checked.
#[derive(Debug)]
pub struct Config {
    /// What this process does; never empty.
    pub roles: BTreeSet<Role>,
    /// Whether to migrate an external database first.
    pub migrate: bool,
    /// Has hosts exactly where `embedded` is `None`.
    pub database: DatabaseConfig,
    /// With `--embedded`.
    pub embedded: Option<EmbeddedConfig>,
    /// With the role receiver: a process that receives nothing needs no signing secret.
    pub receiver: Option<ReceiverConfig>,
    /// Of the role worker.
    pub worker: WorkerConfig,
    /// Of the role reconcile.
    pub reconcile: ReconcileConfig,
    /// Of the roles worker, renewals and reconcile.
    pub sync: SyncConfig,
    /// Of the roles worker and reconcile.
    pub stripe: StripeConfig,
    /// Every process has the ops listener.
    pub ops: OpsConfig,
    /// The end.
    pub shutdown: ShutdownConfig,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let config = self.configure(source)?;
        Some(Box::pin(run(config)))
    }

    fn configure(self, source: &mut Source) -> Option<Config> {
        let roles = BTreeSet::from_iter(self.roles);
        let database = read_database(source, self.embedded);
        // the outer option is a problem noted, the inner one a part that is not needed
        let embedded = self.embedded.then(|| EmbeddedConfig::read(source)).map_or(Some(None), |read| read.map(Some));
        let receiver = roles.contains(&Role::Receiver).then(|| ReceiverConfig::read(source));
        let receiver = receiver.map_or(Some(None), |read| read.map(Some));
        let worker = WorkerConfig::read(source);
        let reconcile = ReconcileConfig::read(source);
        let sync = SyncConfig::read(source);
        let stripe = StripeConfig::read(source);
        let ops = OpsConfig::read(source);
        let shutdown = ShutdownConfig::read(source);
        if let (Some(Some(receiver)), Some(ops)) = (&receiver, &ops) {
            ops::apart(source, receiver.listen, ops.listen)?;
        }
        // beside others it would wait for its key in silence, and alone it would do nothing for ever
        if let Some(stripe) = &stripe
            && stripe.secret_key.is_none()
            && roles.iter().eq([&Role::Reconcile])
        {
            source.problem(stripe::missing());
            return None;
        }
        Some(Config {
            roles,
            migrate: self.migrate,
            database: database?,
            embedded: embedded?,
            receiver: receiver?,
            worker: worker?,
            reconcile: reconcile?,
            sync: sync?,
            stripe: stripe?,
            ops: ops?,
            shutdown: shutdown?,
        })
    }
}

/// Exactly one database: a lost variable must not put events on a throwaway disk, and a variable that is there must
/// not be overlooked.
pub(super) fn read_database(source: &mut Source, embedded: bool) -> Option<DatabaseConfig> {
    if embedded && database::is_set(source) {
        let wrong = "is set, and --embedded asks for another database";
        source.problem(Problem::new("DATABASE_URL", wrong, "unset the variable, or leave --embedded out"));
        return None;
    }
    if embedded {
        // the PG* variables may be of a shell that is used for other databases too
        return Some(DatabaseConfig { hosts: None });
    }
    let database = DatabaseConfig::read(source)?;
    if database.hosts.is_none() {
        source.problem(database::missing(
            "set it to postgres://user:password@host:port/name (or PGHOST and the other PG* variables), or give \
             --embedded for a private PostgreSQL in BILLING_SYNC_DATA_DIR",
        ));
        return None;
    }
    Some(database)
}

/// Serves until a signal.
///
/// # Errors
/// When it cannot start, or its private PostgreSQL ends.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    if let Some(embedded) = &config.embedded {
        let mut cluster = start_embedded(embedded).await?;
        let database = Hosts::from(cluster.connect_options());
        let served = serve(&config, &database, &mut signals, cluster.ended()).await;
        cluster.stop().await?;
        return served;
    }
    // `configure` has seen to it that there is one
    let database =
        config.database.hosts.clone().context("there is no database: set DATABASE_URL, or give --embedded")?;
    serve(&config, &database, &mut signals, std::future::pending()).await
}

async fn start_embedded(config: &EmbeddedConfig) -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(&config.options()).await?;
    tracing::info!(
        embedded.version = cluster.version(),
        embedded.url = cluster.url(),
        "the private PostgreSQL is ready in {}",
        cluster.data_dir().display()
    );
    Ok(cluster)
}

/// `lost` says that the private PostgreSQL has ended: without it nothing can be stored or processed any more.
async fn serve(
    config: &Config,
    database: &Hosts,
    signals: &mut Signals,
    lost: impl Future<Output = EmbeddedError>,
) -> anyhow::Result<ExitCode> {
    // first, so that an address in use leaves the schema alone
    let service = Service::bind(&config.service(), database.current()).await?;
    if let Err(missing) = prepare_schema(config, database).await? {
        return Ok(output::refuse(&missing));
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        roles = config.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(","),
        workers = config.roles.contains(&Role::Worker).then_some(config.worker.workers),
        database = target(database.current()),
        webhooks = service.webhook_addr().map(|addr| format!("http://{addr}{PATH}")),
        ops = %service.ops_addr(),
        livemode = config.sync.livemode,
        stripe = config.stripe.secret_key.as_ref().map(|_| config.stripe.api_base.as_str()),
        "serving"
    );
    if config.roles.contains(&Role::Reconcile) && config.stripe.secret_key.is_none() {
        tracing::warn!("STRIPE_SECRET_KEY is not set: events that Stripe could not deliver are not looked for");
    }
    if config.roles.contains(&Role::Worker) && config.stripe.secret_key.is_none() {
        tracing::warn!(
            "STRIPE_SECRET_KEY is not set: what events do not carry is not fetched (payment methods, discounts, orders \
             in doubt: reason needs_fetch); once it is set, `billing-sync rebuild` asks for all of it"
        );
    }
    // ends with this function
    let _follow = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(database.clone().follow(service.pools())));
    let ending = Ending::default();
    let mut running = std::pin::pin!(signals.run(service.run(ending.clone()), &ending, &config.shutdown));
    let ended = tokio::select! {
        ended = running.as_mut() => ended,
        lost = lost => {
            ending.shutdown.cancel();
            let _ = tokio::time::timeout(config.shutdown.timeout, running).await;
            return Err(lost.into());
        }
    };
    tracing::info!("stopped");
    Ok(if ended { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Migrates where that was asked for, and checks otherwise: the inner error says what is missing.
async fn prepare_schema(config: &Config, database: &Hosts) -> anyhow::Result<Result<(), String>> {
    let mut conn = connect(database).await?;
    migrations::check_server(&mut conn).await?;
    let off = checkup::missing_durability(&mut conn).await?;
    if !off.is_empty() {
        tracing::warn!(
            settings = off.join(","),
            "the database runs without durability: a power cut may lose events that Stripe was told are stored"
        );
    }
    warn_of_few_connections(&mut conn, connections::wanted(&config.service())).await?;
    if config.migrate || config.embedded.is_some() {
        for migration in migrations::run(&mut conn).await? {
            tracing::info!(migration.version = migration.version, migration.name = migration.description, "migrated");
        }
    } else {
        let status = migrations::pending(&mut conn).await?;
        // no migrating mends one that was changed
        let or_else = if status.changed.is_empty() { ", or start with --migrate" } else { "" };
        if !status.is_current() {
            return Ok(Err(format!("{}: {}{or_else}", status.describe(), status.mend())));
        }
    }
    let writes = [Role::Worker, Role::Renewals, Role::Reconcile].iter().any(|role| config.roles.contains(role));
    let lacking = role::lacks_to_serve(&mut conn, writes, config.roles.contains(&Role::Upkeep)).await?;
    Ok(lacking.map_or(Ok(()), Err))
}

/// The parts open their connections when they need them, so that the shortage may show days after the start.
async fn warn_of_few_connections(conn: &mut PgConnection, parts: u32) -> anyhow::Result<()> {
    let wanted = parts + SPARE;
    for ConnectionLimit { limit, allowed, .. } in connection_limits(conn).await? {
        if allowed < i64::from(wanted) {
            tracing::warn!(
                limit,
                allowed,
                wanted,
                "fewer connections to the database are allowed than the parts want: they take turns"
            );
        }
    }
    Ok(())
}

impl Config {
    /// The parts that the roles ask for.
    fn service(&self) -> ServiceConfig {
        ServiceConfig {
            receiver: self.receiver.clone(),
            worker: (self.roles.contains(&Role::Worker)).then(|| (self.worker.clone(), self.sync.clone())),
            renewals: self.roles.contains(&Role::Renewals).then(|| self.sync.clone()),
            reconcile: (self.roles.contains(&Role::Reconcile))
                .then(|| (self.reconcile.clone(), self.sync.clone(), self.worker.clone())),
            stripe: [Role::Worker, Role::Reconcile]
                .iter()
                .any(|role| self.roles.contains(role))
                .then(|| self.stripe.clone()),
            upkeep: self.roles.contains(&Role::Upkeep),
            ops: self.ops.clone(),
        }
    }
}
