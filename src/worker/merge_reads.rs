//! Merges reads that no job requested: pages of lists, and customers read for a comparison. They are merged in the same
//! way as events, so a page older than an event does no harm.
//!
//! Called by the backfill and by `verify`, which read from Stripe and decide whether the transaction commits.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::apply::{self, Applied};
use super::batch;
use super::change_set::ChangeSet;
use super::context::Context;
use super::failure::Failure;
use super::fetched::FetchedObject;
use crate::database::{Connection, Transaction};
use crate::domain::object::ObjectKey;
use crate::jobs::requests::JobRequests;
use crate::metrics::batch::Stopwatch;
use crate::mirror::related::is_shared;
use crate::mirror::store;
use crate::store::Change;

/// Objects read, and how to merge them.
#[derive(Debug, Clone)]
pub(crate) struct ReadBatch {
    /// The objects.
    pub(crate) parts: Vec<FetchedObject>,
    /// The cause in `row_changes`.
    pub(crate) cause: Cow<'static, str>,
    /// Objects whose rows are recomputed even if nothing about them is new, because the rows may have been edited.
    pub(crate) force_project: BTreeSet<ObjectKey>,
    /// Whether these are historical invoices and payments, most of which affect no row.
    pub(crate) historical: bool,
    /// Nested copies of prices, products and coupons that were read at or after this time are not merged. Every
    /// subscription of a price carries a copy, and pages that merge it would wait for each other.
    pub(crate) known_since: Option<OffsetDateTime>,
}

/// Result of merging a [`ReadBatch`].
#[derive(Debug, Default)]
pub(crate) struct MergedReads {
    /// The rows that were written.
    pub(crate) changes: Vec<Change>,
    /// Requests for data that the rows still need. They are queued already, if the context has a fetcher.
    pub(crate) job_requests: JobRequests,
}

/// Begins a transaction with the worker's usual timeouts.
pub(crate) async fn begin(context: &Context) -> Result<Transaction<'static>, Failure> {
    Ok(batch::begin(context).await?)
}

/// Merges a [`ReadBatch`], all but the commit.
pub(crate) async fn merge(conn: &mut Connection, context: &Context, reads: ReadBatch) -> Result<MergedReads, Failure> {
    let ReadBatch { parts, cause, force_project, historical, known_since } = reads;
    let force_project: BTreeMap<_, _> =
        force_project.into_iter().map(|key| (key, BTreeSet::from([cause.clone().into_owned()]))).collect();
    let mut change_set = ChangeSet { force_project, historical, ..ChangeSet::default() };
    for part in parts {
        change_set.add_fetched(part, &cause);
    }
    if let Some(since) = known_since {
        let copies = change_set.incoming.nested.iter().map(|one| one.key.clone()).filter(is_shared).collect();
        change_set.leave_out(&store::known_since(conn, &copies, since).await?);
    }
    let Applied { changes, job_requests, .. } =
        apply::apply(conn, context, change_set, &mut Stopwatch::default()).await?;
    Ok(MergedReads { changes, job_requests })
}

/// Runs `work` so that a panic becomes a [`Failure`].
pub(crate) async fn contained<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    batch::contain_panics(work).await
}
