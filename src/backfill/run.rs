//! Runs a backfill, new or resumed, to its end: lists, unlisted objects, all rows, missing objects.
//!
//! Keeps up to `concurrency` pages in flight, splits ranges while a slot is free, and waits when Stripe asks for it.
//! All state that must survive is in the database. Called by the command, which receives progress events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::coverage::ListCoverage;
use super::list::List;
use super::page::{self, Outcome, Stored};
use super::range::{OLDEST, Range};
use super::range_store;
use super::run_store::{self, Counts, Run, Stage};
use super::session::{Backfill, Stop};
use super::unlisted;
use crate::base::waits::Waiting;
use crate::domain::object::ObjectKey;
use crate::jobs::pending::{self, PendingReads};
use crate::jobs::requests::{self, JobRequests};
use crate::rebuild::run::Rebuild;
use crate::rebuild::store as rebuild_store;
use crate::reconcile::state;
use crate::worker::fetch::Fetcher;

/// Heartbeat interval.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// Stored objects of a stage after which the tables are analyzed first; then again whenever the number has doubled.
const ANALYZE_FIRST: usize = 500;

/// Maximum number of objects queued in one transaction.
const QUEUE_SIZE: i64 = 1000;

/// Time without progress after which the remaining fetches are left to the service.
const FETCH_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Progress of a run, for display.
#[derive(Debug, Clone, PartialEq)]
pub enum ProgressEvent {
    /// A page is stored.
    Page {
        /// The list.
        list: List,
        /// Number of objects on the page.
        objects: usize,
        /// Rows that changed.
        changes: usize,
        /// Objects that could not be stored.
        failed: usize,
        /// Share of all lists that is read, from 0 to 1, by creation time; the density of the rest is unknown.
        read: f64,
    },
    /// A list cannot be read to its end.
    Failed {
        /// The list.
        list: List,
        /// Reason.
        why: String,
    },
    /// This many unlisted objects were queued.
    Unlisted(usize),
    /// All rows are projected again from now on: so many objects, of which so many were done before.
    Projecting {
        /// Number of all objects.
        total: u64,
        /// Objects that an interrupted run has projected.
        before: u64,
    },
    /// Rows were projected again.
    Projected {
        /// Number of objects.
        objects: usize,
        /// Rows that changed.
        changes: usize,
    },
    /// This many objects still have to be fetched individually.
    Remaining(u64),
}

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Counts of the listing stage.
    pub counts: Counts,
    /// Rows that changed when all rows were projected again.
    pub projected: usize,
    /// Queued objects that could not be fetched yet, with the reasons; at most a hundred.
    pub unfetched: Vec<(String, String)>,
    /// Number of all queued objects that are not fetched yet.
    pub remaining: u64,
}

impl Report {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        let counts = &self.counts;
        let lists =
            counts.failed_lists.is_empty() && counts.unsupported_lists.is_empty() && counts.forbidden.is_empty();
        lists && counts.failed.is_empty() && self.remaining == 0
    }
}

/// A range that waits for a free slot.
struct QueuedRange {
    range: Range,
    /// Failed tries of its page.
    tries: u32,
    not_before: Instant,
    /// The registered wait for the next try.
    _waiting: Option<Waiting>,
}

impl QueuedRange {
    fn now(range: Range) -> Self {
        Self { range, tries: 0, not_before: Instant::now(), _waiting: None }
    }
}

