//! `serve`: its arguments, its configuration, and [`run`], which serves until a signal.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;

use super::database::connect;
use super::output;
use super::settings::{AllSettings, SettingArgs};
use super::signals::Signals;
use super::task::Task;
use crate::admin::checkup;
use crate::config::api::ApiConfig;
use crate::config::database::{self, DatabaseConfig};
use crate::config::embedded::EmbeddedConfig;
use crate::config::error::Problem;
use crate::config::ops::{self, OpsConfig};
use crate::config::receiver::ReceiverConfig;
use crate::config::reconcile::ReconcileConfig;
use crate::config::retention::RetentionConfig;
use crate::config::settings;
use crate::config::shutdown::ShutdownConfig;
use crate::config::source::Source;
use crate::config::stripe::{self, StripeConfig};
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::hosts::Hosts;
use crate::database::limits::{ConnectionLimit, connection_limits};
use crate::database::shortage::SPARE;
use crate::database::{Connection, Session, role, target};
use crate::embedded::{Cluster, EmbeddedError};
use crate::listener::Ending;
use crate::migrations;
use crate::receiver::PATH;
use crate::service::{Service, ServiceConfig, connections};

/// A part of the service; roles can be spread over processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Receives and stores webhooks.
    Receiver,
    /// Processes stored events.
    Worker,
    /// Serves the workspace API, for products and their users.
    Api,
    /// Renews limits when they are due.
    Renewals,
    /// Loads undelivered events from Stripe's event list; needs an API key.
    Reconcile,
    /// Creates monthly partitions in advance and maintains them.
    Maintenance,
}

impl Role {
    /// The name on the command line.
    fn as_str(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Worker => "worker",
            Self::Api => "api",
            Self::Renewals => "renewals",
            Self::Reconcile => "reconcile",
            Self::Maintenance => "maintenance",
        }
    }
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only these roles in this process. The workspace API (role api) must be named.
    #[arg(long, value_delimiter = ',', default_value = "receiver,worker,renewals,reconcile,maintenance")]
    roles: Vec<Role>,
    /// Use a private PostgreSQL in the data directory instead of `DATABASE_URL`.
    #[arg(long)]
    embedded: bool,
    /// Bring the schema up to date first (always done with --embedded).
    #[arg(long)]
    migrate: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<AllSettings>,
}

/// The checked configuration of `serve`.
#[derive(Debug)]
pub struct Config {
    /// The roles of this process; never empty.
    pub roles: BTreeSet<Role>,
    /// Whether to migrate an external database first.
    pub migrate: bool,
    /// Has hosts exactly if `embedded` is `None`.
    pub database: DatabaseConfig,
    /// Set with `--embedded`.
    pub embedded: Option<EmbeddedConfig>,
    /// Set with the role receiver; other processes need no signing secret.
    pub receiver: Option<ReceiverConfig>,
    /// Set with the role api.
    pub api: Option<ApiConfig>,
    /// Settings of the role worker.
    pub worker: WorkerConfig,
    /// Settings of the role reconcile.
    pub reconcile: ReconcileConfig,
    /// Settings of the role maintenance.
    pub retention: RetentionConfig,
    /// Settings of the roles worker, renewals and reconcile.
    pub sync: SyncConfig,
    /// Settings of the roles worker and reconcile.
    pub stripe: StripeConfig,
    /// Settings of the ops listener, which every process has.
    pub ops: OpsConfig,
    /// Settings of the shutdown.
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
        // the outer option is `None` after a noted problem, the inner one for a part that is not needed
        let embedded = self.embedded.then(|| EmbeddedConfig::read(source)).map_or(Some(None), |read| read.map(Some));
        let receiver = roles.contains(&Role::Receiver).then(|| ReceiverConfig::read(source));
        let receiver = receiver.map_or(Some(None), |read| read.map(Some));
        let api = roles.contains(&Role::Api).then(|| ApiConfig::read(source));
        let api = api.map_or(Some(None), |read| read.map(Some));
        let worker = WorkerConfig::read(source);
        let reconcile = ReconcileConfig::read(source);
        let retention = RetentionConfig::read(source);
        let sync = SyncConfig::read(source);
        let stripe = StripeConfig::read(source);
        let ops = OpsConfig::read(source);
        let shutdown = ShutdownConfig::read(source);
        let listeners = [
            receiver.as_ref().and_then(Option::as_ref).map(|receiver| (&settings::LISTEN, receiver.listen)),
            api.as_ref().and_then(Option::as_ref).map(|api| (&settings::API_LISTEN, api.listen)),
            ops.as_ref().map(|ops| (&settings::OPS_LISTEN, ops.listen)),
        ];
        ops::check_distinct(source, listeners.into_iter().flatten())?;
        // with other roles it waits for a key in silence; as the only role it would never do anything
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
            api: api?,
            worker: worker?,
            reconcile: reconcile?,
            retention: retention?,
            sync: sync?,
            stripe: stripe?,
            ops: ops?,
            shutdown: shutdown?,
        })
    }
}

