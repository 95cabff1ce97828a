//! Renews limits when they are due, and recalculates those with a stale mark. The role `renewals` of `serve`.
//!
//! Any number of schedulers run against one database: a claim skips what others hold. One batch is one transaction. If
//! no scheduler runs, nothing is lost: `consume` renews the balances that it uses, and the next scheduler catches up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::batch::{self, Batch};
use super::batch_size::AdaptiveBatchSize;
use super::clock_skew;
use super::set_aside;
use super::store;
use crate::base::clock::{self, RemoteClock};
use crate::config::sync::SyncConfig;
use crate::database::{self, Pool, Session};
use crate::domain::renewal::Renewed;
use crate::jobs::{Kind, claim, triggers};
use crate::metrics::process::ProcessMetrics;

/// Poll interval: another process may have written what is due, and clocks may jump.
const POLL: Duration = Duration::from_secs(5);

/// Pause when another session holds everything that is due: it ends, or the next round finds other work.
const HELD: Duration = Duration::from_secs(1);

/// Time limit of one step; only an unresponsive database exceeds it.
const STEP_LIMIT: Duration = Duration::from_mins(1);

/// Maximum number of retries of set-aside subscriptions in one round.
const RETRIES: u64 = 20;

/// Time after which a round begins no further retry: even if the last takes as long as a statement may, the round stays
/// within its time limit.
const RETRY_TIME: Duration = Duration::from_secs(5);

/// Interval between searches for old idempotency keys and for missing limits.
const TIDY_EVERY: Duration = Duration::from_hours(1);

/// Context of a scheduler.
#[derive(Clone)]
pub struct Scheduler {
    /// The database.
    pub pool: Pool,
    /// The rules of renewal.
    pub sync: SyncConfig,
    /// The counters of this process.
    pub metrics: ProcessMetrics,
    /// Stripe's clock, known if this process sends requests to Stripe.
    pub stripe: RemoteClock,
    /// Wakes the scheduler early.
    pub wake: Arc<Notify>,
}

/// Result of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundResult {
    /// More work may be due at once.
    MoreWork,
    /// Something is due, but another session holds it.
    Locked,
    /// Nothing is due for this time.
    Idle(Option<Duration>),
    /// Nothing is renewed, because the clocks disagree.
    Halted,
}

/// State of a scheduler between rounds.
struct Memory {
    batch_size: AdaptiveBatchSize,
    /// Whether the rules of renewal are stored.
    ready: bool,
    /// Whether this process has halted the renewals.
    halting: bool,
    /// Time of the last search for old keys and missing limits.
    tidied: Option<Instant>,
}

