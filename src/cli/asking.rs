//! What the commands share that read objects from Stripe: their configuration, and the way in.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use super::database;
use crate::backfill::{Backfill, PATIENCE};
use crate::client::{self, HttpStripe};
use crate::clock::Heard;
use crate::config::database::required;
use crate::config::settings::Concern;
use crate::config::source::Source;
use crate::config::stripe::{self, StripeConfig};
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::hosts::Hosts;
use crate::metrics::instance::Instance;
use crate::worker::Context;

/// The settings that these commands use.
pub(super) const CONCERNS: &[Concern] =
    &[Concern::Database, Concern::Stripe, Concern::Tls, Concern::Sync, Concern::Log];

/// Everything that is needed to ask, checked.
pub(super) struct Asking {
    database: Hosts,
    sync: SyncConfig,
    worker: WorkerConfig,
    stripe: StripeConfig,
}

impl Asking {
    /// Reads the configuration; `None` after noting problems. There must be a key.
    pub(super) fn read(source: &mut Source) -> Option<Self> {
        let database = required(source);
        let (sync, stripe) = (SyncConfig::read(source), stripe::required(source));
        let worker = WorkerConfig::read(source);
        Some(Self { database: database?, sync: sync?, worker: worker?, stripe: stripe? })
    }

    /// How long reads may be stale.
    pub(super) fn margin(&self) -> Duration {
        self.stripe.read_margin
    }

    /// Opens the way to both sides. The inner error is one of the configuration.
    pub(super) async fn open(self) -> anyhow::Result<Result<Arc<Backfill>, String>> {
        if let Err(wrong) = database::current(&self.database).await? {
            return Ok(Err(wrong));
        }
        let registry = Registry::new();
        let api = HttpStripe::new(&self.stripe, client::metrics(&registry)?, Heard::default())?;
        // a page and its note each, a sign of life, and whoever looks something up
        let pages = self.stripe.concurrency;
        let connections = u32::try_from(pages + 3).unwrap_or(u32::MAX);
        let pool = database::pool(&self.database, connections);
        let context = Context::new(pool, self.sync.clone(), self.worker, Instance::new(&registry)?);
        let context = context.with_fetches(self.stripe.read_margin);
        Ok(Ok(Arc::new(Backfill::new(context, Arc::new(api), self.sync.accounts, pages, PATIENCE).await?)))
    }
}
