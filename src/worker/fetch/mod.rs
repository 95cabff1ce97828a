//! The fetcher: asks Stripe for what the events did not carry, and for what their order did not tell.
//!
//! Jobs are leased, Stripe is asked outside any transaction, and what comes back goes through the same merge as
//! events do, at the version at which it was read: a newer event is never overwritten. Runs beside the workers wherever
//! there is an API key; any number of them share the jobs.

pub mod guard;
pub(crate) mod look_up;
mod outcome;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::guard::{Guard, Pass};
use self::look_up::{LookUp, Reader};
use super::Context;
use super::batch::{begin, contain_panics};
use super::failure::Failure;
use crate::client::{ApiError, StripeApi, Urgency};
use crate::domain::object::ObjectKey;
use crate::jobs::{Job, Kind, claim, settle, watch};
use crate::metrics::batch::Step;
use crate::mirror::rows;
use crate::stripe::json::Document;

/// Longer than any job takes: some dozen requests with their retries.
const LEASE: Duration = Duration::from_mins(10);

/// How often trials that should be over are looked for.
const WATCH: Duration = Duration::from_mins(1);

/// What is served here, in the order in which it is served.
const READS: [Kind; 2] = [Kind::Fetch, Kind::Confirm];

/// Asks Stripe, for as long as there are jobs.
#[derive(Clone)]
pub struct Fetcher {
    context: Arc<Context>,
    api: Arc<dyn StripeApi>,
    guard: Arc<Guard>,
    /// Jobs at work at once.
    concurrency: usize,
}

/// Why a job did not come to its end.
enum Halt {
    /// Stripe did not answer as it should.
    Api(ApiError),
    /// The database or the mapping failed.
    Work(Failure),
}

impl Fetcher {
    /// A fetcher that has up to `concurrency` jobs at work.
    pub fn new(context: Context, api: Arc<dyn StripeApi>, concurrency: usize) -> Self {
        let guard = Arc::new(Guard::new(context.read_margin));
        Self { context: Arc::new(context), api, guard, concurrency }
    }

    /// Its connections.
    pub fn pool(&self) -> PgPool {
        self.context.pool.clone()
    }

    /// Works until `shutdown`; jobs at work are finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut watched: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            // before the work: what is asked for during it wakes us again
            let asked = self.context.reads.notified();
            if watched.is_none_or(|at| at.elapsed() > WATCH) {
                watched = Some(Instant::now());
                self.watch().await;
            }
            let pause = match self.drain(&shutdown).await {
                Ok(pause) => pause,
                Err(failure) => {
                    tracing::warn!(error = %failure, "objects cannot be fetched and will be asked for again");
                    self.context.config.poll_interval
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = asked => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Works until no job is due any more; returns how long to sleep.
    ///
    /// # Errors
    /// What kept it from working; nothing is lost, and calling it again goes on.
    pub async fn drain(&self, shutdown: &CancellationToken) -> Result<Duration, Failure> {
        let mut at_work = JoinSet::new();
        loop {
            let idle = if shutdown.is_cancelled() { Vec::new() } else { self.claim(at_work.len()).await? };
            for job in idle {
                let fetcher = self.clone();
                at_work.spawn(async move { fetcher.serve(job).await });
            }
            match at_work.join_next().await {
                None => return self.pause().await,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(failure))) => {
                    while at_work.join_next().await.is_some() {}
                    return Err(failure);
                }
                // contained where it matters: what is left is the runtime going down
                Some(Err(_)) => return Err(Failure::Away("the runtime is shutting down".to_owned())),
            }
        }
    }

