//! What Stripe has and the outbox lacks: events that were delivered in vain, or never.
//!
//! ```text
//!                 trust (is the key of our account?)
//! rounds, CLI ──▶ begin (lease) ──▶ list, newest first ──page──▶ outbox.enqueue ──▶ wake ──▶ … last page ──▶ finish
//!                   ▲                                                                                        │
//!                   └────────────── watermark: everything created up to it has been compared ◀───────────────┘
//! ```
//!
//! Webhooks never move the watermark, only a listing that has come to its end does, and never back. So whatever breaks off
//! is listed again from the same place, and whoever runs it twice, or two of them at once, stores nothing twice. Stripe
//! lists 30 days: what lies before them is a [`gap`], and is said.
//!
//! [`rounds`] is the part of `serve`, [`run`] one comparison of one account, [`store`] what each page of it comes to,
//! [`watermark`] the SQL. What an event means is
//! not known here: it goes the way of all events.

mod failure;
pub mod gap;
mod page;
pub mod rounds;
pub mod run;
pub mod store;
mod trust;
pub mod watermark;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};

pub use self::failure::{Doubt, Failure};
use crate::client::StripeApi;
use crate::metrics::instance::Instance;

/// How far back Stripe lists events.
pub const REACH: time::Duration = time::Duration::days(30);

/// No step takes as long as this unless the database does not answer.
const STEP_LIMIT: Duration = Duration::from_mins(1);

/// What a comparison needs.
#[derive(Clone)]
pub struct Reconcile {
    /// The database.
    pub pool: PgPool,
    /// Stripe.
    pub api: Arc<dyn StripeApi>,
    /// The connected accounts beside our own.
    pub connected: BTreeSet<String>,
    /// How stale a list may be.
    pub margin: Duration,
    /// Where it counts.
    pub metrics: Instance,
}

impl Reconcile {
    /// The accounts whose events are compared: our own, which has no name, and the connected ones.
    pub fn accounts(&self) -> Vec<String> {
        std::iter::once(String::new()).chain(self.connected.iter().cloned()).collect()
    }

    /// Does one thing with the database, and does not wait for ever.
    async fn step<T>(&self, work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>) -> Result<T, Failure> {
        let mut conn = self.pool.acquire().await?;
        // a statement that still runs over there keeps its connection, and with it a place in the pool, until it has ended
        let done = tokio::time::timeout(STEP_LIMIT, work(&mut conn)).await.map_err(|_| Failure::Late)?;
        Ok(done?)
    }
}
