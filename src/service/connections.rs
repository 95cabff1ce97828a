//! How many connections to the database each part of a process opens at most.

use super::ServiceConfig;
use crate::config::worker::WorkerConfig;
use crate::ops;

/// One INSERT at a time, and the notification beside it.
pub(super) const OF_RECEIVER: u32 = 2;
/// The connection that hears of new events and wakes the workers.
pub(super) const OF_WAKING: u32 = 1;
/// Two batches.
pub(super) const OF_RENEWALS: u32 = 2;
/// The connection that retries what is set aside.
pub(super) const OF_RETRYING: u32 = 1;
/// One account at a time.
pub(super) const OF_RECONCILE: u32 = 1;
/// Two customers at a time, each with what is looked up for it.
pub(super) const OF_SAMPLER: u32 = 4;
/// One table at a time.
pub(super) const OF_UPKEEP: u32 = 1;

/// For each worker its batch and the note beside it.
pub(super) fn of_workers(config: &WorkerConfig) -> u32 {
    u32::try_from(2 * config.workers).unwrap_or(u32::MAX)
}

/// One for each job at a time, and the claim.
pub(super) fn of_fetcher(concurrency: usize) -> u32 {
    u32::try_from(concurrency + 1).unwrap_or(u32::MAX)
}

/// Connections that a process with this configuration opens at most.
pub fn wanted(config: &ServiceConfig) -> u32 {
    let stripe = config.stripe.as_ref().filter(|stripe| stripe.secret_key.is_some());
    let parts = [
        config.receiver.as_ref().map(|_| OF_RECEIVER),
        config.worker.as_ref().map(|(worker, _)| of_workers(worker) + OF_WAKING),
        config.worker.as_ref().and(stripe).map(|stripe| of_fetcher(stripe.concurrency)),
        config.renewals.as_ref().map(|_| OF_RENEWALS + OF_RETRYING),
        config.reconcile.as_ref().and(stripe).map(|_| OF_RECONCILE),
        config.reconcile.as_ref().filter(|(reconcile, ..)| reconcile.verify_sample > 0).and(stripe).map(|_| OF_SAMPLER),
        config.upkeep.then_some(OF_UPKEEP),
        Some(ops::CONNECTIONS),
    ];
    parts.into_iter().flatten().sum()
}