    /// Claims as many jobs as are free to be worked on, fetches first. The key is looked at only where there is a job.
    async fn claim(&self, at_work: usize) -> Result<Vec<Job>, Failure> {
        let mut free = self.concurrency.saturating_sub(at_work);
        if free == 0 {
            return Ok(Vec::new());
        }
        let mut conn = self.context.pool.acquire().await?;
        if claim::next_due(&mut conn, &READS).await? != Some(Duration::ZERO) || self.is_shut().await? {
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

    /// Whether the API must not be asked.
    async fn is_shut(&self) -> Result<bool, Failure> {
        let pass = self.guard.pass(self.api.as_ref(), &self.context.pool, &self.context.metrics).await?;
        Ok(matches!(pass, Pass::Shut(_)))
    }

    async fn pause(&self) -> Result<Duration, Failure> {
        if let Some(left) = self.guard.shut_for().await {
            return Ok(left);
        }
        let poll = self.context.config.poll_interval;
        let mut conn = self.context.pool.acquire().await?;
        let due = claim::next_due(&mut conn, &READS).await?;
        Ok(due.unwrap_or(poll).clamp(Duration::from_millis(100).min(poll), poll))
    }

    /// Asks for what only the passing of time asks for.
    async fn watch(&self) {
        let asked = async { watch::overdue_trials(&mut *self.context.pool.acquire().await?).await };
        if let Err(error) = asked.await {
            tracing::debug!(%error, "trials that should be over could not be looked for; trying again in a minute");
        }
    }

    /// Takes one job through.
    async fn serve(&self, job: Job) -> Result<(), Failure> {
        match self.try_serve(&job).await {
            Ok(()) => Ok(()),
            Err(Halt::Work(failure @ Failure::Away(_))) => Err(failure),
            Err(halt) => self.put_back(&job, halt).await,
        }
    }

    async fn try_serve(&self, job: &Job) -> Result<(), Halt> {
        let (object_type, id) = self.reading(&job.key).await.map_err(Halt::Work)?;
        let urgency = if job.kind == Kind::Confirm { Urgency::Confirm } else { Urgency::Normal };
        let reader = Reader::new(self.api.as_ref(), &job.key.account, urgency, self.context.read_margin);
        let found = reader.look_up(&object_type, &id).await.map_err(Halt::Api)?;
        self.trust(&found).await?;
        let context = Arc::clone(&self.context);
        let job = job.clone();
        let work = async move {
            let mut tx = begin(&context).await?;
            let mut tally = outcome::store(&mut tx, &context, &job, found).await?;
            tally.watch.done(Step::Settle);
            tx.commit().await?;
            tally.watch.done(Step::Commit);
            tally.count(&context);
            Ok(())
        };
        contain_panics(work).await.map_err(Halt::Work)
    }

    /// What is read for a job: the object itself, or whatever carries it.
    async fn reading(&self, key: &ObjectKey) -> Result<(String, String), Failure> {
        if look_up::is_readable(&key.object_type) {
            return Ok((key.object_type.clone(), key.object_id.clone()));
        }
        let mut conn = self.context.pool.acquire().await?;
        let row = rows::load(&mut conn, std::iter::once(key)).await?.pop();
        let content = row.and_then(|row| row.content).map(|content| content.json).unwrap_or_default();
        let carrier = look_up::carrier(&key.object_type, Document::parse_or_null(content).root());
        Ok(carrier.map_or_else(|| (key.object_type.clone(), key.object_id.clone()), |(kind, id)| (kind.to_owned(), id)))
    }

    /// Before it is proven that the key is of our account, finding nothing means nothing.
    async fn trust(&self, found: &LookUp) -> Result<(), Halt> {
        if found.parts.iter().all(|part| part.json.is_some() || !part.key.account.is_empty()) {
            return Ok(());
        }
        let pass = self.guard.pass(self.api.as_ref(), &self.context.pool, &self.context.metrics).await;
        match pass.map_err(|error| Halt::Work(error.into()))? {
            Pass::Proven => Ok(()),
            Pass::Unproven | Pass::Shut(_) => Err(Halt::Api(ApiError::unavailable(
                "not found, and no stored event shows that the key is of our account",
            ))),
        }
    }

    /// Puts a job back: what is no fault of the job costs no try.
    async fn put_back(&self, job: &Job, halt: Halt) -> Result<(), Failure> {
        let backoff = self.context.backoff(job.attempt);
        // a missing permission is logged once by the client, not for each job that needs it
        let is_said = matches!(&halt, Halt::Api(error) if error.is_forbidden());
        let (delay, cost, error) = match halt {
            Halt::Work(failure) => (backoff, true, failure.to_string()),
            Halt::Api(error) => {
                if matches!(error, ApiError::Unauthorised { .. }) && job.key.account.is_empty() {
                    self.guard.shut(&error, &self.context.metrics).await;
                }
                let (delay, cost) = waiting(&error, backoff);
                (delay, cost, error.to_string())
            }
        };
        let (object_type, object_id) = (&job.key.object_type, &job.key.object_id);
        if is_said {
            tracing::debug!(object.r#type = object_type, object.id = object_id, error, "a job waits for a permission");
        } else {
            tracing::warn!(
                object.r#type = object_type,
                object.id = object_id,
                error,
                "a job failed and will be tried again"
            );
        }
        let mut tx = begin(&self.context).await?;
        settle::put_back(&mut tx, job, delay, cost, Some(&error)).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// How long a job waits after an error of the API, and whether the try counts.
fn waiting(error: &ApiError, backoff: Duration) -> (Duration, bool) {
    match error {
        ApiError::RateLimited { retry_after, .. } => (retry_after.unwrap_or(backoff), false),
        // the key is the reason, and not the job
        ApiError::Unauthorised { .. } => (backoff, false),
        ApiError::Unavailable { retry_after, .. } => (retry_after.unwrap_or(backoff).max(backoff), true),
        _ => (backoff, true),
    }
}
