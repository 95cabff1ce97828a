//! A running process with the configured listeners and workers, from its start to its end.
//!
//! Called by `serve`, by the demo and by the tests, which all run the same service. Each part has its own connections,
//! so a busy worker cannot block the receiver. Receiver and probes connect first. If the database allows too few
//! connections, the other parts take turns.

mod announce;
mod config;
pub mod connections;
mod stripe;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::config::ServiceConfig;
use self::stripe::SharedClient;
use crate::api::{self, Api, ApiParts};
use crate::base::clock::RemoteClock;
use crate::client::{self, BuildError, Write};
use crate::config::receiver::ReceiverConfig;
use crate::database::shortage::{Keeper, Shortage};
use crate::database::{self, Address, Idle, Pool, Session};
use crate::limits::scheduler::Scheduler;
use crate::listener::Ending;
use crate::maintenance::Maintenance;
use crate::metrics::connections::ListenerName;
use crate::metrics::process::ProcessMetrics;
use crate::metrics::retention::RetentionMetrics;
use crate::metrics::writes::WriteMetrics;
use crate::ops::Ops;
use crate::outbox::processes::Announcement;
use crate::receiver::{self, Receiver};
use crate::reconcile::service::ReconcileService;
use crate::verify::sampler::Sampler;
use crate::worker::fetch::Fetcher;
use crate::worker::{self, Context, SettingsWatch};
use crate::writes::Writer;

