//! Rebuild: every row computed again from the mirror and the facts, without a call to Stripe.
//!
//! How a mistake in the mapping is repaired, and how what a new setting asks for is asked for. Page by page, each a
//! transaction with the locks that a worker takes, so that it runs beside the service. A trial run does the same and
//! takes it back.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::Context;
use super::batch::{begin, contain_panics};
use super::effect::ask;
use super::failure::Failure;
use super::project::{self, Causes, Notes};
use crate::domain::object::ObjectKey;
use crate::jobs::demand::Demands;
use crate::jobs::rebuild::{self, Run, Stage};
use crate::jobs::settle;
use crate::mirror::locks;
use crate::store::Change;

/// Objects in one transaction.
const PAGE: i64 = 200;

/// What causes the changes, in `row_changes`.
const CAUSE: &str = "rebuild";

/// What one page came to.
#[derive(Debug, Default)]
pub struct Page {
    /// Objects that were looked at.
    pub objects: usize,
    /// Rows that were, or would be, written.
    pub changes: Vec<Change>,
    /// Objects that Stripe will be asked for.
    pub asked: usize,
    /// Objects whose rows cannot be computed, and why.
    pub failed: Vec<(ObjectKey, String)>,
}

impl Page {
    fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.changes.extend(other.changes);
        self.asked += other.asked;
        self.failed.extend(other.failed);
    }
}

/// A rebuild, of everything or of some customers.
#[derive(Clone)]
pub struct Rebuild {
    context: Context,
    /// Nothing is written in the end.
    dry_run: bool,
}

impl Rebuild {
    /// A rebuild; `context` says by which rules, and whether anybody serves what it asks for.
    pub fn new(context: Context, dry_run: bool) -> Self {
        Self { context, dry_run }
    }

    /// Some customers of our own account, with all their subscriptions.
    ///
    /// # Errors
    /// What kept it from working; then nothing of it is written.
    pub async fn customers(&self, ids: &[String]) -> Result<Page, Failure> {
        let keys: Vec<ObjectKey> = ids.iter().map(|id| ObjectKey::new("", "customer", id)).collect();
        let rebuild = self.clone();
        contain_panics(async move {
            let mut tx = begin(&rebuild.context).await?;
            let page = rebuild.project(&mut tx, &keys).await?;
            rebuild.end(tx).await?;
            Ok(page)
        })
        .await
    }

    /// The next page of `run`; `None` where it has reached its end. An object whose rows cannot be computed is named in
    /// the page, and the others go on.
    ///
    /// # Errors
    /// What kept it from working; the run goes on where it was.
    pub async fn next(&self, run: &mut Run) -> Result<Option<Page>, Failure> {
        let mut tx = begin(&self.context).await?;
        let keys = match run.stage {
            Stage::Customers => rebuild::customers(&mut tx, run, PAGE).await?,
            Stage::Others => rebuild::others(&mut tx, run, PAGE).await?,
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
            Err(Failure::Retry(_) | Failure::Bury(_)) => self.take_apart(after.clone(), keys).await?,
            page => page?,
        };
        after.add(page.objects, page.changes.len());
        *run = after;
        Ok(Some(page))
    }

    /// Computes the rows of a page and notes where the run stands, in one transaction.
    async fn store(&self, mut after: Run, keys: Vec<ObjectKey>) -> Result<Page, Failure> {
        let rebuild = self.clone();
        contain_panics(async move {
            let mut tx = begin(&rebuild.context).await?;
            let page = if keys.is_empty() { Page::default() } else { rebuild.project(&mut tx, &keys).await? };
            after.add(page.objects, page.changes.len());
            rebuild::note(&mut tx, &after, false).await?;
            rebuild.end(tx).await?;
            Ok(page)
        })
        .await
    }

    /// Computes the rows of a page one object after the other. One that fails is set aside and retried by the worker.
    async fn take_apart(&self, mut after: Run, keys: Vec<ObjectKey>) -> Result<Page, Failure> {
        let mut all = Page::default();
        for key in keys {
            let (rebuild, one) = (self.clone(), vec![key.clone()]);
            let alone = contain_panics(async move {
                let mut tx = begin(&rebuild.context).await?;
                let page = rebuild.project(&mut tx, &one).await?;
                rebuild.end(tx).await?;
                Ok(page)
            });
            match alone.await {
                Ok(page) => all.add(page),
                Err(failure @ (Failure::Away(_) | Failure::Contended(_))) => return Err(failure),
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
        rebuild::note(&mut *self.context.pool.acquire().await?, &after, false).await?;
        Ok(all)
    }

    async fn next_stage(&self, mut tx: sqlx::PgTransaction<'static>, run: &mut Run) -> Result<Option<Page>, Failure> {
        let finished = run.stage == Stage::Others;
        (run.stage, run.account, run.position) = (Stage::Others, String::new(), String::new());
        rebuild::note(&mut tx, run, finished).await?;
        self.end(tx).await?;
        Ok((!finished).then(Page::default))
    }

    /// Begins a run, or takes up the one that was not finished. A trial run begins at the start and leaves no trace.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin(&self, conn: &mut PgConnection, restart: bool) -> Result<Run, Failure> {
        if self.dry_run {
            let (account, position) = (String::new(), String::new());
            return Ok(Run { id: 0, stage: Stage::Customers, account, position, objects: 0, changes: 0 });
        }
        Ok(rebuild::begin(conn, restart).await?)
    }

    async fn project(&self, conn: &mut PgConnection, keys: &[ObjectKey]) -> Result<Page, Failure> {
        let objects: BTreeSet<ObjectKey> = keys.iter().cloned().collect();
        locks::acquire(conn, &objects, &BTreeSet::new()).await?;
        let causes: Causes = keys.iter().map(|key| (key.clone(), BTreeSet::from([CAUSE.to_owned()]))).collect();
        let customers = causes.clone().into_iter().filter(|(key, _)| key.object_type == "customer").collect();
        let (mut notes, mut demands) = (Notes::new(), Demands::default());
        let mut changes = project::customers(conn, &self.context, &customers, &mut notes, &mut demands).await?;
        changes.extend(project::others(conn, &objects, &causes, &mut notes, &mut demands).await?);
        let asked = ask(conn, &self.context, demands).await?.reads();
        Ok(Page { objects: keys.len(), changes, asked, failed: Vec::new() })
    }

    async fn end(&self, tx: sqlx::PgTransaction<'static>) -> Result<(), Failure> {
        let ended = if self.dry_run { tx.rollback().await } else { tx.commit().await };
        Ok(ended?)
    }
}
