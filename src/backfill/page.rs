//! One page of one range: reads it, stores it, and returns the next step.
//!
//! One transaction commits the page, the new cursor of its range and a range split off from it. The objects of a page
//! that cannot be stored are retried individually; an object that still fails is recorded and skipped. Called by the
//! run.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::sleep;

use super::list::Page;
use super::range::{Next, Range};
use super::range_store;
use super::run_store::{self, NO_LIST, Run};
use super::session::{Backfill, CAUSE, Stop};
use crate::client::{ApiError, Span};
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::jobs::requests::{self, JobRequests};
use crate::worker::failure::Failure;
use crate::worker::fetched::{self, FetchedObject, read_version};
use crate::worker::merge_reads::{self, ReadBatch};

/// Delays in milliseconds while live events or other pages lock the page's objects. Each try itself waits two seconds
/// for a lock.
const LOCK_RETRY_DELAYS: [u64; 6] = [20, 50, 100, 200, 500, 1000];

/// Result of one page.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The page is stored.
    Stored(Stored),
    /// The page must be requested again.
    Retry {
        /// The range, unchanged.
        range: Range,
        /// Minimum wait that Stripe requested; `None`: the caller decides.
        wait: Option<Duration>,
        /// What is waited for.
        awaited: Cow<'static, str>,
        /// Reason.
        why: String,
    },
    /// The range changed and is read in its new form from now on.
    Requeue(Range),
    /// This run does not read the list: Stripe has no such list, or the key may not read it.
    Omitted {
        /// The range, unchanged.
        range: Range,
        /// Reason.
        why: String,
    },
    /// The range cannot continue until the operator fixes the cause.
    Failed {
        /// The range, unchanged.
        range: Range,
        /// The cause.
        why: String,
    },
}

/// A page that is stored.
#[derive(Debug)]
pub(super) struct Stored {
    /// The range after this page; `None`: it was the last page.
    pub(super) rest: Option<Range>,
    /// A range that was split off, to be read concurrently.
    pub(super) split: Option<Range>,
    /// Version of the page.
    pub(super) version: OffsetDateTime,
    pub(super) objects: usize,
    pub(super) changes: usize,
    /// Objects that could not be stored.
    pub(super) failed: usize,
}

/// A page that was read and is not stored yet.
#[derive(Clone)]
struct ReadPage {
    parts: Vec<FetchedObject>,
    without_id: Vec<ObjectKey>,
    /// The range after this page.
    range: Range,
    done: bool,
    split: Option<Span>,
    version: OffsetDateTime,
    /// Version of the run's first page.
    first_version: Option<OffsetDateTime>,
}

/// Reads the next page of `range` and stores it. `split`: a free slot could read another part of the range meanwhile.
/// `first_version`: the version of the run's first page.
///
/// # Errors
/// Only errors that end the whole run.
pub(super) async fn step(
    backfill: &Arc<Backfill>,
    run: &Run,
    range: Range,
    split: bool,
    first_version: Option<OffsetDateTime>,
) -> Result<Outcome, Stop> {
    let after = range.after.as_ref().map(|cursor| cursor.id.clone());
    let answer = match backfill.read_page(&range.account, range.list.listed(), range.span, after).await {
        Ok(answer) => answer,
        Err(error) => return refused(backfill, range, error).await,
    };
    let Ok(page) = Page::read(range.list, &answer.body) else {
        return Ok(unreadable(range, "Stripe's response is not a list"));
    };
    drop(answer.body);
    let (rest, done) = match range.next(&page) {
        Next::End => (range.clone(), true),
        Next::After(cursor) => (Range { after: Some(cursor), ..range.clone() }, false),
        Next::NoCursor => return Ok(unreadable(range, "Stripe sent `has_more`, but no further object")),
    };
    let second = rest.after.as_ref().filter(|_| split && !done);
    let second = second.zip(backfill.floor).and_then(|(cursor, floor)| range.split(&page, cursor, floor));
    let (older, rest) = match second {
        Some(at) => (
            Some(Span { from: range.span.from, until: Some(at) }),
            Range { span: Span { from: Some(at), ..rest.span }, ..rest },
        ),
        None => (None, rest),
    };
    let found = ReadPage {
        without_id: without_id(&range, &page),
        parts: page.into_parts(&range.account, range.list, range.span, answer.at, backfill.margin),
        version: read_version(answer.at, backfill.margin),
        range: rest,
        done,
        split: older,
        first_version,
    };
    store(backfill, run, range, found).await
}