/// Restarts `work` after a panic. Otherwise the process would look healthy and renew nothing.
async fn restarting<W>(work: impl Fn() -> W)
where
    W: Future<Output = ()> + Send + 'static,
{
    while tokio::spawn(work()).await.is_err() {
        tracing::error!("the renewal scheduler panicked and restarts");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Scheduler {
    /// Works until `shutdown`; a batch in progress is finished first. Set-aside subscriptions are retried beside the
    /// batches, which never wait for them.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::join!(
            restarting(|| self.clone().keep_renewing(shutdown.clone())),
            restarting(|| self.clone().keep_retrying(shutdown.clone())),
        );
    }

    async fn keep_renewing(self, shutdown: CancellationToken) {
        let mut memory =
            Memory { batch_size: AdaptiveBatchSize::default(), ready: false, halting: false, tidied: None };
        while !shutdown.is_cancelled() {
            let round = Box::pin(self.round(&mut memory));
            let pause = match database::until_answered(&self.pool, STEP_LIMIT, round).await {
                Some(Ok(RoundResult::MoreWork)) => continue,
                Some(Ok(RoundResult::Locked)) => HELD,
                Some(Ok(RoundResult::Idle(next))) => next.map_or(POLL, |next| next.min(POLL)),
                Some(Ok(RoundResult::Halted)) => POLL,
                Some(Err(error)) => {
                    let error = database::reason(&self.pool, &error).await;
                    tracing::warn!(
                        error,
                        pause_seconds = POLL.as_secs(),
                        "limits could not be renewed; retrying after a pause"
                    );
                    POLL
                }
                None => {
                    tracing::warn!("the database did not answer within {} s", STEP_LIMIT.as_secs());
                    Duration::ZERO
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn round(&self, memory: &mut Memory) -> Result<RoundResult, sqlx::Error> {
        if !memory.ready {
            self.set_rules().await?;
            memory.ready = true;
        }
        if !self.clocks_agree(&mut memory.halting).await? {
            return Ok(RoundResult::Halted);
        }
        if memory.tidied.is_none_or(|at| at.elapsed() > TIDY_EVERY) && self.tidy().await? {
            memory.tidied = Some(Instant::now());
        }
        // during a backlog, two batches at once, because the database has more than one core
        let batch_size = memory.batch_size;
        let batches = if batch_size.is_behind() {
            let (first, second) = tokio::join!(self.batch(batch_size), self.batch(batch_size));
            vec![first?, second?]
        } else {
            vec![self.batch(batch_size).await?]
        };
        for batch in &batches {
            batch.set(&mut memory.batch_size);
        }
        if batches.iter().any(|batch| !batch.done.is_empty() || batch.timed_out) {
            return Ok(RoundResult::MoreWork);
        }
        let next = store::next_due(&mut self.pool.acquire().await?).await?;
        Ok(if next == Some(Duration::ZERO) { RoundResult::Locked } else { RoundResult::Idle(next) })
    }

    /// Retries set-aside subscriptions until `shutdown`, which ends a retry in progress.
    async fn keep_retrying(self, shutdown: CancellationToken) {
        let retrying = async {
            loop {
                let round = Box::pin(self.retry_set_aside());
                if let Some(Err(error)) = database::until_answered(&self.pool, STEP_LIMIT, round).await {
                    tracing::debug!(%error, "set-aside subscriptions could not be retried");
                }
                tokio::time::sleep(POLL).await;
            }
        };
        shutdown.run_until_cancelled(retrying).await;
    }

    /// Retries subscriptions that were set aside, on a connection of its own, which closes if this future is dropped. A
    /// connection of the pool would be waited for until its statement ends.
    async fn retry_set_aside(&self) -> Result<(), sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let is_halted = store::state(&mut conn).await?.halted_because.is_some();
        if is_halted || claim::next_due(&mut conn, &[Kind::Renewal]).await? != Some(Duration::ZERO) {
            return Ok(());
        }
        drop(conn);
        let mut conn = database::connect(self.pool.address(), Session::BACKGROUND).await?;
        for failed in set_aside::retry_due(&mut conn, RETRIES, RETRY_TIME).await? {
            tracing::error!(
                subscription.id = failed.stripe_subscription_id,
                error = failed.error,
                "the limits of a subscription cannot be renewed; it is set aside, and all others are renewed"
            );
        }
        conn.close().await
    }

    /// Deletes some old idempotency keys. Once none is left, it requests missing limits, which the worker creates, and
    /// returns true.
    async fn tidy(&self) -> Result<bool, sqlx::Error> {
        if store::forget_calls(&self.pool).await? > 0 {
            return Ok(false);
        }
        let customers = triggers::missing_limits(&mut self.pool.acquire().await?).await?;
        if customers > 0 {
            tracing::info!(customers, "limits are missing; the worker creates them");
        }
        Ok(true)
    }

    async fn set_rules(&self) -> Result<(), sqlx::Error> {
        let (anchor, past_due_active) = (self.sync.renewal_anchor.as_str(), self.sync.past_due_active);
        if store::set_rules(&mut self.pool.acquire().await?, anchor, past_due_active).await? {
            tracing::warn!(
                renewal_anchor = anchor,
                past_due_active,
                "the rules of renewal have changed; each subscription follows them from its next renewal or \
                 change on"
            );
        }
        Ok(())
    }

    /// Compares the clocks. While they disagree, no process renews.
    async fn clocks_agree(&self, halting: &mut bool) -> Result<bool, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let state = store::state(&mut conn).await?;
        let Some(wrong) = clock_skew::clock_skew(state.now, clock::now(), self.stripe.ahead()) else {
            if store::end_halt(&mut conn, std::mem::take(halting)).await? {
                tracing::warn!("the clocks agree again; limits are renewed");
                return Ok(true);
            }
            return Ok(state.halted_because.is_none());
        };
        store::halt(&mut conn, &wrong).await?;
        if !std::mem::replace(halting, true) {
            tracing::error!(
                "no limit is renewed: {wrong}; correct the clocks (NTP), then renewals resume and catch up"
            );
        }
        Ok(false)
    }

    async fn batch(&self, batch_size: AdaptiveBatchSize) -> Result<Batch, sqlx::Error> {
        let batch = batch::renew(&mut self.pool.acquire().await?, None, batch_size).await?;
        self.count(&batch.done, batch.subscriptions);
        Ok(batch)
    }

    fn count(&self, done: &[Renewed], subscriptions: usize) {
        let mut renewals: HashMap<&str, i64> = HashMap::new();
        for one in done {
            self.metrics.limits_renewed(one);
            *renewals.entry(one.outcome.as_str()).or_default() += one.renewals;
        }
        let of = |outcome: &str| renewals.get(outcome).copied().unwrap_or_default();
        if renewals.values().any(|count| *count > 0) {
            tracing::info!(
                subscriptions,
                renewed = of("renewed"),
                inactive = of("inactive"),
                trial_end = of("trial_end"),
                "limits renewed"
            );
        }
    }
}
