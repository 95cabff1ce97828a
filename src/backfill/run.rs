//! A run from its beginning, or from where it was left, to its end: lists, what no page named, all rows, what they lack.
//!
//! Keeps as many pages at work as it may, cuts ranges while somebody has nothing to do, and waits where Stripe says so. It
//! owns no state that is not in the database. Called by the command, which is told what happens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::covered::Covered;
use super::page::{self, Outcome, Stored};
use super::range::{OLDEST, Range};
use super::ranges;
use super::runs::{self, Counts, Run, Stage};
use super::{Backfill, List, Stop, unnamed};
use crate::domain::object::ObjectKey;
use crate::jobs::demand::{self, Demands};
use crate::jobs::rebuild;
use crate::jobs::watch::{self, Waiting};
use crate::reconcile::gap;
use crate::worker::failure::Failure;
use crate::worker::fetch::Fetcher;
use crate::worker::rebuild::Rebuild;

/// A sign of life this often.
const SIGN_EVERY: Duration = Duration::from_secs(5);

/// After so many objects of a stage, and then each time that they have doubled, the planner is told.
const ANALYZE_FIRST: usize = 500;

/// Objects that are asked for in one transaction.
const ASK: i64 = 1000;

/// Objects that have not come nearer to being read for this long are left to the service.
const FETCH_PATIENCE: Duration = Duration::from_secs(30);

/// What happens, for whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A page is stored.
    Page {
        /// Of which list.
        list: List,
        /// Its objects.
        objects: usize,
        /// Rows that changed.
        changes: usize,
        /// Objects that could not be stored.
        failed: usize,
        /// How much of all lists is read, from 0 to 1, by creation time: how dense the rest is nobody knows.
        read: f64,
    },
    /// A page has to be asked for again.
    Waits {
        /// Of which list.
        list: List,
        /// So long.
        wait: Duration,
        /// Why.
        why: String,
    },
    /// A list cannot be read to its end.
    Stuck {
        /// Which one.
        list: List,
        /// Why.
        why: String,
    },
    /// Objects that no page named are asked for.
    Unnamed(usize),
    /// Rows were computed again.
    Projected {
        /// Of so many objects.
        objects: usize,
        /// Rows that changed.
        changes: usize,
    },
    /// So many objects are still to be read by themselves.
    Left(u64),
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// By pages.
    pub counts: Counts,
    /// Rows that changed when all were computed again.
    pub projected: usize,
    /// Objects that were asked for and could not be read yet, and why; at most a hundred.
    pub unread: Vec<(String, String)>,
    /// All objects that were asked for and are not read yet.
    pub left: u64,
}

impl Report {
    /// Nothing is missing.
    pub fn is_complete(&self) -> bool {
        let counts = &self.counts;
        let lists = counts.stuck.is_empty() && counts.lacking.is_empty() && counts.forbidden.is_empty();
        lists && counts.failed.is_empty() && self.left == 0
    }
}

/// A range that waits for its turn.
struct Ready {
    range: Range,
    /// Failed tries of its page.
    tries: u32,
    not_before: Instant,
}

impl Ready {
    fn now(range: Range) -> Self {
        Self { range, tries: 0, not_before: Instant::now() }
    }
}

impl Backfill {
    /// Does what is left of `run`, and tells `notice` of it. Ends without an error also where some lists or objects could
    /// not be read: the report names them, and the run stays open where a list is not at its end.
    ///
    /// # Errors
    /// Where the whole run had to end; it can be taken up again.
    pub async fn run(self: &Arc<Self>, run: &Run, notice: &mut impl FnMut(Notice)) -> Result<Report, Stop> {
        if run.stage == Stage::Listing {
            self.list(run, notice).await?;
            let counts = self.counts(run).await?;
            if !counts.stuck.is_empty() {
                return Ok(Report { counts, ..Report::default() });
            }
            self.enter(run, Stage::Asking).await?;
        }
        if run.stage <= Stage::Asking {
            self.ask(run, notice).await?;
            self.enter(run, Stage::Projecting).await?;
        }
        let mut report = Report::default();
        if run.stage <= Stage::Projecting {
            report.projected = self.project(run, notice).await?;
            self.enter(run, Stage::Fetching).await?;
        }
        (report.left, report.unread) = self.fetch(run, notice).await?;
        report.counts = self.counts(run).await?;
        if run.created_after.is_none() && report.is_complete() {
            self.close_gaps(run).await?;
        }
        let finished = runs::finish(&mut *self.context.pool.acquire().await?, run).await?;
        if finished { Ok(report) } else { Err(Stop::Relieved) }
    }

    /// Events that Stripe no longer lists may have been missed before this run began: what they told has been read now.
    async fn close_gaps(&self, run: &Run) -> Result<(), Stop> {
        let mut conn = self.context.pool.acquire().await?;
        let Some(began) = runs::began(&mut conn, run).await? else { return Ok(()) };
        for account in &self.accounts {
            if gap::close(&mut conn, account, began).await? {
                tracing::info!(account, "the gap in the events is closed: all that Stripe has was read since");
            }
        }
        Ok(())
    }