fn unreadable(range: Range, why: &str) -> Outcome {
    Outcome::Retry { range, wait: None, awaited: "a response of Stripe that is a list".into(), why: why.to_owned() }
}

/// Maps an API error to the next step.
async fn refused(backfill: &Backfill, range: Range, error: ApiError) -> Result<Outcome, Stop> {
    let is_missing = matches!(error, ApiError::NotFound { .. });
    if is_missing && let Some(range) = range.without_cursor() {
        // the object used as the cursor was deleted
        return Ok(Outcome::Requeue(range));
    }
    let is_unsupported = is_missing || error.is_unknown_path();
    Ok(match error {
        _ if is_unsupported => match range.list.fallback() {
            Some(list) => {
                range_store::replace(&mut backfill.context.pool.acquire().await?, &range, list).await?;
                tracing::warn!(list = range.list.as_str(), instead = list.as_str(), "Stripe has no such list");
                Outcome::Requeue(Range { list, after: None, ..range })
            }
            None => Outcome::Omitted { range, why: NO_LIST.to_owned() },
        },
        ApiError::RateLimited { retry_after, .. } | ApiError::Unavailable { retry_after, .. } => {
            Outcome::Retry { range, wait: retry_after, awaited: error.awaited(), why: error.to_string() }
        }
        // the other lists are still read
        ApiError::Forbidden { .. } => Outcome::Omitted { range, why: error.to_string() },
        ApiError::Unauthorised { .. } | ApiError::Rejected { .. } | ApiError::NotFound { .. } => {
            Outcome::Failed { range, why: error.to_string() }
        }
    })
}

/// Names items without an id by their position.
fn without_id(range: &Range, page: &Page) -> Vec<ObjectKey> {
    let after = range.after.as_ref();
    let page_name = after.map_or("the first page".to_owned(), |cursor| format!("the page after {}", cursor.id));
    let name = |cursor: &usize| format!("item {cursor} of {page_name}");
    let key = |cursor| ObjectKey::new(&range.account, range.list.object_type(), &name(cursor));
    page.without_id.iter().map(key).collect()
}

/// Stores a page, in one transaction if possible.
async fn store(backfill: &Arc<Backfill>, run: &Run, range: Range, found: ReadPage) -> Result<Outcome, Stop> {
    let mut holds = LOCK_RETRY_DELAYS.iter();
    let mut waiting = None;
    let stored = loop {
        let stored = match commit(backfill, run, found.clone(), None).await {
            Err(Failure::Retryable(_) | Failure::Permanent(_)) => {
                retry_individually(backfill, run, found.clone()).await
            }
            stored => stored,
        };
        match (stored, holds.next()) {
            // no new read is needed: the version records the age of the page
            (Err(failure @ Failure::Contended(_)), Some(milliseconds)) => {
                waiting.get_or_insert_with(|| backfill.waits.begin(failure.awaited(), None));
                sleep(Duration::from_millis(*milliseconds)).await;
            }
            (stored, _) => break stored,
        }
    };
    match stored {
        Ok(Some(stored)) => Ok(Outcome::Stored(stored)),
        Ok(None) => Err(Stop::LeaseLost),
        // a live event locks the page's objects for long, or the database is unavailable
        Err(failure) => Ok(Outcome::Retry { range, wait: None, awaited: failure.awaited(), why: failure.to_string() }),
    }
}

/// Number of objects, number of changed rows, and the objects that could not be stored with the reasons.
type PageCounts = (usize, usize, Vec<(ObjectKey, String)>);

