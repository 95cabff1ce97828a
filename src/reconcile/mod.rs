//! Reconcile: loads events that the outbox misses, because their delivery failed or never happened, from Stripe's list.
//!
//! ```text
//!                  key check (does the key belong to the account of the stored events?)
//! service, CLI ──▶ begin (lease) ──▶ list, newest first ──page──▶ outbox.enqueue ──▶ wake ──▶ … last page ──▶ finish
//!                    ▲                                                                                        │
//!                    └──────────── watermark: all events created up to it have been compared ◀────────────────┘
//! ```
//!
//! Webhooks never move the watermark. Only a listing that reached its end moves it, and never backwards. So an
//! interrupted listing is repeated from the same time, and repeated or concurrent runs store nothing twice. Stripe
//! lists 30 days; older events that were never compared are a [`gap`], which is reported.
//!
//! [`service`] runs in `serve`, [`run`] compares one account, [`store`] stores each page, [`state`] has the SQL. Events
//! are not interpreted here: the worker processes them like all others.

mod failure;
pub mod gap;
mod key_check;
mod page;
pub mod run;
pub mod service;
pub mod state;
pub mod stats;
pub mod store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use self::failure::STEP_LIMIT;
pub use self::failure::{Failure, KeyError};
use crate::client::StripeApi;
use crate::database::{Connection, Pool};
use crate::metrics::process::ProcessMetrics;

/// Stripe lists events of this last span of time.
pub const REACH: time::Duration = time::Duration::days(30);

/// Dependencies of a comparison.
#[derive(Clone)]
pub struct Reconcile {
    /// Database pool.
    pub pool: Pool,
    /// API client.
    pub api: Arc<dyn StripeApi>,
    /// The synced connected accounts.
    pub connected: BTreeSet<String>,
    /// Staleness margin: a list may be stale by this much.
    pub margin: Duration,
    /// Metrics of this process.
    pub metrics: ProcessMetrics,
}

impl Reconcile {
    /// Returns the accounts whose events are compared: the key's own, as the empty string, and the connected ones.
    pub fn accounts(&self) -> Vec<String> {
        std::iter::once(String::new()).chain(self.connected.iter().cloned()).collect()
    }

    /// Runs one database step with [`STEP_LIMIT`] as the timeout.
    async fn step<T>(&self, work: impl AsyncFnOnce(&mut Connection) -> Result<T, sqlx::Error>) -> Result<T, Failure> {
        let mut conn = self.pool.acquire().await?;
        // a statement that still runs on the server occupies its connection, and a slot of the pool, until it ends
        let done = tokio::time::timeout(STEP_LIMIT, work(&mut conn)).await.map_err(|_| Failure::Late)?;
        Ok(done?)
    }
}
