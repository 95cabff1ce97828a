//! The fetcher: reads from Stripe what events do not carry, and the state of objects whose order of events is
//! ambiguous.
//!
//! Jobs are leased, and requests to Stripe are made outside any transaction. A result is merged in the same way as an
//! event, at the version of the read, so a newer event is never overwritten. A fetcher runs beside the workers wherever
//! there is an API key; any number of them share the jobs.

pub(crate) mod object_reader;
mod outcome;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::object_reader::{FetchedObjects, ObjectReader};
use super::batch::{begin, contain_panics};
use super::context::Context;
use super::failure::Failure;
use crate::client::{ApiError, StripeApi, Urgency};
use crate::database::Pool;
use crate::domain::object::ObjectKey;
use crate::jobs::{Job, Kind, claim, settle, triggers};
use crate::metrics::batch::Step;
use crate::mirror::store;
use crate::stripe::json::Document;
use crate::stripe_key::check::{Access, KeyCheck};

/// Lease of a job, longer than any job takes: some dozen requests with their retries.
const LEASE: Duration = Duration::from_mins(10);

/// Interval between searches for overdue trials.
const TRIAL_SEARCH_INTERVAL: Duration = Duration::from_mins(1);

/// The kinds of job that a fetcher serves, in this order.
const READS: [Kind; 2] = [Kind::Fetch, Kind::Confirm];

/// Reads objects from Stripe for the queued jobs.
#[derive(Clone)]
pub struct Fetcher {
    context: Arc<Context>,
    api: Arc<dyn StripeApi>,
    key_check: Arc<KeyCheck>,
    /// Maximum number of jobs in progress.
    concurrency: usize,
}

/// Why a job did not complete.
enum JobError {
    /// The request to Stripe failed.
    Api(ApiError),
    /// The database or the mapping failed.
    Work(Failure),
}

impl Fetcher {
    /// A fetcher with up to `concurrency` jobs in progress.
    pub fn new(context: Context, api: Arc<dyn StripeApi>, concurrency: usize) -> Self {
        let key_check = Arc::new(KeyCheck::new(context.read_margin));
        Self { context: Arc::new(context), api, key_check, concurrency }
    }

    /// The pool of the fetcher.
    pub fn pool(&self) -> Pool {
        self.context.pool.clone()
    }

    /// Works until `shutdown`; jobs in progress are finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut trials_searched: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            // before the work, so that a job queued meanwhile wakes this fetcher again
            let woken = self.context.reads.notified();
            if trials_searched.is_none_or(|at| at.elapsed() > TRIAL_SEARCH_INTERVAL) {
                trials_searched = Some(Instant::now());
                self.queue_overdue_trials().await;
            }
            let pause = match self.drain(&shutdown).await {
                Ok(pause) => pause,
                Err(failure) => {
                    tracing::warn!(error = %failure, "objects could not be fetched; retrying after a pause");
                    self.context.config.poll_interval
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Works until no job is due any more; returns how long to sleep.
    ///
    /// # Errors
    /// The failure of the database. Nothing is lost; the next call resumes.
    pub async fn drain(&self, shutdown: &CancellationToken) -> Result<Duration, Failure> {
        let mut in_progress = JoinSet::new();
        loop {
            let idle = if shutdown.is_cancelled() { Vec::new() } else { self.claim(in_progress.len()).await? };
            for job in idle {
                let fetcher = self.clone();
                in_progress.spawn(async move { fetcher.serve(job).await });
            }
            match in_progress.join_next().await {
                None => return self.pause().await,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(failure))) => {
                    while in_progress.join_next().await.is_some() {}
                    return Err(failure);
                }
                // panics are contained in the job, so this is the runtime shutting down
                Some(Err(_)) => return Err(Failure::Unavailable("the runtime is shutting down".to_owned())),
            }
        }
    }

    /// Claims as many jobs as may still be started, fetches first. The key is checked only if there is a job.
    async fn claim(&self, in_progress: usize) -> Result<Vec<Job>, Failure> {
        let mut free = self.concurrency.saturating_sub(in_progress);
        if free == 0 {
            return Ok(Vec::new());
        }
        let mut conn = self.context.pool.acquire().await?;
        if claim::next_due(&mut conn, &READS).await? != Some(Duration::ZERO) || self.is_blocked().await? {
            return Ok(Vec::new());
        }
        let mut jobs = Vec::new();
        for kind in READS {
            let limit = i64::try_from(free).unwrap_or(i64::MAX);
            let claimed = claim::due(&mut conn, kind, limit, LEASE).await?;
            free = free.saturating_sub(claimed.len());
            jobs.extend(claimed);
            if free == 0 {
                break;
            }
        }
        Ok(jobs)
    }

    /// Whether requests to the API are blocked.
    async fn is_blocked(&self) -> Result<bool, Failure> {
        let pass = self.key_check.access(self.api.as_ref(), &self.context.pool, &self.context.metrics).await?;
        Ok(matches!(pass, Access::Blocked(_)))
    }

