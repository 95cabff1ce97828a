//! The worker: turns stored events and due jobs into rows.
//!
//! ```text
//! outbox ──claim──▶ classify ──▶ apply: lock, merge, add facts, project, queue jobs ──▶ settle ──▶ commit
//!                   extract                    ▲                             │
//!                                          fetched ◀── fetch ◀── fetch, confirm jobs
//!                                              └────── reproject ◀── reproject jobs
//! ```
//!
//! One batch is one transaction (`batch`). If a batch fails, its events are isolated and retried individually
//! (`isolated`), so a poison event blocks no other event. `failure` classifies errors: does the attempt count, and
//! can a retry help? `classify` reads the events, `apply` carries out the changes, `project` computes the rows.
//!
//! Data that an event does not carry becomes a job: `fetch` reads it from Stripe, `reproject` recomputes rows. Any
//! number of workers run against one database; they share nothing but row locks.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod change_set;
pub mod classify;
mod context;
mod extract;
pub mod failure;
pub mod fetch;
pub(crate) mod fetched;
mod gather;
mod isolated;
mod listen;
pub(crate) mod merge_reads;
pub(crate) mod project;
mod reproject;
mod settings;
mod since;
mod state;

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::context::{Context, ProjectCustomer};
use self::failure::Failure;
pub(crate) use self::fetched::FetchedObject;
pub use self::settings::SettingsWatch;
use self::state::RoundResult;
pub use self::state::Worker;
use crate::base::retry::RetryPolicy;
use crate::database;
use crate::jobs;
pub(crate) use crate::mirror::incoming::Written;
use crate::outbox::attempt::Next;
use crate::outbox::claim;

/// Time limit of one step. Only an unresponsive database exceeds it: a step's longest waits are for locks, 2 s each.
const STEP_LIMIT: Duration = Duration::from_mins(2);

/// Interval between searches for events and jobs that are scheduled later than any delay allows.
const PULL_BACK_INTERVAL: Duration = Duration::from_mins(1);

/// Longest delay that no setting bounds: a renewal that is set aside, or a read that Stripe defers.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

