//! The worker: takes what the receiver stored, and turns it into rows.
//!
//! One batch is one transaction: claim, lock, merge, project, settle. A batch that fails is taken apart and its
//! events are tried alone, so that a poison event stops nobody else. `failure` says what follows from one,
//! `resolve` and `project` are the two ends of the mapping, `effect` lies between them. What an event does not carry is
//! asked for by a job: `fetch` reads it from Stripe, `reproject` computes rows again. Any number of workers run against
//! one database; they meet in row locks only.

mod alone;
mod batch;
mod effect;
pub mod failure;
pub mod fetch;
mod gather;
mod listen;
pub(crate) mod part;
mod project;
pub(crate) mod reading;
pub mod rebuild;
mod reproject;
pub mod resolve;
mod settings;
mod since;
mod told;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::failure::Failure;
use self::gather::Gather;
use self::settings::Watch;
use self::since::Since;
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database;
use crate::database::shortage::Shortage;
use crate::jobs;
use crate::metrics::instance::Instance;
use crate::outbox::attempt::{Attempt, Next};
use crate::outbox::claim;
use crate::projection::graph::Graph;
use crate::projection::{self, CustomerRows, Rules};
use crate::retry::RetryPolicy;

/// The mapping of a customer and its subscriptions, as the worker calls it.
pub type ProjectCustomer = fn(&str, &Graph, &Rules) -> CustomerRows;

/// No step takes as long as this unless the database does not answer: its longest waits are for locks, 2 s each.
const STEP_LIMIT: Duration = Duration::from_mins(2);

/// How often it looks for what waits longer than it can.
const LOOK_AHEAD_EVERY: Duration = Duration::from_mins(1);

/// The longest wait whatever the settings say: of a renewal that is set aside, and of reads that Stripe puts off.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// What every part of the worker needs.
#[derive(Clone)]
pub struct Context {
    /// The database.
    pub pool: PgPool,
    /// Which events are ours, and the rules of the mapping.
    pub sync: SyncConfig,
    /// Sizes and times.
    pub config: WorkerConfig,
    /// Where it counts.
    pub metrics: Instance,
    /// The mapping of customers: a value, so that a test can put one in its place that panics.
    pub project_customer: ProjectCustomer,
    /// Somebody serves the jobs that need Stripe's API, so that they are asked for.
    pub fetches: bool,
    /// How far the version of a read stays behind its beginning, since reads may be stale.
    pub read_margin: Duration,
    /// Wakes the fetcher of this process.
    pub reads: Arc<Notify>,
    /// Wakes the scheduler of renewals of this process.
    pub limits: Arc<Notify>,
    /// Whether connections are short.
    pub shortage: Shortage,
    /// What this process has noticed about its settings.
    pub watch: Arc<Watch>,
}

impl Context {
    /// A context with the real mapping.
    pub fn new(pool: PgPool, sync: SyncConfig, config: WorkerConfig, metrics: Instance) -> Self {
        Self {
            pool,
            sync,
            config,
            metrics,
            project_customer: projection::customer,
            fetches: false,
            read_margin: Duration::ZERO,
            reads: Arc::new(Notify::new()),
            limits: Arc::new(Notify::new()),
            shortage: Shortage::default(),
            watch: Arc::default(),
        }
    }

    /// The same, with somebody who serves the jobs that need Stripe's API.
    #[must_use]
    pub fn with_fetches(self, read_margin: Duration) -> Self {
        Self { fetches: true, read_margin, ..self }
    }

    fn rules(&self) -> Rules {
        Rules { past_due_active: self.sync.past_due_active }
    }

    /// How long a job waits after this try. Jobs are never given up: they come back more and more rarely.
    fn backoff(&self, attempt: i32) -> Duration {
        self.retry_policy().endless(u32::try_from(attempt).unwrap_or(1), fastrand::f64())
    }

    fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.config.max_attempts,
            initial: self.config.retry_initial,
            max: self.config.retry_max,
        }
    }
}

/// One worker. `serve` runs as many as it is told to.
pub struct Worker {
    context: Arc<Context>,
    /// Attempts to take back: they were counted, and ended by no fault of their event, or their end is not known.
    owed: Vec<Attempt>,
    /// When it last looked for what waits longer than it can.
    looked: Option<Instant>,
    /// From when on it looks for fresh events.
    since: Since,
    /// It works until the shutdown, and lets events gather; what is only drained once does not wait for more.
    gathers: bool,
    /// What its last batch says of the next one.
    gather: Gather,
}

/// How far a round got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There may be more at once.
    Busy,
    /// Nothing is due.
    Idle,
}

