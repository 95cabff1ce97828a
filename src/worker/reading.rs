//! The door for reads that no job asked for: pages of lists, customers that are looked at whole. What they tell is merged
//! by the same transaction as events are, so a page can be older than an event and do no harm.
//!
//! Called by the backfill, which reads, and which decides whether the transaction is kept.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, PgTransaction};
use time::OffsetDateTime;

use super::Context;
use super::batch;
use super::effect::{self, Applied, Work};
use super::failure::Failure;
use super::part::Part;
use crate::domain::object::ObjectKey;
use crate::jobs::demand::Demands;
use crate::metrics::batch::Stopwatch;
use crate::mirror::related::is_shared;
use crate::mirror::rows;
use crate::store::Change;

/// What was read, and what is to be done with it.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The objects.
    pub(crate) parts: Vec<Part>,
    /// What `row_changes` will say of it.
    pub(crate) cause: &'static str,
    /// Objects whose rows are computed again even where nothing about them is new, since the rows may have been changed.
    pub(crate) also: BTreeSet<ObjectKey>,
    /// Invoices and payments, most of which matter to no row any more.
    pub(crate) past: bool,
    /// Prices, products and coupons that were read since then are not taken from the copies inside: every subscription of a
    /// price carries one, and whoever merges it has to wait for all others.
    pub(crate) known_since: Option<OffsetDateTime>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The rows that were written.
    pub(crate) changes: Vec<Change>,
    /// What the rows still lack. It has been asked for, where the context says that somebody serves that.
    pub(crate) demands: Demands,
}

/// Begins a transaction as all of the worker's are.
pub(crate) async fn begin(context: &Context) -> Result<PgTransaction<'static>, Failure> {
    Ok(batch::begin(context).await?)
}

/// Merges it, all but the commit.
pub(crate) async fn merge(conn: &mut PgConnection, context: &Context, reading: Reading) -> Result<Done, Failure> {
    let Reading { parts, cause, also, past, known_since } = reading;
    let also: BTreeMap<_, _> = also.into_iter().map(|key| (key, BTreeSet::from([cause.to_owned()]))).collect();
    let mut work = Work { also, past, ..Work::default() };
    for part in parts {
        part.add_to(&mut work, cause);
    }
    if let Some(since) = known_since {
        let copies = work.incoming.nested.iter().map(|one| one.key.clone()).filter(is_shared).collect();
        work.leave_out(&rows::known_since(conn, &copies, since).await?);
    }
    let Applied { changes, demands, .. } = effect::apply(conn, context, work, &mut Stopwatch::default()).await?;
    Ok(Done { changes, demands })
}

/// Runs `work` so that a panic in it is a failure like any other.
pub(crate) async fn contained<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    batch::contain_panics(work).await
}
