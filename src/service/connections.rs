//! Maximum number of database connections of each part of a process.

use super::config::ServiceConfig;
use crate::config::worker::WorkerConfig;
use crate::ops;

/// Receiver: one for the INSERT, one for the notification.
pub(super) const OF_RECEIVER: u32 = 2;
/// Worker: one that listens for new events and wakes the workers.
pub(super) const OF_WAKING: u32 = 1;
/// Renewals: two batches.
pub(super) const OF_RENEWALS: u32 = 2;
/// Renewals: one that retries subscriptions that are set aside.
pub(super) const OF_RETRYING: u32 = 1;
/// Reconcile: one account at a time.
pub(super) const OF_RECONCILE: u32 = 1;
/// Sampler: two customers at a time, each with one more connection for look-ups.
pub(super) const OF_SAMPLER: u32 = 4;
/// Maintenance: one table at a time.
pub(super) const OF_MAINTENANCE: u32 = 1;

/// Changes at Stripe: the interactive requests, and recovery, each with one more for the ledger.
pub(super) const OF_WRITER: u32 = 4;

/// Workers: two each, for the batch and for the record of its attempt.
pub(super) fn of_workers(config: &WorkerConfig) -> u32 {
    u32::try_from(2 * config.workers).unwrap_or(u32::MAX)
}

/// Fetcher: one for each simultaneous job, and one for the claim.
pub(super) fn of_fetcher(concurrency: usize) -> u32 {
    u32::try_from(concurrency + 1).unwrap_or(u32::MAX)
}

/// Maximum number of connections of a process with this configuration.
pub fn wanted(config: &ServiceConfig) -> u32 {
    let stripe = config.stripe.as_ref().filter(|stripe| stripe.secret_key.is_some());
    let parts = [
        config.receiver.as_ref().map(|_| OF_RECEIVER),
        config.api.as_ref().map(|(api, _)| api.connections),
        config.api.as_ref().and(config.writes.as_ref()).map(|_| OF_WRITER),
        config.worker.as_ref().map(|(worker, _)| of_workers(worker) + OF_WAKING),
        config.worker.as_ref().and(stripe).map(|stripe| of_fetcher(stripe.concurrency)),
        config.renewals.as_ref().map(|_| OF_RENEWALS + OF_RETRYING),
        config.reconcile.as_ref().and(stripe).map(|_| OF_RECONCILE),
        config.reconcile.as_ref().filter(|(reconcile, ..)| reconcile.verify_sample > 0).and(stripe).map(|_| OF_SAMPLER),
        config.maintenance.as_ref().map(|_| OF_MAINTENANCE),
        Some(ops::CONNECTIONS),
    ];
    parts.into_iter().flatten().sum()
}
