//! Shared by the commands that read objects from Stripe: their configuration, and opening database and API client.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use super::database;
use crate::backfill::{Backfill, PAGE_RETRY};
use crate::base::clock::RemoteClock;
use crate::base::waits::Waits;
use crate::client::{self, HttpStripe};
use crate::config::database::required;
use crate::config::source::Source;
use crate::config::stripe::{self, StripeConfig};
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::hosts::Hosts;
use crate::metrics::process::ProcessMetrics;
use crate::worker::Context;

/// The checked configuration for reading from Stripe.
pub(super) struct StripeSession {
    database: Hosts,
    sync: SyncConfig,
    worker: WorkerConfig,
    stripe: StripeConfig,
}

impl StripeSession {
    /// Reads the configuration, including the key, which is required; `None` after noting problems.
    pub(super) fn read(source: &mut Source) -> Option<Self> {
        let database = required(source);
        let (sync, stripe) = (SyncConfig::read(source), stripe::required(source));
        let worker = WorkerConfig::read(source);
        Some(Self { database: database?, sync: sync?, worker: worker?, stripe: stripe? })
    }

    /// The staleness margin of reads.
    pub(super) fn margin(&self) -> Duration {
        self.stripe.read_margin
    }

    /// Opens the database and the API client, whose waits are registered in `waits`. The inner error is one of the
    /// configuration.
    pub(super) async fn open(self, waits: &Waits) -> anyhow::Result<Result<Arc<Backfill>, String>> {
        if let Err(wrong) = database::current(&self.database).await? {
            return Ok(Err(wrong));
        }
        let registry = Registry::new();
        let api = HttpStripe::new(&self.stripe, client::metrics(&registry, &[])?, RemoteClock::default())?;
        let api = Arc::new(api.with_waits(waits.clone()));
        // one per page, and one each for recording a page, the heartbeat, and look-ups
        let pages = self.stripe.concurrency;
        let connections = u32::try_from(pages + 3).unwrap_or(u32::MAX);
        let pool = database::pool(&self.database, connections);
        let context = Context::new(pool, self.sync.clone(), self.worker, ProcessMetrics::new(&registry)?);
        let context = context.with_fetches(self.stripe.read_margin);
        let backfill = Backfill::new(context, api, self.sync.accounts, pages, PAGE_RETRY).await?;
        Ok(Ok(Arc::new(backfill.with_waits(waits.clone()))))
    }
}
