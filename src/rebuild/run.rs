//! Rebuild: recomputes every row from the mirror and the facts, without a call to Stripe.
//!
//! It repairs rows after a mistake in the mapping, and queues the reads that a new setting requires. It works page by
//! page; each page is a transaction with the same locks as a worker's, so a rebuild runs beside the service. A dry run
//! does the same and rolls back.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::retry::RetryPolicy;
use crate::base::waits::Waits;
use crate::database::{Connection, Transaction};
use crate::domain::object::ObjectKey;
use crate::jobs::requests::JobRequests;
use crate::jobs::settle;
use crate::mirror::locks;
use crate::rebuild::store::{self, Run, Stage};
use crate::store::Change;
use crate::worker::Context;
use crate::worker::apply::queue_jobs;
use crate::worker::batch::{begin, contain_panics};
use crate::worker::change_set::{Causes, Notes};
use crate::worker::failure::Failure;
use crate::worker::project;

/// Objects in one transaction.
const PAGE: i64 = 200;

/// Retry policy of a page whose rows other sessions have locked. Each try itself waits two seconds for a lock.
const LOCK_RETRY: RetryPolicy =
    RetryPolicy { max_attempts: 10, initial: Duration::from_millis(50), max: Duration::from_secs(5) };

/// The cause of these changes in `row_changes`.
const CAUSE: &str = "rebuild";

/// Result of one page.
#[derive(Debug, Default)]
pub struct Page {
    /// Objects that were processed.
    pub objects: usize,
    /// Rows that were written, or would be in a dry run.
    pub changes: Vec<Change>,
    /// Objects for which a read was queued.
    pub queued_reads: usize,
    /// Objects whose rows cannot be computed, and why.
    pub failed: Vec<(ObjectKey, String)>,
}

impl Page {
    fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.changes.extend(other.changes);
        self.queued_reads += other.queued_reads;
        self.failed.extend(other.failed);
    }
}

/// A rebuild, of everything or of some customers.
#[derive(Clone)]
pub struct Rebuild {
    context: Context,
    /// Whether every transaction is rolled back.
    dry_run: bool,
    /// Where waits for locks are registered.
    waits: Waits,
}

impl Rebuild {
    /// A rebuild by the rules of `context`. If a fetcher runs, it serves the reads that the rebuild queues.
    pub fn new(context: Context, dry_run: bool, waits: Waits) -> Self {
        Self { context, dry_run, waits }
    }

    /// Rebuilds some customers of one's own account, with all their subscriptions.
    ///
    /// # Errors
    /// The failure of the transaction; nothing is written then.
    pub async fn customers(&self, ids: &[String]) -> Result<Page, Failure> {
        self.objects(ids.iter().map(|id| ObjectKey::new("", "customer", id)).collect()).await
    }

    /// Rebuilds the rows of some objects; those of a customer include all subscriptions.
    ///
    /// # Errors
    /// The failure of the transaction; nothing is written then.
    pub async fn objects(&self, keys: Vec<ObjectKey>) -> Result<Page, Failure> {
        self.despite_locks(async || self.transaction(keys.clone()).await).await
    }

    /// Computes the rows of some objects in one transaction.
    async fn transaction(&self, keys: Vec<ObjectKey>) -> Result<Page, Failure> {
        let rebuild = self.clone();
        contain_panics(async move {
            let mut tx = begin(&rebuild.context).await?;
            let page = rebuild.project(&mut tx, &keys).await?;
            rebuild.end(tx).await?;
            Ok(page)
        })
        .await
    }

    /// Repeats `work` while other sessions, such as those of live events, lock its rows.
    async fn despite_locks<T>(&self, mut work: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let (mut tries, mut waiting) = (0, None);
        loop {
            let failure = match work().await {
                Err(failure @ Failure::Contended(_)) => failure,
                done => return done,
            };
            tries += 1;
            let Some(delay) = LOCK_RETRY.delay(tries, fastrand::f64()) else { return Err(failure) };
            waiting.get_or_insert_with(|| self.waits.begin(failure.awaited(), None));
            tokio::time::sleep(delay).await;
        }
    }

    /// Rebuilds the next page of `run`; `None` at its end. An object whose rows cannot be computed is named in the
    /// page; the others are written.
    ///
    /// # Errors
    /// The failure of the transaction; the next call resumes the run.
    pub async fn next(&self, run: &mut Run) -> Result<Option<Page>, Failure> {
        self.despite_locks(async || self.next_page(run).await).await
    }

