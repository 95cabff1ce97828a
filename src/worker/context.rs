//! What every part of the worker uses: the database, the settings, the mapping and the counters.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::settings::SettingsWatch;
use crate::base::retry::RetryPolicy;
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::Pool;
use crate::database::shortage::Shortage;
use crate::metrics::process::ProcessMetrics;
use crate::projection::graph::Graph;
use crate::projection::{self, CustomerRows, Rules};

/// The mapping of a customer and its subscriptions, as the worker calls it.
pub type ProjectCustomer = fn(&str, &Graph, &Rules) -> CustomerRows;

/// What every part of the worker uses.
#[derive(Clone)]
pub struct Context {
    /// The database.
    pub pool: Pool,
    /// Which events are processed, and the rules of the mapping.
    pub sync: SyncConfig,
    /// Batch size, retries and timeouts.
    pub config: WorkerConfig,
    /// The counters of this process.
    pub metrics: ProcessMetrics,
    /// The mapping of customers: a value, so that a test can replace it with one that panics.
    pub project_customer: ProjectCustomer,
    /// Whether a fetcher runs, so that jobs which need Stripe's API are queued.
    pub fetches: bool,
    /// Staleness margin: how far the version of a read lies before its start, because Stripe may answer with stale
    /// data.
    pub read_margin: Duration,
    /// Wakes the fetcher of this process.
    pub reads: Arc<Notify>,
    /// Wakes the renewal scheduler of this process.
    pub limits: Arc<Notify>,
    /// Whether database connections are scarce.
    pub shortage: Shortage,
    /// What this process has found out about its settings and those of other processes.
    pub watch: Arc<SettingsWatch>,
}

impl Context {
    /// A context with the real mapping.
    pub fn new(pool: Pool, sync: SyncConfig, config: WorkerConfig, metrics: ProcessMetrics) -> Self {
        Self {
            pool,
            sync,
            config,
            metrics,
            project_customer: projection::customer,
            fetches: false,
            read_margin: Duration::ZERO,
            reads: Arc::new(Notify::new()),
            limits: Arc::new(Notify::new()),
            shortage: Shortage::default(),
            watch: Arc::default(),
        }
    }

    /// The same context in a process with a fetcher, which serves the jobs that need Stripe's API.
    #[must_use]
    pub fn with_fetches(self, read_margin: Duration) -> Self {
        Self { fetches: true, read_margin, ..self }
    }

    pub(super) fn rules(&self) -> Rules {
        Rules { past_due_active: self.sync.past_due_active }
    }

    /// Delay before a job is retried. Jobs are never given up; the delay grows up to a maximum.
    pub(crate) fn backoff(&self, attempt: i32) -> Duration {
        self.retry_policy().unlimited(u32::try_from(attempt).unwrap_or(1), fastrand::f64())
    }

    pub(super) fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.config.max_attempts,
            initial: self.config.retry_initial,
            max: self.config.retry_max,
        }
    }
}
