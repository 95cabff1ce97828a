//! What commands share that ask Stripe: their configuration, the way in, and how progress is told.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prometheus::Registry;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::{database, output};
use crate::backfill::{Backfill, PATIENCE};
use crate::client::{self, HttpStripe};
use crate::clock::Heard;
use crate::config::database::required;
use crate::config::settings::Concern;
use crate::config::source::Source;
use crate::config::stripe::{self, StripeConfig};
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::metrics::instance::Instance;
use crate::migrations;
use crate::worker::Context;

/// Without a terminal, how often a line says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The settings that these commands use.
pub(super) const CONCERNS: &[Concern] = &[Concern::Database, Concern::Stripe, Concern::Sync, Concern::Log];

/// Everything that is needed to ask, checked.
pub(super) struct Asking {
    database: PgConnectOptions,
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
        let mut conn = database::connect(&self.database).await?;
        let status = migrations::pending(&mut conn).await?;
        drop(conn);
        if !status.is_current() {
            return Ok(Err(format!("{}: {}", status.describe(), status.mend())));
        }
        let registry = Registry::new();
        let api = HttpStripe::new(&self.stripe, client::metrics(&registry)?, Heard::default())?;
        // a page and its note each, a sign of life, and whoever looks something up
        let pages = self.stripe.concurrency;
        let connections = u32::try_from(pages + 3).unwrap_or(u32::MAX);
        let pool = PgPoolOptions::new().max_connections(connections).connect_with(self.database).await?;
        let context = Context::new(pool, self.sync.clone(), self.worker, Instance::new(&registry)?);
        let context = context.with_fetches(self.stripe.read_margin);
        Ok(Ok(Arc::new(Backfill::new(context, Arc::new(api), self.sync.accounts, pages, PATIENCE).await?)))
    }
}

/// What the operator is told meanwhile, on standard error: a bar on a terminal, elsewhere a line now and then.
pub(super) struct Progress {
    bar: ProgressBar,
    said: Instant,
}

impl Progress {
    /// A bar of so many steps; of an unknown number without.
    pub(super) fn new(template: &str, length: Option<u64>) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        } else {
            ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden())
        };
        Self { bar, said: Instant::now() }
    }

    /// Moves the bar.
    pub(super) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Says how far it is: beside the bar, or now and then as a line of its own.
    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(line());
        } else if self.said.elapsed() > SAY_EVERY {
            self.said = Instant::now();
            output::complain(&line());
        }
    }

    /// Says something at once.
    pub(super) fn tell(&self, line: &str) {
        self.bar.suspend(|| output::complain(&output::wrapped("", line)));
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
