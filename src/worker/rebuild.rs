//! Rebuild: every row computed again from the mirror and the facts, without a call to Stripe.
//!
//! How a mistake in the mapping is repaired, and how what a new setting asks for is asked for. Page by page, each a
//! transaction with the locks that a worker takes, so that it runs beside the service. A trial run does the same and
//! takes it back.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::Context;
use super::batch::begin;
use super::effect::ask;
use super::failure::Failure;
use super::project::{self, Causes, Notes};
use crate::domain::object::ObjectKey;
use crate::jobs::demand::Demands;
use crate::jobs::rebuild::{self, Run, Stage};
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
}

/// A rebuild, of everything or of some customers.
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
        let mut tx = begin(&self.context).await?;
        let page = self.project(&mut tx, &keys).await?;
        self.end(tx).await?;
        Ok(page)
    }

    /// The next page of `run`; `None` where it has reached its end.
    ///
    /// # Errors
    /// What kept it from working; the run goes on where it was.
    pub async fn next(&self, run: &mut Run) -> Result<Option<Page>, Failure> {
        let mut tx = begin(&self.context).await?;
        let keys = match run.stage {
            Stage::Customers => rebuild::customers(&mut tx, run, PAGE).await?,
            Stage::Others => rebuild::others(&mut tx, run, PAGE).await?,
        };
        let Some(last) = keys.last() else {
            return self.next_stage(tx, run).await;
        };
        let page = self.project(&mut tx, &keys).await?;
        run.account.clone_from(&last.account);
        run.position = match run.stage {
            Stage::Customers => last.object_id.clone(),
            Stage::Others => format!("{}/{}", last.object_type, last.object_id),
        };
        run.objects += i64::try_from(page.objects).unwrap_or_default();
        run.changes += i64::try_from(page.changes.len()).unwrap_or_default();
        rebuild::note(&mut tx, run, false).await?;
        self.end(tx).await?;
        Ok(Some(page))
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
        locks::acquire(conn, &objects).await?;
        let causes: Causes = keys.iter().map(|key| (key.clone(), BTreeSet::from([CAUSE.to_owned()]))).collect();
        let customers = causes.clone().into_iter().filter(|(key, _)| key.object_type == "customer").collect();
        let (mut notes, mut demands) = (Notes::new(), Demands::default());
        let mut changes = project::customers(conn, &self.context, &customers, &mut notes, &mut demands).await?;
        changes.extend(project::others(conn, &objects, &causes, &mut notes, &mut demands).await?);
        let asked = ask(conn, &self.context, demands).await?.reads();
        Ok(Page { objects: keys.len(), changes, asked })
    }

    async fn end(&self, tx: sqlx::PgTransaction<'static>) -> Result<(), Failure> {
        let ended = if self.dry_run { tx.rollback().await } else { tx.commit().await };
        Ok(ended?)
    }
}