impl Worker {
    /// A worker.
    pub fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            owed: Vec::new(),
            looked: None,
            since: Since::unknown(Instant::now()),
            gathers: false,
            gather: Gather::default(),
        }
    }

    /// Works until `shutdown`; a batch at work is finished first.
    pub async fn run(mut self, mut wake: watch::Receiver<()>, shutdown: CancellationToken) {
        let mut failures = 0;
        self.gathers = true;
        while !shutdown.is_cancelled() {
            // before the work: what is stored during it wakes us again
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
                        database = database::target(&self.context.pool.connect_options()),
                        pause_seconds = pause.as_secs_f64(),
                        "the worker cannot work and will try again"
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
    /// What kept it from working; nothing is lost, and calling it again goes on.
    pub async fn drain(&mut self, shutdown: &CancellationToken) -> Result<(), Failure> {
        self.step(Self::pay_back).await?;
        self.step(Self::recover).await?;
        self.step(Self::pull_back).await?;
        self.step(Self::keep_settings).await?;
        while !shutdown.is_cancelled() {
            // in turns, so that neither a flood of fresh events nor many retries starve the others, nor those that failed
            // for another event of their batch
            self.step(Self::look_for_oldest).await?;
            let batch = self.step(Self::try_batch).await?;
            let untried = self.step(async |worker| worker.try_alone(Next::Untried).await).await?;
            let alone = self.step(async |worker| worker.try_alone(Next::Any).await).await?;
            let reproject = self.step(Self::try_reproject).await?;
            if [batch, untried, alone, reproject] == [Round::Idle; 4] {
                break;
            }
            self.gather(shutdown).await;
        }
        Ok(())
    }

    /// One step of the work. Ends also where the database host vanished without a word: its connections stay open, and
    /// nothing else would ever tell.
    async fn step<T>(&mut self, step: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let pool = self.context.pool.clone();
        let result = database::until_answered(&pool, STEP_LIMIT, Box::pin(step(self))).await;
        let late = || Failure::Away(format!("the database did not answer within {} s", STEP_LIMIT.as_secs()));
        result.unwrap_or_else(|| Err(late()))
    }

    /// Sends the batches of dead workers to be tried one by one.
    async fn recover(&mut self) -> Result<(), Failure> {
        let mut conn = self.context.pool.acquire().await?;
        let events = claim::recover_batches(&mut conn).await?;
        if events > 0 {
            tracing::warn!(events, "a worker died during a batch: its events are tried one by one");
        }
        Ok(())
    }

    /// Makes due what waits longer than it can, because the database's clock ran ahead when it was put back. Without this it
    /// would wait until the clock gets there.
    async fn pull_back(&mut self) -> Result<(), Failure> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_AHEAD_EVERY) {
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
                "waited for a time that lies too far ahead, and are due now: the database's clock was wrong"
            );
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    /// Lets events gather after a small batch. A shutdown ends it.
    async fn gather(&self, shutdown: &CancellationToken) {
        let rest = self.gather.rest(Instant::now());
        if self.gathers && !rest.is_zero() {
            shutdown.run_until_cancelled(tokio::time::sleep(rest)).await;
        }
    }

    /// Finds out from when on to look for fresh events.
    async fn look_for_oldest(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        if let Some(from) = self.since.to_look_from(began) {
            let oldest = claim::oldest(&mut *self.context.pool.acquire().await?, from).await?;
            self.since.found(oldest, from, began, Instant::now());
        }
        Ok(())
    }

    /// The time to sleep: until the next retry is due, at most the poll interval, which also covers lost wake-ups.
    async fn until_next_due(&mut self) -> Duration {
        let poll = self.context.config.poll_interval;
        match self.step(Self::next_due).await {
            // due already and yet not claimed: another worker has it
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

    /// Grows from a tenth of a second to the poll interval: the database is away, and comes back for all at once.
    fn pause_after(&self, failures: u32) -> Duration {
        let (initial, max) = (Duration::from_millis(100), self.context.config.poll_interval);
        RetryPolicy { max_attempts: u32::MAX, initial, max }.endless(failures, fastrand::f64())
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

/// A worker that begins again after a panic. Panics in the mapping end with their event; this is for one of ours
/// elsewhere, after which a process that looks well and processes nothing would be the worst of all.
async fn keep_running(context: Context, woken: watch::Receiver<()>, shutdown: CancellationToken) {
    while tokio::spawn(Worker::new(context.clone()).run(woken.clone(), shutdown.clone())).await.is_err() {
        tracing::error!("a worker panicked and begins again: its batch is tried one by one");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
