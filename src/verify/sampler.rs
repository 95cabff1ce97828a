//! Compares a small random sample of customers, plans, coupons and checkout sessions with Stripe every hour. So the
//! correctness of the rows is measured, not assumed.
//!
//! Runs in the role `reconcile` of `serve`. It changes no row of the product: differences are counted, logged and stored
//! for `status`, and `verify --fix` repairs them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::compare::Selection;
use super::customer::{CheckError, WriteMode};
use super::finding::Finding;
use super::sample_store;
use crate::backfill::{Backfill, PAGE_RETRY, Stop};
use crate::client::StripeApi;
use crate::metrics::drift::{SampleStats, TABLES};
use crate::worker::Context;

/// Interval between samples, and the maximum of the random delay before the first one, which spreads processes that
/// start together.
const INTERVAL: Duration = Duration::from_hours(1);

/// Concurrent checks; few, because no process waits for the result.
const CONCURRENCY: usize = 2;

/// The sampling service of `serve`.
#[derive(Clone)]
pub struct Sampler {
    /// Database pool, merge rules and metrics.
    pub context: Context,
    /// API client.
    pub api: Arc<dyn StripeApi>,
    /// Number of customers in a sample; it has as many plans, coupons and checkout sessions.
    pub customers: u32,
}

/// Why a sample could not be compared.
#[derive(Debug, thiserror::Error)]
enum NoSample {
    #[error("{0}")]
    Stop(#[from] Stop),
    #[error("{0}")]
    Look(#[from] CheckError),
}

impl Sampler {
    /// Runs until `shutdown`. A panic ends only one sample.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut pause = INTERVAL.mul_f64(fastrand::f64());
        while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let sampler = self.clone();
            let check = tokio::spawn(async move { sampler.check().await });
            match shutdown.run_until_cancelled(check).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(_)) => tracing::error!("the comparison of sampled rows panicked; next try in an hour"),
            }
            pause = INTERVAL;
        }
    }

    /// Compares one sample; counts and logs the differences.
    pub async fn check(&self) {
        match self.sample().await {
            Ok(verified) => {
                self.context.metrics.verified(&verified);
                if let Err(error) = self.save(&verified).await {
                    tracing::warn!(%error, "could not store the result of the comparison of sampled rows");
                }
                let differing: u64 = verified.rows.values().sum();
                if differing > 0 {
                    let tables: Vec<String> =
                        verified.rows.iter().map(|(table, rows)| format!("{rows} in {table}")).collect();
                    tracing::warn!(
                        customers = verified.customers,
                        rows = differing,
                        tables = tables.join(", "),
                        "rows differ from Stripe: `billing-sync verify` lists them, `verify --fix` fixes them"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not compare a sample of rows with Stripe; next try in an hour");
            }
        }
    }

    async fn save(&self, sample: &SampleStats) -> Result<(), sqlx::Error> {
        sample_store::save(&mut self.context.pool.acquire().await?, sample).await
    }

    async fn sample(&self) -> Result<SampleStats, NoSample> {
        let (accounts, margin) = (self.context.sync.accounts.clone(), self.context.read_margin);
        let backfill =
            Backfill::new(self.context.clone(), Arc::clone(&self.api), accounts, CONCURRENCY, PAGE_RETRY).await?;
        let mut verified = SampleStats { customers: 0, rows: BTreeMap::new(), failed: 0 };
        let mut report = |report| match report {
            Finding::Seen { customer, changes, .. } => {
                verified.customers += u64::from(customer.is_some());
                for change in changes.iter().filter(|change| TABLES.contains(&change.table)) {
                    *verified.rows.entry(change.table).or_default() += 1;
                }
            }
            // the client logs a missing permission
            Finding::Forbidden(_) | Finding::Progress(_) => {}
            Finding::NoList(_) | Finding::Failed { .. } => verified.failed += 1,
        };
        // events of changes within the staleness margin may still be on their way
        let again_after = Some(margin + Duration::from_secs(1));
        Arc::new(backfill).compare(&Selection::Sample(self.customers), WriteMode::No, again_after, &mut report).await?;
        Ok(verified)
    }
}