    async fn counts(&self, run: &Run) -> Result<Counts, Stop> {
        Ok(runs::counts(&mut *self.context.pool.acquire().await?, run).await?)
    }

    async fn enter(&self, run: &Run, stage: Stage) -> Result<(), Stop> {
        let moved = runs::enter(&mut *self.context.pool.acquire().await?, run, stage).await?;
        if moved { Ok(()) } else { Err(Stop::Relieved) }
    }

    async fn sign(&self, run: &Run, began: Option<time::OffsetDateTime>) -> Result<(), Stop> {
        let signed = runs::sign(&mut *self.context.pool.acquire().await?, run, began).await?;
        if signed { Ok(()) } else { Err(Stop::Relieved) }
    }

    /// Reads all ranges to their ends, stage by stage.
    async fn list(self: &Arc<Self>, run: &Run, notice: &mut impl FnMut(Notice)) -> Result<(), Stop> {
        let mut conn = self.context.pool.acquire().await?;
        let (open, mut began) = (ranges::open(&mut conn, run).await?, runs::began(&mut conn, run).await?);
        drop(conn);
        let mut ready: VecDeque<Ready> = open.into_iter().map(Ready::now).collect();
        let mut covered =
            Covered::new(ready.iter().map(|one| &one.range), self.floor.unwrap_or(OLDEST), self.accounts.len());
        let mut at_work = JoinSet::new();
        let mut stages: BTreeMap<u8, usize> = BTreeMap::new();
        let mut signed = Instant::now();
        let mut growth = BTreeMap::new();
        loop {
            let waiting = ready.iter().map(|one| one.range.list.stage());
            let Some(stage) = waiting.chain(stages.keys().copied()).min() else { return Ok(()) };
            while at_work.len() < self.concurrency {
                let now = Instant::now();
                let of_stage = |one: &Ready| one.range.list.stage() == stage && one.not_before <= now;
                let Some(place) = ready.iter().position(of_stage) else { break };
                let Some(Ready { range, tries, .. }) = ready.remove(place) else { break };
                let others = ready.iter().filter(|one| one.range.list.stage() == stage).count();
                let cut = at_work.len() + 1 + others < self.concurrency;
                let (backfill, run) = (Arc::clone(self), run.clone());
                *stages.entry(stage).or_default() += 1;
                at_work.spawn(async move { (range.list, tries, page::step(&backfill, &run, range, cut, began).await) });
            }
            let waits = ready.iter().filter(|one| one.range.list.stage() == stage).map(|one| one.not_before).min();
            let soon = Instant::now() + SIGN_EVERY;
            let wake = waits.filter(|_| at_work.len() < self.concurrency).map_or(soon, |at| at.min(soon));
            tokio::select! {
                Some(ended) = at_work.join_next() => {
                    // contained where it matters: what is left is the runtime going down
                    let Ok((list, tries, outcome)) = ended else { return Err(Stop::Relieved) };
                    if let Some(count) = stages.get_mut(&list.stage()) {
                        *count -= 1;
                    }
                    stages.retain(|_, count| *count > 0);
                    let outcome = outcome?;
                    if let (Outcome::Stored(Stored { version, .. }), None) = (&outcome, began) {
                        began = Some(*version);
                        self.sign(run, began).await?;
                    }
                    // each stage fills other tables
                    let (stored, next_look) = growth.entry(list.stage()).or_insert((0, ANALYZE_FIRST));
                    if let Outcome::Stored(page) = &outcome {
                        *stored += page.objects;
                    }
                    if stored >= next_look {
                        *next_look = 2 * *stored;
                        runs::analyze(&mut *self.context.pool.acquire().await?).await?;
                    }
                    self.follow(list, tries, outcome, &mut ready, &mut covered, notice).await?;
                }
                () = sleep_until(wake) => {}
            }
            if signed.elapsed() > SIGN_EVERY {
                self.sign(run, None).await?;
                signed = Instant::now();
            }
        }
    }

    /// What follows from a page.
    async fn follow(
        &self,
        list: List,
        tries: u32,
        outcome: Outcome,
        ready: &mut VecDeque<Ready>,
        covered: &mut Covered,
        notice: &mut impl FnMut(Notice),
    ) -> Result<(), Stop> {
        match outcome {
            Outcome::Stored(Stored { rest, cut, objects, changes, failed, .. }) => {
                ready.extend(rest.into_iter().chain(cut).map(Ready::now));
                covered.update(list, ready.iter().map(|one| &one.range));
                notice(Notice::Page { list, objects, changes, failed, read: covered.share() });
            }
            Outcome::Changed(range) => ready.push_back(Ready::now(range)),
            Outcome::Again { range, wait, why } => {
                let tries = tries + 1;
                let Some(backoff) = self.patience.delay(tries, fastrand::f64()) else {
                    return self.stuck(&range, why, notice).await;
                };
                let wait = wait.map_or(backoff, |wait| wait.max(backoff));
                notice(Notice::Waits { list, wait, why });
                ready.push_back(Ready { range, tries, not_before: Instant::now() + wait });
            }
            Outcome::Omitted { range, why } => {
                ranges::stumble(&mut *self.context.pool.acquire().await?, &range, true, &why).await?;
                notice(Notice::Stuck { list, why });
            }
            Outcome::Stuck { range, why } => self.stuck(&range, why, notice).await?,
        }
        Ok(())
    }