/// Stores the page in one transaction; with `counts`, only its bookkeeping, because its objects are stored already.
/// Returns `None` if the lease is lost.
async fn commit(
    backfill: &Arc<Backfill>,
    run: &Run,
    found: ReadPage,
    counts: Option<PageCounts>,
) -> Result<Option<Stored>, Failure> {
    let (context, run, margin) = (backfill.context.clone(), run.clone(), backfill.margin);
    let work = async move {
        let ReadPage { parts, without_id, range, done, split, version, first_version } = found;
        let mut tx = merge_reads::begin(&context).await?;
        let (objects, changes, mut failed) = if let Some(counts) = counts {
            counts
        } else {
            let objects = parts.len();
            queue_unpaid_invoices(&mut tx, &parts, margin).await?;
            let historical = range.list.is_historical();
            let reads = ReadBatch {
                parts,
                cause: CAUSE.into(),
                force_project: BTreeSet::new(),
                historical,
                known_since: first_version,
            };
            (objects, merge_reads::merge(&mut tx, &context, reads).await?.changes.len(), Vec::new())
        };
        let no_name = || "the item has no id, or its type does not match the list".to_owned();
        failed.extend(without_id.into_iter().map(|key| (key, no_name())));
        for (key, error) in &failed {
            run_store::fail(&mut tx, &run, key, error).await?;
        }
        // last, because the heartbeat waits for this lock
        if !run_store::lock_if_owner(&mut tx, &run).await? {
            return Ok(None);
        }
        range_store::note(&mut tx, &range, done, objects, changes).await?;
        let split = match split {
            Some(span) => Some(range_store::add(&mut tx, run.id, &range.account, range.list, span).await?),
            None => None,
        };
        tx.commit().await?;
        let rest = (!done).then_some(range);
        Ok(Some(Stored { rest, split, version, objects, changes, failed: failed.len() }))
    };
    merge_reads::contained(work).await
}

/// Stores the objects of a page one by one, and records those that fail.
async fn retry_individually(
    backfill: &Arc<Backfill>,
    run: &Run,
    mut found: ReadPage,
) -> Result<Option<Stored>, Failure> {
    let (mut objects, mut changes, mut failed) = (0, 0, Vec::new());
    for part in std::mem::take(&mut found.parts) {
        let key = part.key.clone();
        match store_one(backfill, part, found.range.list.is_historical()).await {
            Ok(rows) => (objects, changes) = (objects + 1, changes + rows),
            Err(failure @ (Failure::Unavailable(_) | Failure::Contended(_))) => return Err(failure),
            Err(failure) => {
                tracing::error!(
                    object.r#type = key.object_type,
                    object.id = key.object_id,
                    error = %failure,
                    "an object cannot be stored; the backfill continues without it"
                );
                failed.push((key, failure.to_string()));
            }
        }
    }
    commit(backfill, run, found, Some((objects, changes, failed))).await
}

/// Queues a fetch of each unpaid invoice: its failed charges decide a flag, and lists contain only the last charge of
/// each payment.
async fn queue_unpaid_invoices(
    conn: &mut Connection,
    parts: &[FetchedObject],
    margin: Duration,
) -> Result<(), Failure> {
    let mut job_requests = JobRequests::default();
    for part in parts.iter().filter(|part| part.key.object_type == "invoice" && fetched::is_unpaid_invoice(part)) {
        job_requests.fetch(part.key.clone(), None);
    }
    Ok(requests::add(conn, &job_requests, margin).await?)
}

async fn store_one(backfill: &Arc<Backfill>, one: FetchedObject, historical: bool) -> Result<usize, Failure> {
    let (context, margin) = (backfill.context.clone(), backfill.margin);
    let work = async move {
        let mut tx = merge_reads::begin(&context).await?;
        queue_unpaid_invoices(&mut tx, std::slice::from_ref(&one), margin).await?;
        let reads = ReadBatch {
            parts: vec![one],
            cause: CAUSE.into(),
            force_project: BTreeSet::new(),
            historical,
            known_since: None,
        };
        let changes = merge_reads::merge(&mut tx, &context, reads).await?.changes.len();
        tx.commit().await?;
        Ok(changes)
    };
    merge_reads::contained(work).await
}