    async fn pause(&self) -> Result<Duration, Failure> {
        if let Some(left) = self.key_check.blocked_for().await {
            return Ok(left);
        }
        let poll = self.context.config.poll_interval;
        let mut conn = self.context.pool.acquire().await?;
        let due = claim::next_due(&mut conn, &READS).await?;
        Ok(due.unwrap_or(poll).clamp(Duration::from_millis(100).min(poll), poll))
    }

    /// Queues the jobs that only the passing of time requires.
    async fn queue_overdue_trials(&self) {
        let queued = async { triggers::overdue_trials(&mut self.context.pool.acquire().await?).await };
        if let Err(error) = queued.await {
            tracing::debug!(%error, "could not search for overdue trials; retrying in a minute");
        }
    }

    /// Processes one job.
    async fn serve(&self, job: Job) -> Result<(), Failure> {
        match self.try_serve(&job).await {
            Ok(()) => Ok(()),
            Err(JobError::Work(failure @ Failure::Unavailable(_))) => Err(failure),
            Err(halt) => self.put_back(&job, halt).await,
        }
    }

    async fn try_serve(&self, job: &Job) -> Result<(), JobError> {
        let (object_type, id) = self.read_target(&job.key).await.map_err(JobError::Work)?;
        let urgency = if job.kind == Kind::Confirm { Urgency::Confirm } else { Urgency::Normal };
        let reader = ObjectReader::new(self.api.as_ref(), &job.key.account, urgency, self.context.read_margin);
        let found = reader.read_object(&object_type, &id).await.map_err(JobError::Api)?;
        self.require_verified(&found).await?;
        let context = Arc::clone(&self.context);
        let job = job.clone();
        let work = async move {
            let mut tx = begin(&context).await?;
            let mut stats = outcome::store(&mut tx, &context, &job, found).await?;
            stats.watch.done(Step::Settle);
            tx.commit().await?;
            stats.watch.done(Step::Commit);
            stats.count(&context);
            Ok(())
        };
        contain_panics(work).await.map_err(JobError::Work)
    }

    /// What is read for a job: the object itself, or its carrier.
    async fn read_target(&self, key: &ObjectKey) -> Result<(String, String), Failure> {
        if object_reader::is_readable(&key.object_type) {
            return Ok((key.object_type.clone(), key.object_id.clone()));
        }
        let mut conn = self.context.pool.acquire().await?;
        let row = store::load(&mut conn, std::iter::once(key)).await?.pop();
        let content = row.and_then(|row| row.content).map(|content| content.json).unwrap_or_default();
        let carrier = object_reader::carrier(&key.object_type, Document::parse_or_null(content).root());
        Ok(carrier.map_or_else(|| (key.object_type.clone(), key.object_id.clone()), |(kind, id)| (kind.to_owned(), id)))
    }

    /// A 404 counts only once the key is verified: with the key of another account, nothing is found.
    async fn require_verified(&self, found: &FetchedObjects) -> Result<(), JobError> {
        if found.parts.iter().all(|part| part.json.is_some() || !part.key.account.is_empty()) {
            return Ok(());
        }
        let pass = self.key_check.access(self.api.as_ref(), &self.context.pool, &self.context.metrics).await;
        match pass.map_err(|error| JobError::Work(error.into()))? {
            Access::Verified => Ok(()),
            Access::Unverified | Access::Blocked(_) => Err(JobError::Api(ApiError::unavailable(
                "stripe has no such object, but no stored event confirms that the key belongs to this account; it is read again",
            ))),
        }
    }

    /// Puts a job back. An error that the job did not cause does not count as an attempt.
    async fn put_back(&self, job: &Job, halt: JobError) -> Result<(), Failure> {
        let backoff = self.context.backoff(job.attempt);
        // the client logs a missing permission once, not for each job that needs it
        let is_logged = matches!(&halt, JobError::Api(error) if error.is_forbidden());
        let (delay, cost, error) = match halt {
            JobError::Work(failure) => (backoff, true, failure.to_string()),
            JobError::Api(error) => {
                if matches!(error, ApiError::Unauthorised { .. }) && job.key.account.is_empty() {
                    self.key_check.block(&error, &self.context.metrics).await;
                }
                let (delay, cost) = retry_delay(&error, backoff);
                (delay, cost, error.to_string())
            }
        };
        let (object_type, object_id) = (&job.key.object_type, &job.key.object_id);
        if is_logged {
            tracing::debug!(object.r#type = object_type, object.id = object_id, error, "a job waits for a permission");
        } else {
            tracing::warn!(
                object.r#type = object_type,
                object.id = object_id,
                error,
                "a job failed; it will be retried"
            );
        }
        let mut tx = begin(&self.context).await?;
        settle::put_back(&mut tx, job, delay, cost, Some(&error)).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// How long a job waits after an API error, and whether the attempt counts.
fn retry_delay(error: &ApiError, backoff: Duration) -> (Duration, bool) {
    match error {
        ApiError::RateLimited { retry_after, .. } => (retry_after.unwrap_or(backoff), false),
        // caused by the key, not by the job
        ApiError::Unauthorised { .. } => (backoff, false),
        ApiError::Unavailable { retry_after, .. } => (retry_after.unwrap_or(backoff).max(backoff), true),
        _ => (backoff, true),
    }
}
