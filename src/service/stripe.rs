//! The parts of a process that send requests to Stripe: the client for reads, the writer of the workspace API, and the
//! comparisons with Stripe.

use std::sync::Arc;
use std::time::Duration;

use super::config::ServiceConfig;
use super::connections;
use crate::base::clock::RemoteClock;
use crate::client::{BuildError, HttpStripe, StripeApi};
use crate::config::stripe::StripeConfig;
use crate::database::Pool;
use crate::metrics::process::ProcessMetrics;
use crate::metrics::stripe::StripeMetrics;
use crate::metrics::writes::WriteMetrics;
use crate::reconcile::Reconcile;
use crate::reconcile::service::ReconcileService;
use crate::verify::sampler::Sampler;
use crate::worker::Context;
use crate::writes::Writer;

/// The API client that the parts of a process share: one rate limit, one connection pool, one clock.
pub(super) struct SharedClient {
    pub(super) api: Arc<HttpStripe>,
    pub(super) margin: Duration,
    pub(super) concurrency: usize,
}

impl SharedClient {
    /// Creates the client; `None` without a key.
    pub(super) fn new(
        config: &StripeConfig,
        metrics: StripeMetrics,
        stripes_clock: &RemoteClock,
    ) -> Result<Option<Self>, BuildError> {
        if config.secret_key.is_none() {
            return Ok(None);
        }
        let api = Arc::new(HttpStripe::new(config, metrics, stripes_clock.clone())?);
        Ok(Some(Self { api, margin: config.read_margin, concurrency: config.concurrency }))
    }
}

/// What makes the API's changes at Stripe. Its client shares the budget of the client for reads.
pub(super) fn writer(
    context: Context,
    config: &StripeConfig,
    reads: Option<&SharedClient>,
    (counted, counted_writes): (StripeMetrics, WriteMetrics),
    stripes_clock: &RemoteClock,
) -> Result<Arc<Writer>, BuildError> {
    let shared = reads.map(|reads| reads.api.as_ref());
    let client = HttpStripe::for_writes(config, counted, stripes_clock.clone(), shared)?;
    let looks: Arc<dyn StripeApi> = match reads {
        Some(reads) => reads.api.clone(),
        None => Arc::new(client.clone()),
    };
    // without a key for reads, no fetcher serves the jobs of a merge
    let context = match reads {
        Some(reads) => context.with_fetches(reads.margin),
        None => Context { read_margin: config.read_margin, ..context },
    };
    Ok(Arc::new(Writer::new(context, client, looks, counted_writes, config.timeout)))
}

/// The comparison of stored events with Stripe's list, and the samples of rows. None without a key.
pub(super) fn comparisons(
    config: &ServiceConfig,
    client: Option<&SharedClient>,
    metrics: &ProcessMetrics,
    background: impl Fn(u32) -> Pool,
) -> (Option<ReconcileService>, Option<Sampler>) {
    let Some(((reconcile, sync, worker), client)) = config.reconcile.as_ref().zip(client) else {
        return (None, None);
    };
    let rounds = ReconcileService {
        reconcile: Reconcile {
            pool: background(connections::OF_RECONCILE),
            api: client.api.clone(),
            connected: sync.accounts.clone(),
            margin: client.margin,
            metrics: metrics.clone(),
        },
        interval: reconcile.interval,
    };
    let sampler = (reconcile.verify_sample > 0).then(|| {
        let pool = background(connections::OF_SAMPLER);
        let context = Context::new(pool, sync.clone(), worker.clone(), metrics.clone()).with_fetches(client.margin);
        Sampler { context, api: client.api.clone(), customers: reconcile.verify_sample }
    });
    (Some(rounds), sampler)
}