impl Backfill {
    /// Runs the remaining stages of `run` and reports progress to `notify`. Lists or objects that cannot be read are
    /// not an error: the report names them. The run stays unfinished if a list is not read to its end.
    ///
    /// # Errors
    /// Errors that stop the whole run; it can be resumed.
    pub async fn run(self: &Arc<Self>, run: &Run, notify: &mut impl FnMut(ProgressEvent)) -> Result<Report, Stop> {
        if run.stage == Stage::Listing {
            self.list(run, notify).await?;
            let counts = self.counts(run).await?;
            if !counts.failed_lists.is_empty() {
                return Ok(Report { counts, ..Report::default() });
            }
            self.enter(run, Stage::Sweeping).await?;
        }
        if run.stage <= Stage::Sweeping {
            self.queue_unlisted(run, notify).await?;
            self.enter(run, Stage::Projecting).await?;
        }
        let mut report = Report::default();
        if run.stage <= Stage::Projecting {
            report.projected = self.project(run, notify).await?;
            self.enter(run, Stage::Fetching).await?;
        }
        (report.remaining, report.unfetched) = self.fetch(run, notify).await?;
        report.counts = self.counts(run).await?;
        if run.created_after.is_none() && report.is_complete() {
            self.close_gaps(run).await?;
        }
        let finished = run_store::finish(&mut self.context.pool.acquire().await?, run).await?;
        if finished { Ok(report) } else { Err(Stop::LeaseLost) }
    }

    /// Closes the event gaps from before this run: Stripe no longer lists events that were missed in them, but the run
    /// has read the objects that they changed.
    async fn close_gaps(&self, run: &Run) -> Result<(), Stop> {
        let mut conn = self.context.pool.acquire().await?;
        let Some(first_version) = run_store::first_page_version(&mut conn, run).await? else { return Ok(()) };
        for account in &self.accounts {
            if state::close_gap(&mut conn, account, first_version).await? {
                tracing::info!(account, "closed the event gap: this backfill read all objects");
            }
        }
        Ok(())
    }

    async fn counts(&self, run: &Run) -> Result<Counts, Stop> {
        Ok(run_store::counts(&mut self.context.pool.acquire().await?, run).await?)
    }

    async fn enter(&self, run: &Run, stage: Stage) -> Result<(), Stop> {
        let moved = run_store::enter(&mut self.context.pool.acquire().await?, run, stage).await?;
        if moved { Ok(()) } else { Err(Stop::LeaseLost) }
    }

    async fn heartbeat(&self, run: &Run, first_version: Option<time::OffsetDateTime>) -> Result<(), Stop> {
        let last_heartbeat = run_store::heartbeat(&mut self.context.pool.acquire().await?, run, first_version).await?;
        if last_heartbeat { Ok(()) } else { Err(Stop::LeaseLost) }
    }

    /// Reads all ranges to their ends, stage by stage.
    async fn list(self: &Arc<Self>, run: &Run, notify: &mut impl FnMut(ProgressEvent)) -> Result<(), Stop> {
        let mut conn = self.context.pool.acquire().await?;
        let (open, mut first_version) =
            (range_store::open(&mut conn, run.id).await?, run_store::first_page_version(&mut conn, run).await?);
        drop(conn);
        let mut ready: VecDeque<QueuedRange> = open.into_iter().map(QueuedRange::now).collect();
        let mut coverage =
            ListCoverage::new(ready.iter().map(|one| &one.range), self.floor.unwrap_or(OLDEST), self.accounts.len());
        let mut in_flight = JoinSet::new();
        let mut stages: BTreeMap<u8, usize> = BTreeMap::new();
        let mut last_heartbeat = Instant::now();
        let mut growth = BTreeMap::new();
        loop {
            let queued = ready.iter().map(|one| one.range.list.stage());
            let Some(stage) = queued.chain(stages.keys().copied()).min() else { return Ok(()) };
            while in_flight.len() < self.concurrency {
                let now = Instant::now();
                let of_stage = |one: &QueuedRange| one.range.list.stage() == stage && one.not_before <= now;
                let Some(index) = ready.iter().position(of_stage) else { break };
                let Some(QueuedRange { range, tries, .. }) = ready.remove(index) else { break };
                let others = ready.iter().filter(|one| one.range.list.stage() == stage).count();
                let split = in_flight.len() + 1 + others < self.concurrency;
                let (backfill, run) = (Arc::clone(self), run.clone());
                *stages.entry(stage).or_default() += 1;
                in_flight.spawn(async move {
                    (range.list, tries, page::step(&backfill, &run, range, split, first_version).await)
                });
            }
            let waits = ready.iter().filter(|one| one.range.list.stage() == stage).map(|one| one.not_before).min();
            let soon = Instant::now() + HEARTBEAT_INTERVAL;
            let wake = waits.filter(|_| in_flight.len() < self.concurrency).map_or(soon, |at| at.min(soon));
            tokio::select! {
                Some(ended) = in_flight.join_next() => {
                    // panics of the merge are caught inside the task; otherwise the runtime is shutting down
                    let Ok((list, tries, outcome)) = ended else { return Err(Stop::LeaseLost) };
                    if let Some(count) = stages.get_mut(&list.stage()) {
                        *count -= 1;
                    }
                    stages.retain(|_, count| *count > 0);
                    let outcome = outcome?;
                    if let (Outcome::Stored(Stored { version, .. }), None) = (&outcome, first_version) {
                        first_version = Some(*version);
                        self.heartbeat(run, first_version).await?;
                    }
                    // counted by stage, because each stage fills other tables
                    let (stored, next_look) = growth.entry(list.stage()).or_insert((0, ANALYZE_FIRST));
                    if let Outcome::Stored(page) = &outcome {
                        *stored += page.objects;
                    }
                    if stored >= next_look {
                        *next_look = 2 * *stored;
                        run_store::analyze(&mut self.context.pool.acquire().await?).await?;
                    }
                    self.apply_outcome(list, tries, outcome, &mut ready, &mut coverage, notify).await?;
                }
                () = sleep_until(wake) => {}
            }
            if last_heartbeat.elapsed() > HEARTBEAT_INTERVAL {
                self.heartbeat(run, None).await?;
                last_heartbeat = Instant::now();
            }
        }
    }

