//! Renews limits when their time has come, and brings up those of which something changed. The role renewals of `serve`.
//!
//! Any number of schedulers run against one database: a claim skips what others hold. One batch is one transaction. Where
//! none runs nothing is lost, for `consume` renews what it touches, and the first one to come back catches up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::batch::{self, Batch};
use super::clocks;
use super::ledger;
use super::pace::Pace;
use super::set_aside;
use crate::clock::{self, Heard};
use crate::config::sync::SyncConfig;
use crate::database::{self, Session};
use crate::domain::renewal::Renewed;
use crate::jobs::{Kind, claim, watch};
use crate::metrics::instance::Instance;

/// How often it looks although nothing woke it: another process may have written what is due, and clocks may jump.
const POLL: Duration = Duration::from_secs(5);

/// Somebody holds all that is due: they end, or the next look finds others.
const HELD: Duration = Duration::from_secs(1);

/// No step takes as long as this unless the database does not answer.
const STEP_LIMIT: Duration = Duration::from_mins(1);

/// Retries of what is set aside in one round of their own.
const RETRIES: u64 = 20;

/// None of them begins after so long: with one that takes as long as a statement may, the round stays within its time.
const RETRY_TIME: Duration = Duration::from_secs(5);

/// How often it looks for old idempotency keys, and for limits that are lacking.
const TIDY_EVERY: Duration = Duration::from_hours(1);

/// What a scheduler needs.
#[derive(Clone)]
pub struct Scheduler {
    /// The database.
    pub pool: PgPool,
    /// The rules of renewal.
    pub sync: SyncConfig,
    /// Where it counts.
    pub metrics: Instance,
    /// Stripe's clock, where somebody asks Stripe.
    pub stripe: Heard,
    /// Wakes it before its time.
    pub wake: Arc<Notify>,
}

/// How far a round got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// There may be more at once.
    Busy,
    /// Something is due and somebody else holds it.
    Held,
    /// Nothing is due for so long.
    Idle(Option<Duration>),
    /// Nothing is renewed while the clocks disagree.
    Halted,
}

/// What a scheduler remembers from one round to the next.
struct Memory {
    pace: Pace,
    /// The rules were written.
    ready: bool,
    /// This process has stopped the renewals.
    halting: bool,
    /// When it last was tidied up.
    tidied: Option<Instant>,
}