/// Timeout for getting a connection. After a longer wait, the answer would be too late for Stripe.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The public address cannot be bound.
    #[error("cannot listen on {address} for Stripe: {error}; set BILLING_SYNC_LISTEN to a free address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: io::Error,
    },
    /// The address of the workspace API cannot be bound.
    #[error("cannot listen on {address} for the workspace API: {error}; set BILLING_SYNC_API_LISTEN to a free address")]
    ApiListen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: io::Error,
    },
    /// The ops address cannot be bound.
    #[error("cannot listen on {address} for operations: {error}; set BILLING_SYNC_OPS_LISTEN to a free address")]
    OpsListen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: io::Error,
    },
    /// The API client cannot be created.
    #[error("Stripe's API: {0}")]
    Client(#[from] BuildError),
    /// A metric is declared twice: a bug.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A process whose listeners are bound, not running yet.
pub struct Service {
    receiver: Option<Receiver>,
    api: Option<Api>,
    writer: Option<Arc<Writer>>,
    worker: Option<Context>,
    fetcher: Option<Fetcher>,
    renewals: Option<Scheduler>,
    reconcile: Option<ReconcileService>,
    sampler: Option<Sampler>,
    maintenance: Option<Maintenance>,
    /// The settings of a process without a worker, which announces them itself.
    announcement: Option<Announcement>,
    ops: Ops,
    shortage: Shortage,
}

impl Service {
    /// Binds the listeners, without connecting to the database.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(config: &ServiceConfig, database: &Address) -> Result<Self, StartError> {
        let registry = Registry::new();
        let parts = config.parts();
        let metrics = ProcessMetrics::of(&registry, parts)?;
        let stripes_clock = RemoteClock::default();
        let shortage = Shortage::default();
        let background = |connections| background(database, connections, &shortage);
        let receiver = match &config.receiver {
            Some(receiver) => Some(bind_receiver(receiver, database, Arc::new(metrics.clone())).await?),
            None => None,
        };
        let stripe = config.stripe_of_reads();
        let of_writes: &[&str] = if parts.writes { &Write::OPERATIONS } else { &[] };
        let stripe_metrics = match stripe {
            Some(stripe) if stripe.secret_key.is_some() || parts.writes => Some(client::metrics(&registry, of_writes)?),
            _ => None,
        };
        let client = match stripe.zip(stripe_metrics.clone()) {
            Some((stripe, metrics)) => SharedClient::new(stripe, metrics, &stripes_clock)?,
            None => None,
        };
        let writer = match (&config.api, &config.writes, stripe_metrics) {
            (Some((_, sync)), Some((stripe, worker)), Some(counted)) => {
                let context =
                    Context::new(background(connections::OF_WRITER), sync.clone(), worker.clone(), metrics.clone());
                let counted_writes = WriteMetrics::new(&registry, &Write::OPERATIONS)?;
                Some(stripe::writer(context, stripe, client.as_ref(), (counted, counted_writes), &stripes_clock)?)
            }
            _ => None,
        };
        let api = match &config.api {
            Some((api, sync)) => {
                let (address, counted) = (api.listen, metrics.connections.of(ListenerName::Api));
                let parts = ApiParts {
                    accounts: sync.accounts.clone(),
                    metrics: api::metrics(&registry)?,
                    connections: counted,
                    shortage: shortage.clone(),
                    writer: writer.clone(),
                };
                let bound = Api::bind(api, database, parts).await;
                Some(bound.map_err(|error| StartError::ApiListen { address, error })?)
            }
            None => None,
        };
        let worker = config.worker.as_ref().map(|(worker, sync)| {
            let pool = background(connections::of_workers(worker));
            let context = Context::new(pool, sync.clone(), worker.clone(), metrics.clone());
            let watch = Arc::new(SettingsWatch::new(announce::settings(config)));
            let context = Context { shortage: shortage.clone(), watch, ..context };
            match &client {
                Some(client) => context.with_fetches(client.margin),
                None => context,
            }
        });
        let fetcher = worker.as_ref().zip(client.as_ref()).map(|(worker, client)| {
            let own = background(connections::of_fetcher(client.concurrency));
            Fetcher::new(Context { pool: own, ..worker.clone() }, client.api.clone(), client.concurrency)
        });
        let (reconcile, sampler) = stripe::comparisons(config, client.as_ref(), &metrics, background);
        let wake = worker.as_ref().map(|context| Arc::clone(&context.limits)).unwrap_or_default();
        let renewals = config.renewals.clone().map(|sync| Scheduler {
            pool: background(connections::OF_RENEWALS),
            sync,
            metrics: metrics.clone(),
            stripe: stripes_clock.clone(),
            wake,
        });
        let maintenance = match &config.maintenance {
            Some(config) => Some(Maintenance {
                pool: background(connections::OF_MAINTENANCE),
                config: config.clone(),
                metrics: RetentionMetrics::new(&registry)?,
            }),
            None => None,
        };
        let settings = announce::settings(config);
        let announcement = (worker.is_none() && !settings.is_empty()).then(|| Announcement::new(settings));
        let address = config.ops.listen;
        let counted = metrics.connections.of(ListenerName::Ops);
        let needed = (receiver.iter().map(|receiver| ("receiver", receiver.pool())))
            .chain(api.iter().map(|api| ("workspace API", api.reads())));
        let ops = Ops::bind(&config.ops, database, registry, counted, needed.collect(), shortage.clone()).await;
        let ops = ops.map_err(|error| StartError::OpsListen { address, error })?;
        let parts = Self {
            receiver,
            api,
            writer,
            worker,
            fetcher,
            renewals,
            reconcile,
            sampler,
            maintenance,
            announcement,
            ops,
            shortage,
        };
        Ok(parts)
    }

    /// The address of the public listener, if there is one.
    pub fn webhook_addr(&self) -> Option<SocketAddr> {
        self.receiver.as_ref().and_then(|receiver| receiver.local_addr().ok())
    }

    /// The address of the workspace API, if it is served.
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(Api::local_addr)
    }

    /// The address of the ops listener.
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops.local_addr()
    }

    /// The connections of all parts.
    pub fn pools(&self) -> Vec<Pool> {
        self.working_pools().into_iter().chain(self.first_pools()).chain([self.ops.scrapes()]).collect()
    }

    /// The pools whose connections are opened first, and kept.
    fn first_pools(&self) -> Vec<Pool> {
        (self.receiver.iter().map(Receiver::pool))
            .chain(self.api.iter().map(Api::reads))
            .chain([self.ops.probes()])
            .collect()
    }

    /// The keeper of the connections of all parts.
    fn keeper(&self) -> Keeper {
        let waking = self.worker.as_ref().map_or(0, |_| connections::OF_WAKING);
        let retrying = self.renewals.as_ref().map_or(0, |_| connections::OF_RETRYING);
        Keeper {
            first: self.first_pools(),
            others: self.working_pools().into_iter().chain([self.ops.scrapes()]).collect(),
            other_connections: waking + retrying,
            shortage: self.shortage.clone(),
        }
    }

    /// The pools of the parts that close before the ops listener ends.
    fn working_pools(&self) -> Vec<Pool> {
        (self.worker.iter().map(|context| context.pool.clone()))
            .chain(self.fetcher.iter().map(Fetcher::pool))
            .chain(self.renewals.iter().map(|scheduler| scheduler.pool.clone()))
            .chain(self.reconcile.iter().map(|rounds| rounds.reconcile.pool.clone()))
            .chain(self.sampler.iter().map(|sampler| sampler.context.pool.clone()))
            .chain(self.api.iter().map(Api::writes))
            .chain(self.writer.iter().map(|writer| writer.pool()))
            .chain(self.maintenance.iter().map(|maintenance| maintenance.pool.clone()))
            .collect()
    }

    /// Runs until `shutdown` of the ending. Then requests in flight are answered and batches in progress committed. The
    /// ops listener, which reports the shutdown, closes last. From `draining` on, the process reports not ready but
    /// continues to work.
    pub async fn run(self, ending: impl Into<Ending>) {
        // boxed, because the future contains all parts until they are spawned
        Box::pin(self.run_parts(ending.into())).await;
    }

    async fn run_parts(self, ending: Ending) {
        let shutdown = ending.shutdown.clone();
        let parts = TaskTracker::new();
        let pools = self.working_pools();
        let connected = CancellationToken::new();
        parts.spawn(database::outage::watch(self.ops.probes(), shutdown.clone()));
        parts.spawn(self.keeper().run(connected.clone(), shutdown.clone()));
        if let Some(receiver) = self.receiver {
            parts.spawn(receiver.run(ending.clone()));
        }
        if let Some(api) = self.api {
            parts.spawn(api.run(ending.clone()));
        }
        let after = |part: Part| {
            let (connected, shutdown) = (connected.clone(), shutdown.clone());
            parts.spawn(async move {
                if shutdown.run_until_cancelled(connected.cancelled()).await.is_some() {
                    part.await;
                }
            });
        };
        let announcing = (self.renewals.iter().map(|scheduler| scheduler.pool.clone()))
            .chain(self.maintenance.iter().map(|maintenance| maintenance.pool.clone()))
            .chain(self.writer.iter().map(|writer| writer.pool()))
            .next();
        if let Some((announcement, pool)) = self.announcement.zip(announcing) {
            after(Box::pin(announce::run(pool, announcement, shutdown.clone())));
        }
        if let Some(writer) = self.writer {
            after(Box::pin(writer.recover(shutdown.clone())));
        }
        if let Some(context) = self.worker {
            after(Box::pin(worker::run_all(context, shutdown.clone())));
        }
        if let Some(fetcher) = self.fetcher {
            after(Box::pin(fetcher.run(shutdown.clone())));
        }
        if let Some(scheduler) = self.renewals {
            after(Box::pin(scheduler.run(shutdown.clone())));
        }
        if let Some(sampler) = self.sampler {
            after(Box::pin(sampler.run(shutdown.clone())));
        }
        if let Some(rounds) = self.reconcile {
            after(Box::pin(rounds.run(shutdown.clone())));
        }
        if let Some(maintenance) = self.maintenance {
            after(Box::pin(maintenance.run(shutdown.clone())));
        }
        let parts_ended = CancellationToken::new();
        let ops = tokio::spawn(self.ops.run(ending.draining.clone(), parts_ended.clone()));
        shutdown.cancelled().await;
        ending.draining.cancel();
        parts.close();
        parts.wait().await;
        // connections that return to a pool later would log errors if the server ends too, as the embedded one does
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

/// A background part of the service.
type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn bind_receiver(
    config: &ReceiverConfig,
    address: &Address,
    metrics: Arc<ProcessMetrics>,
) -> Result<Receiver, StartError> {
    let session = Session::receiver(config.store_timeout);
    let (size, unchecked) = (connections::OF_RECEIVER, receiver::CHECK_AFTER_IDLE);
    let pool = database::pool_with(address, session, size, ACQUIRE_TIMEOUT, Idle::Kept, unchecked);
    let bound = Receiver::bind(config, pool, metrics).await;
    bound.map_err(|error| StartError::Listen { address: config.listen, error })
}

/// The pool of a background part.
fn background(address: &Address, connections: u32, shortage: &Shortage) -> Pool {
    let idle = Idle::GivenUp(shortage.clone());
    database::pool_with(address, Session::BACKGROUND, connections, ACQUIRE_TIMEOUT, idle, Duration::ZERO)
}

/// The address at which a listener is reached from its own machine. On some systems, a client cannot connect to the
/// address for all interfaces.
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