    async fn stuck(&self, range: &Range, why: String, notice: &mut impl FnMut(Notice)) -> Result<(), Stop> {
        ranges::stumble(&mut *self.context.pool.acquire().await?, range, false, &why).await?;
        notice(Notice::Stuck { list: range.list, why });
        Ok(())
    }

    /// Asks for what is stored here and no page named. A run that has not listed all of time cannot know.
    async fn ask(&self, run: &Run, notice: &mut impl FnMut(Notice)) -> Result<(), Stop> {
        let mut conn = self.context.pool.acquire().await?;
        let began = runs::began(&mut conn, run).await?;
        let Some(began) = began.filter(|_| run.created_after.is_none()) else { return Ok(()) };
        // of a list that was not read no page could name anything
        let omitted = runs::omitted(&mut conn, run).await?;
        let was_read = |name: &&&str| omitted.iter().all(|list| list.object_type() != **name);
        let types: Vec<String> = unnamed::TYPES.iter().filter(was_read).map(|name| (*name).to_owned()).collect();
        let mut last: Option<ObjectKey> = None;
        loop {
            let found = unnamed::next(&mut conn, &self.accounts, &types, began, last.as_ref(), ASK).await?;
            let Some(end) = found.last() else { return Ok(()) };
            last = Some(end.clone());
            notice(Notice::Unnamed(found.len()));
            let mut demands = Demands::default();
            for key in found {
                demands.fetch(key, None);
            }
            demand::add(&mut conn, &demands, self.margin).await?;
            self.sign(run, None).await?;
        }
    }

    /// Computes all rows again: those that somebody changed by hand are mended, and what they lack is asked for.
    async fn project(&self, run: &Run, notice: &mut impl FnMut(Notice)) -> Result<usize, Stop> {
        let rebuild = Rebuild::new(self.asking(), false);
        let is_new = run.stage < Stage::Projecting;
        let mut of_rows = rebuild::begin(&mut *self.context.pool.acquire().await?, is_new).await?;
        let mut changed = 0;
        let mut tries = 0;
        loop {
            let page = match rebuild.next(&mut of_rows).await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(changed),
                // live events hold what the page has
                Err(Failure::Contended(why)) if tries < self.patience.max_attempts => {
                    tries += 1;
                    tracing::debug!(error = why, "rows are held by live events; trying again");
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            };
            tries = 0;
            changed += page.changes.len();
            for (key, error) in &page.failed {
                runs::fail(&mut *self.context.pool.acquire().await?, run, key, error).await?;
            }
            notice(Notice::Projected { objects: page.objects, changes: page.changes.len() });
            self.sign(run, None).await?;
        }
    }

    /// Reads what was asked for, beside a service that may do the same, until nothing is left or nothing moves.
    async fn fetch(&self, run: &Run, notice: &mut impl FnMut(Notice)) -> Result<(u64, Vec<(String, String)>), Stop> {
        let fetcher = Fetcher::new(self.asking(), Arc::clone(&self.api), self.concurrency);
        let (mut last, mut moved) = ((u64::MAX, 0), Instant::now());
        loop {
            let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
            // jobs at work are finished first
            let (pause, ()) = tokio::join!(
                async {
                    let pause = fetcher.drain(&stop).await;
                    ended.cancel();
                    pause
                },
                async {
                    if timeout(SIGN_EVERY, ended.cancelled()).await.is_err() {
                        stop.cancel();
                    }
                }
            );
            let pause = pause?;
            let drained = (!stop.is_cancelled()).then_some(pause);
            self.sign(run, None).await?;
            let Waiting { left, failing, failures } =
                watch::reads_left(&mut *self.context.pool.acquire().await?).await?;
            // those that have failed are tried again and again, and that is no progress
            if left < last.0 || (failing < left && (left, failing) != last) {
                moved = Instant::now();
            }
            last = (left, failing);
            notice(Notice::Left(left));
            if left == 0 || (drained.is_some() && failing == left) || moved.elapsed() > FETCH_PATIENCE {
                return Ok((left, failures));
            }
            if let Some(pause) = drained {
                tokio::time::sleep(pause.min(SIGN_EVERY)).await;
            }
        }
    }
}
