//! The demo: sends a short story of signed events to the real service over HTTP, consumes a limit as a product does, and
//! shows the resulting rows.
//!
//! ```text
//! story ── objects, sandbox    the events in Stripe's JSON, and the expected results
//! play                         plays the acts, and notes every difference
//! deliver                      posts an event: signed, forged, stale or twice
//! consume                      calls billing.consume
//! queries ── rows              waits for the worker and the scheduler, reads the tables
//! history                      reads which event changed a row, and the statement of a limit
//! report ── keeping            prints
//! ```
//!
//! It checks itself: an answer or a row that differs from the story is an error. So it is also the quickest test of an
//! installation. It runs the same [`Service`] as `serve`, with the registry's defaults, on its own database, and knows
//! nothing of the arguments. Called by the `demo` command.

mod consume;
mod deliver;
mod error;
mod history;
mod keeping;
mod objects;
mod play;
mod queries;
mod report;
mod rows;
mod sandbox;
mod story;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use tokio_util::sync::CancellationToken;

pub use self::deliver::DeliveryError;
pub use self::error::DemoError;

use self::deliver::{Postman, random_secret};
use self::keeping::Endpoints;
use self::play::play_story;
use self::report::Report;
use crate::api::principal::Scope;
use crate::api::principal::token_store::{self, NewToken};
use crate::config::api::ApiConfig;
use crate::config::demo::KeepConfig;
use crate::config::error::ConfigError;
use crate::config::ops::OpsConfig;
use crate::config::receiver::ReceiverConfig;
use crate::config::secret::WebhookSecret;
use crate::config::settings;
use crate::config::source::{Flags, Source};
use crate::config::stripe::StripeConfig;
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::{Connection, Session, connect};
use crate::embedded::{self, Cluster};
use crate::migrations;
use crate::service::{Service, ServiceConfig, on_this_machine};

/// Subdirectory of the data directory, so that the demo never uses the data of `serve --embedded`.
const DIRECTORY: &str = "demo";

/// Options of a demo.
#[derive(Debug, Clone)]
pub struct Options {
    /// The embedded PostgreSQL. The demo uses the directory `demo` below its data directory and empties it first.
    pub embedded: embedded::Options,
    /// Print only rows, as JSON, one object per line.
    pub json: bool,
    /// If set, keep serving after the story, at these addresses.
    pub keep: Option<KeepConfig>,
}

/// Runs the demo on its own cluster: plays the story, prints the results, and with `keep` serves until `shutdown`. In
/// every case, it stops everything it started before it returns.
///
/// # Errors
/// [`DemoError`].
pub async fn run(options: Options, out: &mut impl Write, shutdown: CancellationToken) -> Result<(), DemoError> {
    let mut report = Report::new(out, options.json);
    report.title()?;
    let mut embedded = options.embedded;
    embedded.data_dir.push(DIRECTORY);
    let mut cluster = Cluster::start(&embedded).await?;
    let result = on(&mut cluster, options.keep.as_ref(), &mut report, &shutdown).await;
    let stopped = cluster.stop().await;
    result?;
    Ok(stopped?)
}

/// Runs the service on the cluster and the story on the service.
async fn on<W: Write>(
    cluster: &mut Cluster,
    keep: Option<&KeepConfig>,
    report: &mut Report<'_, W>,
    shutdown: &CancellationToken,
) -> Result<(), DemoError> {
    let database = cluster.connect_options();
    let mut conn = connect(&database, Session::COMMAND).await?;
    empty(&mut conn).await?;

    let secret = random_secret();
    let config = config(&secret, keep)?;
    let own_secret = config.receiver.as_ref().and_then(|receiver| receiver.secrets.first().cloned());
    let service = Service::bind(&config, &(&database).into()).await?;
    let (Some(webhooks), Some(own_secret)) = (service.webhook_addr(), own_secret) else {
        return Err(io::Error::other("the demo's receiver did not start").into());
    };
    let (ops, api) = (service.ops_addr(), service.api_addr());
    report.started(cluster.version(), cluster.data_dir(), webhooks)?;

    let stop = CancellationToken::new();
    let running = tokio::spawn(service.run(stop.clone()));
    let forger = WebhookSecret::new(&random_secret()).unwrap_or_else(|_| own_secret.clone());
    let postman = Postman::new(on_this_machine(webhooks), own_secret, forger);
    let endpoints = Endpoints {
        webhooks: on_this_machine(webhooks),
        ops: on_this_machine(ops),
        api: api.map(|api| format!("http://{}{}", on_this_machine(api), settings::API_WORKSPACES.default)),
        database_url: &cluster.url(),
        secret: &secret,
        extra_secrets: keep.is_some_and(|keep| !keep.extra_secrets.is_empty()),
    };
    let show = async {
        play_story(&mut conn, &postman, report, keep.is_some()).await?;
        if keep.is_some() {
            report.keeping(&endpoints)?;
        }
        if let Some(api) = &endpoints.api {
            report.api(api, &token(&mut conn).await?)?;
        }
        Ok(())
    };
    let mut result = shutdown.run_until_cancelled(show).await.unwrap_or(Err(DemoError::Interrupted));
    if keep.is_some() && result.is_ok() {
        result = tokio::select! {
            () = shutdown.cancelled() => report.stopping().map_err(DemoError::from),
            ended = cluster.ended() => Err(ended.into()),
        };
    }
    stop.cancel();
    let _ = running.await;
    let _ = conn.close().await;
    result
}

/// Creates a token for all workspaces.
async fn token(conn: &mut Connection) -> Result<String, DemoError> {
    let token = token_store::random_token().map_err(io::Error::other)?;
    let new = NewToken {
        token: &token,
        scopes: &[Scope::WorkspacesAdmin],
        user: None,
        note: Some("of the demo"),
        lifetime: None,
    };
    token_store::create(conn, &new).await?;
    Ok(token.expose())
}

/// Recreates the schema, so that each demo starts empty, however the previous one ended.
async fn empty(conn: &mut Connection) -> Result<(), DemoError> {
    sqlx::raw_sql("-- demo.empty\nDROP SCHEMA IF EXISTS billing CASCADE").execute(&mut *conn).await?;
    migrations::run(conn).await?;
    Ok(())
}

/// The configuration of `serve` with all defaults, except for the addresses and the secrets.
fn config(secret: &str, keep: Option<&KeepConfig>) -> Result<ServiceConfig, ConfigError> {
    let free: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let environment = [("STRIPE_WEBHOOK_SECRET".to_owned(), OsString::from(secret))];
    let mut source = Source::new(Flags::new(), environment);
    source.collect(|source| {
        let mut receiver = ReceiverConfig::read(source)?;
        receiver.listen = keep.map_or(free, |keep| keep.listen);
        receiver.secrets.extend(keep.into_iter().flat_map(|keep| keep.extra_secrets.clone()));
        let worker = (WorkerConfig::read(source)?, SyncConfig::read(source)?);
        let stripe = Some(StripeConfig::read(source)?);
        let ops = OpsConfig { listen: keep.map_or(free, |keep| keep.ops_listen) };
        let renewals = Some(worker.1.clone());
        let api = match keep.and_then(|keep| keep.api_listen) {
            Some(listen) => Some((ApiConfig { listen, ..ApiConfig::read(source)? }, worker.1.clone())),
            None => None,
        };
        let (receiver, worker) = (Some(receiver), Some(worker));
        Some(ServiceConfig {
            receiver,
            api,
            writes: None,
            worker,
            renewals,
            reconcile: None,
            stripe,
            maintenance: None,
            ops,
        })
    })
}