    /// Applies the result of a page.
    async fn apply_outcome(
        &self,
        list: List,
        tries: u32,
        outcome: Outcome,
        ready: &mut VecDeque<QueuedRange>,
        coverage: &mut ListCoverage,
        notify: &mut impl FnMut(ProgressEvent),
    ) -> Result<(), Stop> {
        match outcome {
            Outcome::Stored(Stored { rest, split, objects, changes, failed, .. }) => {
                ready.extend(rest.into_iter().chain(split).map(QueuedRange::now));
                coverage.update(list, ready.iter().map(|one| &one.range));
                notify(ProgressEvent::Page { list, objects, changes, failed, read: coverage.fraction() });
            }
            Outcome::Requeue(range) => ready.push_back(QueuedRange::now(range)),
            Outcome::Retry { range, wait, awaited, why } => {
                let tries = tries + 1;
                let Some(backoff) = self.page_retry.delay(tries, fastrand::f64()) else {
                    return self.record_failure(&range, why, notify).await;
                };
                let wait = wait.map_or(backoff, |wait| wait.max(backoff));
                let waiting = self.waits.begin(awaited, Some(wait));
                tracing::debug!(list = list.as_str(), ?wait, error = why, "a page is requested again");
                let not_before = Instant::now() + wait;
                ready.push_back(QueuedRange { range, tries, not_before, _waiting: Some(waiting) });
            }
            Outcome::Omitted { range, why } => {
                range_store::record_error(&mut self.context.pool.acquire().await?, &range, true, &why).await?;
                notify(ProgressEvent::Failed { list, why });
            }
            Outcome::Failed { range, why } => self.record_failure(&range, why, notify).await?,
        }
        Ok(())
    }

    async fn record_failure(
        &self,
        range: &Range,
        why: String,
        notify: &mut impl FnMut(ProgressEvent),
    ) -> Result<(), Stop> {
        range_store::record_error(&mut self.context.pool.acquire().await?, range, false, &why).await?;
        notify(ProgressEvent::Failed { list: range.list, why });
        Ok(())
    }

