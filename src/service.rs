//! A running process: the listeners and workers that it was asked for, from one start to one end.
//!
//! Called by `serve`, by the demo and by the tests, which all run the same thing. Each part has connections of
//! its own, so that a busy worker cannot keep the receiver from answering.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::{self, BuildError, HttpStripe};
use crate::clock::Heard;
use crate::config::ops::OpsConfig;
use crate::config::receiver::ReceiverConfig;
use crate::config::stripe::StripeConfig;
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::metrics::instance::Instance;
use crate::ops::Ops;
use crate::outbox::upkeep;
use crate::receiver::Receiver;
use crate::renewals::scheduler::Scheduler;
use crate::worker::fetch::Fetcher;
use crate::worker::{self, Context};

/// A connection that is not to be had in this time will not be had in time for Stripe either.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a process is asked to be. A part that is `None` does not run.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The public listener.
    pub receiver: Option<ReceiverConfig>,
    /// The workers, which events are theirs, and how they ask Stripe.
    pub worker: Option<(WorkerConfig, SyncConfig, StripeConfig)>,
    /// The scheduler of renewals, and by which rules.
    pub renewals: Option<SyncConfig>,
    /// Whether to make the months ahead.
    pub upkeep: bool,
    /// The ops listener runs in every process.
    pub ops: OpsConfig,
}

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The public address cannot be bound.
    #[error("cannot listen on {address} for Stripe: {error}; set BILLING_SYNC_LISTEN to a free address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The ops address cannot be bound.
    #[error("cannot listen on {address} for operations: {error}; set BILLING_SYNC_OPS_LISTEN to a free address")]
    OpsListen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The client of Stripe's API cannot be made.
    #[error("Stripe's API: {0}")]
    Client(#[from] BuildError),
    /// A metric is declared twice: a mistake of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A process with its listeners bound, not yet running.
pub struct Service {
    receiver: Option<Receiver>,
    worker: Option<Context>,
    fetcher: Option<Fetcher>,
    renewals: Option<Scheduler>,
    upkeep: Option<PgPool>,
    ops: Ops,
}

impl Service {
    /// Binds the listeners. No connection to the database is made yet.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(config: &ServiceConfig, database: &PgConnectOptions) -> Result<Self, StartError> {
        let registry = Registry::new();
        let metrics = Instance::new(&registry)?;
        let stripes_clock = Heard::default();
        // one INSERT at a time, and the notification beside it
        let receiver = match &config.receiver {
            Some(receiver) => Some(bind_receiver(receiver, pool(database, 2), Arc::new(metrics.clone())).await?),
            None => None,
        };
        let (worker, fetcher) = match &config.worker {
            Some((worker, sync, stripe)) => {
                let context =
                    Context::new(worker_pool(database, worker), sync.clone(), worker.clone(), metrics.clone());
                with_fetcher(context, stripe, &registry, database, &stripes_clock)?
            }
            None => (None, None),
        };
        let wake = worker.as_ref().map(|context| Arc::clone(&context.limits)).unwrap_or_default();
        let renewals = config.renewals.clone().map(|sync| Scheduler {
            // a batch, and the look at the clocks beside it
            pool: pool(database, 2),
            sync,
            metrics,
            stripe: stripes_clock.clone(),
            wake,
        });
        let upkeep = config.upkeep.then(|| pool(database, 1));
        let address = config.ops.listen;
        let ops = Ops::bind(&config.ops, database, registry).await;
        let ops = ops.map_err(|error| StartError::OpsListen { address, error })?;
        Ok(Self { receiver, worker, fetcher, renewals, upkeep, ops })
    }

    /// The address of the public listener, where there is one.
    pub fn webhook_addr(&self) -> Option<SocketAddr> {
        self.receiver.as_ref().and_then(|receiver| receiver.local_addr().ok())
    }

    /// The address of the ops listener.
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops.local_addr()
    }

    /// Runs until `shutdown`: then requests in flight are answered and batches at work committed, and only after
    /// that the ops listener, which has watched the end, closes too.
    pub async fn run(self, shutdown: CancellationToken) {
        let parts = TaskTracker::new();
        let pools: Vec<PgPool> = (self.worker.iter().map(|context| context.pool.clone()))
            .chain(self.fetcher.iter().map(Fetcher::pool))
            .chain(self.renewals.iter().map(|scheduler| scheduler.pool.clone()))
            .chain(self.upkeep.clone())
            .collect();
        if let Some(receiver) = self.receiver {
            parts.spawn(receiver.run(shutdown.clone()));
        }
        if let Some(context) = self.worker {
            parts.spawn(worker::run_all(context, shutdown.clone()));
        }
        if let Some(fetcher) = self.fetcher {
            parts.spawn(fetcher.run(shutdown.clone()));
        }
        if let Some(scheduler) = self.renewals {
            parts.spawn(scheduler.run(shutdown.clone()));
        }
        if let Some(pool) = self.upkeep {
            parts.spawn(upkeep::run(pool, shutdown.clone()));
        }
        let parts_ended = CancellationToken::new();
        let ops = tokio::spawn(self.ops.run(parts_ended.clone()));
        shutdown.cancelled().await;
        parts.close();
        parts.wait().await;
        // connections on their way back would complain of a server that ends with us, as the embedded one does
        let close = async {
            for pool in pools {
                pool.close().await;
            }
        };
        let _ = tokio::time::timeout(ACQUIRE_TIMEOUT, close).await;
        parts_ended.cancel();
        let _ = ops.await;
    }
}

/// For each worker its batch and the note beside it; one listens.
fn worker_pool(database: &PgConnectOptions, config: &WorkerConfig) -> PgPool {
    pool(database, u32::try_from(2 * config.workers + 1).unwrap_or(u32::MAX))
}

/// The worker, and beside it, where there is a key, the fetcher: with connections of its own, one for each job at work.
fn with_fetcher(
    worker: Context,
    config: &StripeConfig,
    registry: &Registry,
    database: &PgConnectOptions,
    stripes_clock: &Heard,
) -> Result<(Option<Context>, Option<Fetcher>), StartError> {
    let metrics = client::metrics(registry)?;
    if config.secret_key.is_none() {
        return Ok((Some(worker), None));
    }
    let api = Arc::new(HttpStripe::new(config, metrics, stripes_clock.clone())?);
    let worker = worker.with_fetches(config.read_margin);
    let own = pool(database, u32::try_from(config.concurrency + 1).unwrap_or(u32::MAX));
    let fetcher = Fetcher::new(Context { pool: own, ..worker.clone() }, api, config.concurrency);
    Ok((Some(worker), Some(fetcher)))
}

async fn bind_receiver(config: &ReceiverConfig, pool: PgPool, metrics: Arc<Instance>) -> Result<Receiver, StartError> {
    let bound = Receiver::bind(config, pool, metrics).await;
    bound.map_err(|error| StartError::Listen { address: config.listen, error })
}

/// A pool that connects when it is first used, and again after every loss.
fn pool(database: &PgConnectOptions, size: u32) -> PgPool {
    PgPoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(database.clone())
}

/// Where a listener is reached from its own machine: an address that says "all interfaces" cannot be connected to
/// everywhere.
pub fn on_this_machine(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_the_loopback() {
        for (listen, reached) in
            [("0.0.0.0:9464", "127.0.0.1:9464"), ("[::]:1", "[::1]:1"), ("10.0.0.1:2", "10.0.0.1:2")]
        {
            assert_eq!(on_this_machine(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