    async fn next_page(&self, run: &mut Run) -> Result<Option<Page>, Failure> {
        let mut tx = begin(&self.context).await?;
        let keys = match run.stage {
            Stage::Customers => store::customers(&mut tx, run, PAGE).await?,
            Stage::Others => store::others(&mut tx, run, PAGE).await?,
        };
        let Some(last) = keys.last().cloned() else {
            return self.next_stage(tx, run).await;
        };
        drop(tx);
        let mut after = run.clone();
        after.account = last.account;
        after.position = match run.stage {
            Stage::Customers => last.object_id,
            Stage::Others => format!("{}/{}", last.object_type, last.object_id),
        };
        let page = match self.store(after.clone(), keys.clone()).await {
            Err(Failure::Retryable(_) | Failure::Permanent(_)) => self.retry_individually(after.clone(), keys).await?,
            page => page?,
        };
        after.add(page.objects, page.changes.len());
        *run = after;
        Ok(Some(page))
    }

    /// Computes the rows of a page and stores the progress of the run, in one transaction.
    async fn store(&self, mut after: Run, keys: Vec<ObjectKey>) -> Result<Page, Failure> {
        let rebuild = self.clone();
        contain_panics(async move {
            let mut tx = begin(&rebuild.context).await?;
            let page = if keys.is_empty() { Page::default() } else { rebuild.project(&mut tx, &keys).await? };
            after.add(page.objects, page.changes.len());
            store::note(&mut tx, &after, false).await?;
            rebuild.end(tx).await?;
            Ok(page)
        })
        .await
    }

    /// Computes the rows of a page one object after the other. One that fails is set aside and retried by the worker.
    async fn retry_individually(&self, mut after: Run, keys: Vec<ObjectKey>) -> Result<Page, Failure> {
        let mut all = Page::default();
        for key in keys {
            match self.transaction(vec![key.clone()]).await {
                Ok(page) => all.add(page),
                Err(failure @ (Failure::Unavailable(_) | Failure::Contended(_))) => return Err(failure),
                Err(failure) => {
                    all.objects += 1;
                    if !self.dry_run {
                        let delay = self.context.backoff(1);
                        let mut conn = self.context.pool.acquire().await?;
                        settle::set_aside(&mut conn, &key, delay, &failure.to_string()).await?;
                    }
                    all.failed.push((key, failure.to_string()));
                }
            }
        }
        after.add(all.objects, all.changes.len());
        store::note(&mut self.context.pool.acquire().await?, &after, false).await?;
        Ok(all)
    }

    async fn next_stage(&self, mut tx: Transaction<'static>, run: &mut Run) -> Result<Option<Page>, Failure> {
        let finished = run.stage == Stage::Others;
        (run.stage, run.account, run.position) = (Stage::Others, String::new(), String::new());
        store::note(&mut tx, run, finished).await?;
        self.end(tx).await?;
        Ok((!finished).then(Page::default))
    }

    /// Begins a run, or resumes the unfinished one. A dry run always starts at the beginning and stores no progress.
    ///
    /// # Errors
    /// Database errors.
    pub async fn begin(&self, conn: &mut Connection, restart: bool) -> Result<Run, Failure> {
        if self.dry_run {
            let (account, position) = (String::new(), String::new());
            return Ok(Run { id: 0, stage: Stage::Customers, account, position, objects: 0, changes: 0 });
        }
        Ok(store::begin(conn, restart).await?)
    }

    async fn project(&self, conn: &mut Connection, keys: &[ObjectKey]) -> Result<Page, Failure> {
        let objects: BTreeSet<ObjectKey> = keys.iter().cloned().collect();
        locks::acquire(conn, &objects, &BTreeSet::new()).await?;
        let causes: Causes = keys.iter().map(|key| (key.clone(), BTreeSet::from([CAUSE.to_owned()]))).collect();
        let customers = causes.clone().into_iter().filter(|(key, _)| key.object_type == "customer").collect();
        let (mut notes, mut job_requests) = (Notes::new(), JobRequests::default());
        let mut changes = project::customers(conn, &self.context, &customers, &mut notes, &mut job_requests).await?;
        changes.extend(project::others(conn, &objects, &causes, &mut notes, &mut job_requests).await?);
        let queued_reads = queue_jobs(conn, &self.context, job_requests).await?.reads();
        Ok(Page { objects: keys.len(), changes, queued_reads, failed: Vec::new() })
    }

    async fn end(&self, tx: Transaction<'static>) -> Result<(), Failure> {
        let ended = if self.dry_run { tx.rollback().await } else { tx.commit().await };
        Ok(ended?)
    }
}