/// Begins `work` again after a panic: a process that looks well and renews nothing would be the worst of all.
async fn restarting<W>(work: impl Fn() -> W)
where
    W: Future<Output = ()> + Send + 'static,
{
    while tokio::spawn(work()).await.is_err() {
        tracing::error!("the scheduler of renewals panicked and begins again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Scheduler {
    /// Works until `shutdown`; a batch in progress is finished first. What is set aside is retried beside the batches, which
    /// never wait for it.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::join!(
            restarting(|| self.clone().keep_renewing(shutdown.clone())),
            restarting(|| self.clone().keep_retrying(shutdown.clone())),
        );
    }

    async fn keep_renewing(self, shutdown: CancellationToken) {
        let mut memory = Memory { pace: Pace::default(), ready: false, halting: false, tidied: None };
        while !shutdown.is_cancelled() {
            let round = Box::pin(self.round(&mut memory));
            let pause = match database::until_answered(&self.pool, STEP_LIMIT, round).await {
                Some(Ok(Round::Busy)) => continue,
                Some(Ok(Round::Held)) => HELD,
                Some(Ok(Round::Idle(next))) => next.map_or(POLL, |next| next.min(POLL)),
                Some(Ok(Round::Halted)) => POLL,
                Some(Err(error)) => {
                    let error = match error {
                        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => {
                            database::unreachable_reason(&self.pool, &error).await
                        }
                        error => error.to_string(),
                    };
                    tracing::warn!(error, pause_seconds = POLL.as_secs(), "limits cannot be renewed now");
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

    async fn round(&self, memory: &mut Memory) -> Result<Round, sqlx::Error> {
        if !memory.ready {
            self.set_rules().await?;
            memory.ready = true;
        }
        if !self.clocks_agree(&mut memory.halting).await? {
            return Ok(Round::Halted);
        }
        if memory.tidied.is_none_or(|at| at.elapsed() > TIDY_EVERY) && self.tidy().await? {
            memory.tidied = Some(Instant::now());
        }
        // while there is a backlog, two at once: the database has more than one core for it
        let pace = memory.pace;
        let batches = if pace.is_behind() {
            let (first, second) = tokio::join!(self.batch(pace), self.batch(pace));
            vec![first?, second?]
        } else {
            vec![self.batch(pace).await?]
        };
        for batch in &batches {
            batch.set(&mut memory.pace);
        }
        if batches.iter().any(|batch| !batch.done.is_empty() || batch.timed_out) {
            return Ok(Round::Busy);
        }
        let next = ledger::next_due(&mut *self.pool.acquire().await?).await?;
        Ok(if next == Some(Duration::ZERO) { Round::Held } else { Round::Idle(next) })
    }

    /// Retries what is set aside until `shutdown`, which ends a retry in progress.
    async fn keep_retrying(self, shutdown: CancellationToken) {
        let retrying = async {
            loop {
                let round = Box::pin(self.retry_set_aside());
                if let Some(Err(error)) = database::until_answered(&self.pool, STEP_LIMIT, round).await {
                    tracing::debug!(%error, "what is set aside cannot be retried now");
                }
                tokio::time::sleep(POLL).await;
            }
        };
        shutdown.run_until_cancelled(retrying).await;
    }

    /// Retries subscriptions that were set aside. On a connection of its own, which closes where this is dropped: one of the
    /// pool would be waited for as long as its statement takes.
    async fn retry_set_aside(&self) -> Result<(), sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let is_halted = ledger::state(&mut conn).await?.halted_because.is_some();
        if is_halted || claim::next_due(&mut conn, &[Kind::Renewal]).await? != Some(Duration::ZERO) {
            return Ok(());
        }
        drop(conn);
        let mut conn = database::connect(&self.pool.connect_options(), Session::BACKGROUND).await?;
        for failed in set_aside::retry_due(&mut conn, RETRIES, RETRY_TIME).await? {
            tracing::error!(
                subscription.id = failed.stripe_subscription_id,
                error = failed.error,
                "the limits of a subscription cannot be renewed: it is set aside, and all others are renewed"
            );
        }
        conn.close().await
    }

    /// Forgets some old idempotency keys, and says whether that were all of them; then it asks for limits that are
    /// lacking, which is the worker's to do.
    async fn tidy(&self) -> Result<bool, sqlx::Error> {
        if ledger::forget_calls(&self.pool).await? > 0 {
            return Ok(false);
        }
        let customers = watch::lacking_limits(&mut *self.pool.acquire().await?).await?;
        if customers > 0 {
            tracing::info!(customers, "limits are lacking: the worker begins them");
        }
        Ok(true)
    }

    async fn set_rules(&self) -> Result<(), sqlx::Error> {
        let (anchor, past_due_active) = (self.sync.renewal_anchor.as_str(), self.sync.past_due_active);
        if ledger::set_rules(&mut *self.pool.acquire().await?, anchor, past_due_active).await? {
            tracing::warn!(
                renewal_anchor = anchor,
                past_due_active,
                "the rules of renewal are others than before; each subscription follows them from its next renewal or \
                 change on"
            );
        }
        Ok(())
    }

    /// Compares the clocks; while they disagree, nobody renews.
    async fn clocks_agree(&self, halting: &mut bool) -> Result<bool, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let state = ledger::state(&mut conn).await?;
        let Some(wrong) = clocks::disagreement(state.now, clock::now(), self.stripe.ahead()) else {
            if ledger::go_on(&mut conn, std::mem::take(halting)).await? {
                tracing::warn!("the clocks agree again: limits are renewed");
                return Ok(true);
            }
            return Ok(state.halted_because.is_none());
        };
        ledger::halt(&mut conn, &wrong).await?;
        if !std::mem::replace(halting, true) {
            tracing::error!(
                "no limit is renewed: {wrong}; put the clocks right (NTP), and renewals go on and catch up by themselves"
            );
        }
        Ok(false)
    }

    async fn batch(&self, pace: Pace) -> Result<Batch, sqlx::Error> {
        let batch = batch::renew(&mut *self.pool.acquire().await?, None, pace).await?;
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