impl Worker {
    /// Works until `shutdown`; a batch in progress is finished first.
    pub async fn run(mut self, mut wake: watch::Receiver<()>, shutdown: CancellationToken) {
        let mut failures = 0;
        self.gathers = true;
        while !shutdown.is_cancelled() {
            // before the work, so that an event stored meanwhile wakes this worker again
            wake.mark_unchanged();
            let pause = match self.drain(&shutdown).await {
                Ok(()) => {
                    failures = 0;
                    self.until_next_due().await
                }
                Err(failure) => {
                    failures += 1;
                    let pause = self.pause_after(failures);
                    tracing::warn!(
                        error = %failure,
                        database = database::target(&self.context.pool.address().options),
                        pause_seconds = pause.as_secs_f64(),
                        "worker iteration failed; retrying after a pause"
                    );
                    pause
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                Ok(()) = wake.changed(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Works until nothing is due any more, or `shutdown`.
    ///
    /// # Errors
    /// The failure of a step. Nothing is lost; the next call resumes.
    pub async fn drain(&mut self, shutdown: &CancellationToken) -> Result<(), Failure> {
        self.step(Self::release_attempts).await?;
        self.step(Self::recover).await?;
        self.step(Self::pull_back).await?;
        self.step(Self::refresh_settings).await?;
        while !shutdown.is_cancelled() {
            // in turns, so that no kind of work starves another: fresh events, retries, and events that failed through
            // another event of their batch
            self.step(Self::find_oldest).await?;
            let batch = self.step(Self::try_batch).await?;
            let untried = self.step(async |worker| worker.process_isolated(Next::Untried).await).await?;
            let isolated = self.step(async |worker| worker.process_isolated(Next::Any).await).await?;
            let reproject = self.step(Self::try_reproject).await?;
            if [batch, untried, isolated, reproject] == [RoundResult::Idle; 4] {
                break;
            }
            self.gather(shutdown).await;
        }
        Ok(())
    }

    /// Runs one step with a time limit. The limit is the only sign of a database host that vanished: its connections
    /// stay open.
    async fn step<T>(&mut self, step: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let pool = self.context.pool.clone();
        let result = database::until_answered(&pool, STEP_LIMIT, Box::pin(step(self))).await;
        let late = || Failure::Unavailable(format!("the database did not answer within {} s", STEP_LIMIT.as_secs()));
        result.unwrap_or_else(|| Err(late()))
    }

    /// Isolates the events in the batches of dead workers, so that each is retried individually.
    async fn recover(&mut self) -> Result<(), Failure> {
        let mut conn = self.context.pool.acquire().await?;
        let events = claim::recover_batches(&mut conn).await?;
        if events > 0 {
            tracing::warn!(events, "a worker died during a batch; its events are retried individually");
        }
        Ok(())
    }

    /// Writes the heartbeat, and puts back ignored events that this process's settings accept.
    async fn refresh_settings(&mut self) -> Result<(), Failure> {
        let Context { watch, sync, pool, .. } = &*self.context;
        watch.refresh(pool, sync).await
    }

    /// Makes events and jobs due that are scheduled later than any delay allows: the database's clock ran ahead when
    /// their time was written. Otherwise they would wait until the clock gets there.
    async fn pull_back(&mut self) -> Result<(), Failure> {
        if self.pulled_back_at.is_some_and(|at| at.elapsed() < PULL_BACK_INTERVAL) {
            return Ok(());
        }
        let config = &self.context.config;
        let longest = config.retry_max.max(config.attempt_lease).max(LONGEST_WAIT);
        let mut conn = self.context.pool.acquire().await?;
        let events = claim::pull_back(&mut conn, longest).await?;
        let jobs = jobs::claim::pull_back(&mut conn, longest).await?;
        if events + jobs > 0 {
            tracing::warn!(
                events,
                jobs,
                "events or jobs were scheduled too far ahead, because the database's clock was wrong; they are due now"
            );
        }
        self.pulled_back_at = Some(Instant::now());
        Ok(())
    }

    /// Lets events gather after a small batch. A shutdown ends it.
    async fn gather(&self, shutdown: &CancellationToken) {
        let remaining = self.gather.remaining(Instant::now());
        if self.gathers && !remaining.is_zero() {
            shutdown.run_until_cancelled(tokio::time::sleep(remaining)).await;
        }
    }

    /// Updates where the search for fresh events begins.
    async fn find_oldest(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        if let Some(from) = self.since.search_from(began) {
            let oldest = claim::oldest(&mut self.context.pool.acquire().await?, from).await?;
            self.since.found(oldest, from, began, Instant::now());
        }
        Ok(())
    }

    /// Time to sleep: until the next retry is due, at most the poll interval, because notifications can be lost.
    async fn until_next_due(&mut self) -> Duration {
        let poll = self.context.config.poll_interval;
        match self.step(Self::next_due).await {
            // due but not claimed: another worker has it
            Ok(Some(Duration::ZERO)) => poll.min(Duration::from_millis(100)),
            Ok(Some(due)) => due.min(poll),
            Ok(None) | Err(_) => poll,
        }
    }

    async fn next_due(&mut self) -> Result<Option<Duration>, Failure> {
        let mut conn = self.context.pool.acquire().await?;
        let event = claim::next_due(&mut conn, self.since.at()).await?;
        let job = jobs::claim::next_due(&mut conn, &[jobs::Kind::Reproject]).await?;
        Ok(event.into_iter().chain(job).min())
    }

    /// Pause that grows from 0.1 s to the poll interval. With jitter, because a database that is back is back for all
    /// workers at once.
    fn pause_after(&self, failures: u32) -> Duration {
        let (initial, max) = (Duration::from_millis(100), self.context.config.poll_interval);
        RetryPolicy { max_attempts: u32::MAX, initial, max }.unlimited(failures, fastrand::f64())
    }
}

/// Starts `config.workers` workers and the listener that wakes them; they end with `shutdown`.
pub async fn run_all(context: Context, shutdown: CancellationToken) {
    let tracker = TaskTracker::new();
    let (wake, woken) = watch::channel(());
    for _ in 0..context.config.workers {
        tracker.spawn(keep_running(context.clone(), woken.clone(), shutdown.clone()));
    }
    tracker.spawn(listen::run(context.pool.clone(), wake, context.shortage.clone(), shutdown));
    tracker.close();
    tracker.wait().await;
}

/// Runs a worker and restarts it after a panic. A panic in the mapping ends with its event. This is for a panic
/// elsewhere, after which the process would look healthy and process nothing.
async fn keep_running(context: Context, woken: watch::Receiver<()>, shutdown: CancellationToken) {
    while tokio::spawn(Worker::new(context.clone()).run(woken.clone(), shutdown.clone())).await.is_err() {
        tracing::error!("a worker panicked and restarts; its batch is retried individually");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
