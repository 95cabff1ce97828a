//! A small random sample of customers, plans, coupons and checkout sessions, compared with Stripe every hour: whether the rows are true is measured, not hoped.
//!
//! Part of the role reconcile of `serve`. Nothing is written: what differs is counted and said, and `verify --fix` mends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::look::{Keep, LookError};
use super::survey::{Sight, Whom};
use super::{Backfill, PATIENCE, Stop};
use crate::client::StripeApi;
use crate::metrics::drift::{TABLES, Verified};
use crate::worker::Context;

/// From one sample to the next, and the longest wait before the first: processes that start together do not look together.
const EVERY: Duration = Duration::from_hours(1);

/// Customers at a time: nobody waits for it.
const CONCURRENCY: usize = 2;

/// The part of `serve`.
#[derive(Clone)]
pub struct Sampler {
    /// The database, the rules, and where it counts.
    pub context: Context,
    /// Stripe.
    pub api: Arc<dyn StripeApi>,
    /// Customers in a sample, and as many plans, coupons and checkout sessions.
    pub customers: u32,
}

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
enum NoSample {
    #[error("{0}")]
    Stop(#[from] Stop),
    #[error("{0}")]
    Look(#[from] LookError),
}

impl Sampler {
    /// Works until `shutdown`. Begins again after a panic.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut pause = EVERY.mul_f64(fastrand::f64());
        while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let sampler = self.clone();
            let looked = tokio::spawn(async move { sampler.look().await });
            match shutdown.run_until_cancelled(looked).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(_)) => tracing::error!("the comparison of sampled rows panicked; the next one is in an hour"),
            }
            pause = EVERY;
        }
    }

    /// Takes one sample, counts it, and says what differs.
    pub async fn look(&self) {
        match self.sample().await {
            Ok(verified) => {
                self.context.metrics.verified(&verified);
                let differing: u64 = verified.rows.values().sum();
                if differing > 0 {
                    let tables: Vec<String> =
                        verified.rows.iter().map(|(table, rows)| format!("{rows} in {table}")).collect();
                    tracing::warn!(
                        customers = verified.customers,
                        rows = differing,
                        tables = tables.join(", "),
                        "rows differ from what Stripe says: `billing-sync verify` lists them, `verify --fix` mends them"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no sample of rows could be compared with Stripe; the next one is in an hour");
            }
        }
    }

    async fn sample(&self) -> Result<Verified, NoSample> {
        let (accounts, margin) = (self.context.sync.accounts.clone(), self.context.read_margin);
        let backfill =
            Backfill::new(self.context.clone(), Arc::clone(&self.api), accounts, CONCURRENCY, PATIENCE).await?;
        let mut verified = Verified { customers: 0, rows: BTreeMap::new(), failed: 0 };
        let mut sight = |sight| match sight {
            Sight::Seen { customer, changes } => {
                verified.customers += u64::from(customer.is_some());
                for change in changes.iter().filter(|change| TABLES.contains(&change.table)) {
                    *verified.rows.entry(change.table).or_default() += 1;
                }
            }
            // the client logs it
            Sight::Forbidden(_) => {}
            Sight::NoList(_) | Sight::Failed { .. } => verified.failed += 1,
        };
        // what changed within the margin may be on its way here
        let again_after = Some(margin + Duration::from_secs(1));
        Arc::new(backfill).survey(&Whom::Sample(self.customers), Keep::No, again_after, &mut sight).await?;
        Ok(verified)
    }
}