    /// Queues the unlisted objects. A run with `created_after` cannot determine them, because it has not listed
    /// everything.
    async fn queue_unlisted(&self, run: &Run, notify: &mut impl FnMut(ProgressEvent)) -> Result<(), Stop> {
        let mut conn = self.context.pool.acquire().await?;
        let first_version = run_store::first_page_version(&mut conn, run).await?;
        let Some(first_version) = first_version.filter(|_| run.created_after.is_none()) else { return Ok(()) };
        // all objects of an omitted list would look unlisted
        let omitted = run_store::omitted(&mut conn, run).await?;
        let was_read = |name: &&&str| omitted.iter().all(|list| list.object_type() != **name);
        let types: Vec<String> = unlisted::TYPES.iter().filter(was_read).map(|name| (*name).to_owned()).collect();
        let mut last: Option<ObjectKey> = None;
        loop {
            let found =
                unlisted::next(&mut conn, &self.accounts, &types, first_version, last.as_ref(), QUEUE_SIZE).await?;
            let Some(end) = found.last() else { return Ok(()) };
            last = Some(end.clone());
            notify(ProgressEvent::Unlisted(found.len()));
            let mut job_requests = JobRequests::default();
            for key in found {
                job_requests.fetch(key, None);
            }
            requests::add(&mut conn, &job_requests, self.margin).await?;
            self.heartbeat(run, None).await?;
        }
    }

    /// Projects all rows again: repairs rows that were changed by hand, and queues missing objects.
    async fn project(&self, run: &Run, notify: &mut impl FnMut(ProgressEvent)) -> Result<usize, Stop> {
        let rebuild = Rebuild::new(self.with_fetches(), false, self.waits.clone());
        let is_new = run.stage < Stage::Projecting;
        let mut conn = self.context.pool.acquire().await?;
        let mut of_rows = rebuild_store::begin(&mut conn, is_new).await?;
        let total = rebuild_store::count(&mut conn).await?;
        drop(conn);
        notify(ProgressEvent::Projecting { total, before: u64::try_from(of_rows.objects).unwrap_or_default() });
        let mut changed = 0;
        while let Some(page) = rebuild.next(&mut of_rows).await? {
            changed += page.changes.len();
            for (key, error) in &page.failed {
                run_store::fail(&mut self.context.pool.acquire().await?, run, key, error).await?;
            }
            notify(ProgressEvent::Projected { objects: page.objects, changes: page.changes.len() });
            self.heartbeat(run, None).await?;
        }
        Ok(changed)
    }

    /// Fetches the queued objects until none is left or progress stops. A running service may fetch them concurrently.
    async fn fetch(
        &self,
        run: &Run,
        notify: &mut impl FnMut(ProgressEvent),
    ) -> Result<(u64, Vec<(String, String)>), Stop> {
        let fetcher = Fetcher::new(self.with_fetches(), Arc::clone(&self.api), self.concurrency);
        let queued = pending::pending_reads(&mut self.context.pool.acquire().await?).await?;
        notify(ProgressEvent::Remaining(queued.left));
        let (mut last, mut moved) = ((u64::MAX, 0), Instant::now());
        loop {
            let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
            // jobs in progress are finished first
            let (pause, ()) = tokio::join!(
                async {
                    let pause = fetcher.drain(&stop).await;
                    ended.cancel();
                    pause
                },
                async {
                    if timeout(HEARTBEAT_INTERVAL, ended.cancelled()).await.is_err() {
                        stop.cancel();
                    }
                }
            );
            let pause = pause?;
            let drained = (!stop.is_cancelled()).then_some(pause);
            self.heartbeat(run, None).await?;
            let PendingReads { left, failing, failures } =
                pending::pending_reads(&mut self.context.pool.acquire().await?).await?;
            // repeated failures are not progress
            if left < last.0 || (failing < left && (left, failing) != last) {
                moved = Instant::now();
            }
            last = (left, failing);
            notify(ProgressEvent::Remaining(left));
            if left == 0 || (drained.is_some() && failing == left) || moved.elapsed() > FETCH_STALL_TIMEOUT {
                return Ok((left, failures));
            }
            if let Some(pause) = drained {
                self.waits.sleep("queued reads that are due later", pause.min(HEARTBEAT_INTERVAL)).await;
            }
        }
    }
}
