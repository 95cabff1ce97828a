//! The configuration of a process: which parts run, and the settings of each.

use crate::config::api::ApiConfig;
use crate::config::ops::OpsConfig;
use crate::config::receiver::ReceiverConfig;
use crate::config::reconcile::ReconcileConfig;
use crate::config::retention::RetentionConfig;
use crate::config::stripe::StripeConfig;
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::metrics::parts::Parts;

/// The parts of a process. A part that is `None` does not run.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The public listener.
    pub receiver: Option<ReceiverConfig>,
    /// The workspace API, and the accounts whose customers it shows.
    pub api: Option<(ApiConfig, SyncConfig)>,
    /// The workers, and the events that they process.
    pub worker: Option<(WorkerConfig, SyncConfig)>,
    /// The changes at Stripe that the API makes: the key for writes, and the timeouts of the merge.
    pub writes: Option<(StripeConfig, WorkerConfig)>,
    /// The comparison of stored events with Stripe's, and the samples.
    pub reconcile: Option<(ReconcileConfig, SyncConfig, WorkerConfig)>,
    /// The API client of the worker and of reconcile.
    pub stripe: Option<StripeConfig>,
    /// The scheduler of renewals, and its rules.
    pub renewals: Option<SyncConfig>,
    /// The partitions of coming months, and the retention.
    pub maintenance: Option<RetentionConfig>,
    /// The ops listener, which runs in every process.
    pub ops: OpsConfig,
}

impl ServiceConfig {
    /// The API client that reads, with or without a key.
    pub(super) fn stripe_of_reads(&self) -> Option<&StripeConfig> {
        self.stripe.as_ref().or(self.writes.as_ref().map(|(stripe, _)| stripe))
    }

    /// The parts that run and count. Without a key nothing is compared with Stripe.
    pub(super) fn parts(&self) -> Parts {
        let has_key = self.stripe_of_reads().is_some_and(|stripe| stripe.secret_key.is_some());
        let reconcile = self.reconcile.as_ref().filter(|_| has_key);
        Parts {
            receiver: self.receiver.is_some(),
            worker: self.worker.is_some(),
            renewals: self.renewals.is_some(),
            reconcile: reconcile.is_some(),
            sampler: reconcile.is_some_and(|(reconcile, ..)| reconcile.verify_sample > 0),
            api: self.api.is_some(),
            writes: self.api.is_some() && self.writes.is_some(),
        }
    }
}