/// Reads which database is used, exactly one: a missing variable must not put events on a throwaway disk, and a
/// variable that is set must not be ignored.
pub(super) fn read_database(source: &mut Source, embedded: bool) -> Option<DatabaseConfig> {
    if embedded && database::is_set(source) {
        let wrong = "is set, but --embedded uses another database";
        source.problem(Problem::new("DATABASE_URL", wrong, "unset the variable, or omit --embedded"));
        return None;
    }
    if embedded {
        // ignore the PG* variables: the shell may have set them for other databases
        return Some(DatabaseConfig { hosts: None });
    }
    let database = DatabaseConfig::read(source)?;
    if database.hosts.is_none() {
        source.problem(database::missing(
            "set it to postgres://user:password@host:port/name (or set PGHOST and the other PG* variables), or use \
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
        let served = Box::pin(serve(&config, &database, &mut signals, cluster.ended())).await;
        cluster.stop().await?;
        return served;
    }
    // `configure` guarantees that there is one
    let database =
        config.database.hosts.clone().context("no database is configured; set DATABASE_URL, or use --embedded")?;
    Box::pin(serve(&config, &database, &mut signals, std::future::pending())).await
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

/// Runs the service. `lost` resolves when the private PostgreSQL has ended; then nothing can be stored or processed.
async fn serve(
    config: &Config,
    database: &Hosts,
    signals: &mut Signals,
    lost: impl Future<Output = EmbeddedError>,
) -> anyhow::Result<ExitCode> {
    let roles: Vec<&str> = config.roles.iter().map(|role| role.as_str()).collect();
    let database = &database.named(&roles);
    // first, so that an address in use does not change the schema
    let service = Service::bind(&config.service(), database.current()).await?;
    if let Err(missing) = prepare_schema(config, database).await? {
        return Ok(output::refuse(&missing));
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        roles = roles.join(","),
        workers = config.roles.contains(&Role::Worker).then_some(config.worker.workers),
        database = target(&database.current().options),
        webhooks = service.webhook_addr().map(|addr| format!("http://{addr}{PATH}")),
        api = service.api_addr().zip(config.api.as_ref()).map(|(addr, api)| format!("http://{addr}{}", api.workspaces.as_str())),
        ops = %service.ops_addr(),
        livemode = config.sync.livemode,
        stripe = config.stripe.secret_key.as_ref().map(|_| config.stripe.api_base.as_str()),
        writes = config.api.as_ref().map(|_| config.stripe.write_key.is_some()),
        "serving"
    );
    if config.roles.contains(&Role::Reconcile) && config.stripe.secret_key.is_none() {
        tracing::warn!("STRIPE_SECRET_KEY is not set; undelivered events are not loaded from Stripe");
    }
    if config.roles.contains(&Role::Worker) && config.stripe.secret_key.is_none() {
        tracing::warn!(
            "STRIPE_SECRET_KEY is not set; data that events omit is not fetched (payment methods, discounts, ambiguous \
             order: reason needs_fetch). Once the key is set, `billing-sync rebuild` queues all of it"
        );
    }
    // aborted when this function returns
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

/// Migrates if requested, otherwise checks the schema. The inner error describes what is missing.
async fn prepare_schema(config: &Config, database: &Hosts) -> anyhow::Result<Result<(), String>> {
    let mut conn = connect(database).await?;
    migrations::check_server(&mut conn).await?;
    let off = checkup::missing_durability(&mut conn).await?;
    if !off.is_empty() {
        tracing::warn!(
            settings = off.join(","),
            "the database runs without durability; a power failure may lose events that were acknowledged to Stripe"
        );
    }
    warn_of_few_connections(&mut conn, connections::wanted(&config.service())).await?;
    let migrates = config.migrate || config.embedded.is_some();
    if migrates {
        let applied = migrations::run(&mut conn).await?;
        if let Some((first, last)) = applied.first().zip(applied.last()) {
            tracing::info!(count = applied.len(), first = first.version, last = last.version, "applied migrations");
        }
    }
    // before the other checks, which would advise a login for the API alone to join the owner's role
    if let Some(missing) = missing_for_api(config, database).await? {
        return Ok(Err(missing));
    }
    if !migrates {
        let status = migrations::pending(&mut conn).await?;
        // a migration cannot repair a changed one
        let or_else = if status.changed.is_empty() { ", or start with --migrate" } else { "" };
        if !status.is_current() {
            return Ok(Err(format!("{}: {}{or_else}", status.describe(), status.fix())));
        }
    }
    let changes = config.service().writes.is_some();
    // the API alone needs nothing else, unless it merges what it has changed at Stripe
    if config.roles.iter().eq([&Role::Api]) && !changes {
        return Ok(Ok(()));
    }
    let writes =
        changes || [Role::Worker, Role::Renewals, Role::Reconcile].iter().any(|role| config.roles.contains(role));
    let missing =
        role::missing_privilege_to_serve(&mut conn, writes, config.roles.contains(&Role::Maintenance)).await?;
    Ok(missing.map_or(Ok(()), Err))
}

/// The privilege that the workspace API needs and does not have, if this process serves it.
async fn missing_for_api(config: &Config, database: &Hosts) -> anyhow::Result<Option<String>> {
    if !config.roles.contains(&Role::Api) {
        return Ok(None);
    }
    let mut conn = database.connect(Session::API).await?;
    let missing = role::missing_privilege_for_api(&mut conn).await?;
    let role = role::of_session(&mut conn).await?.role;
    if missing.is_none() && role != role::API_ROLE {
        tracing::warn!(
            api.role = role,
            "the workspace API has more rights in the database than it needs; create its role by ops/roles.sql"
        );
    }
    Ok(missing)
}

/// Warns if too few connections are allowed. Parts connect when needed, so the shortage may appear days after startup.
async fn warn_of_few_connections(conn: &mut Connection, parts: u32) -> anyhow::Result<()> {
    // behind a pooler the limit is that of its sessions
    if conn.shares_session() {
        return Ok(());
    }
    let wanted = parts + SPARE;
    for ConnectionLimit { limit, allowed, .. } in connection_limits(conn).await? {
        if allowed < i64::from(wanted) {
            tracing::warn!(
                limit,
                allowed,
                wanted,
                "the database allows fewer connections than this process may use; its parts take turns"
            );
        }
    }
    Ok(())
}

impl Config {
    /// The parts that the roles need.
    fn service(&self) -> ServiceConfig {
        ServiceConfig {
            receiver: self.receiver.clone(),
            api: self.api.clone().map(|api| (api, self.sync.clone())),
            writes: (self.api.is_some() && self.stripe.write_key.is_some())
                .then(|| (self.stripe.clone(), self.worker.clone())),
            worker: (self.roles.contains(&Role::Worker)).then(|| (self.worker.clone(), self.sync.clone())),
            renewals: self.roles.contains(&Role::Renewals).then(|| self.sync.clone()),
            reconcile: (self.roles.contains(&Role::Reconcile))
                .then(|| (self.reconcile.clone(), self.sync.clone(), self.worker.clone())),
            stripe: [Role::Worker, Role::Reconcile]
                .iter()
                .any(|role| self.roles.contains(role))
                .then(|| self.stripe.clone()),
            maintenance: self.roles.contains(&Role::Maintenance).then(|| self.retention.clone()),
            ops: self.ops.clone(),
        }
    }
}
