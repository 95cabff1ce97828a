//! One page of one range: read it, store it, and say what follows.
//!
//! The page, the new place of its range and the other half of a cut range are one transaction. A page that cannot be
//! stored is taken apart, and what cannot be stored by itself is noted by name and left behind. Called by the run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::list::Page;
use super::look::is_owed;
use super::range::{Next, Range};
use super::ranges;
use super::runs::{self, NO_LIST, Run};
use super::{Backfill, CAUSE, Stop};
use crate::client::{ApiError, Span};
use crate::domain::object::ObjectKey;
use crate::jobs::demand::{self, Demands};
use crate::worker::failure::Failure;
use crate::worker::part::{Part, stamp};
use crate::worker::reading::{self, Reading};

/// Waits while live events, or other pages, hold what a page has. Each try waits two seconds for them by itself.
const HOLDS: [u64; 6] = [20, 50, 100, 200, 500, 1000];

/// What came of one page.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is stored.
    Stored(Stored),
    /// It has to be asked for again, after this time at the earliest.
    Again {
        /// Where it stands.
        range: Range,
        /// What Stripe says to wait; else whoever asks decides.
        wait: Option<Duration>,
        /// Why.
        why: String,
    },
    /// The range is to be read in another way, from now on.
    Changed(Range),
    /// It is not read in this run: Stripe has no such list, or the key may not read it.
    Omitted {
        /// Where it stands.
        range: Range,
        /// Why.
        why: String,
    },
    /// It cannot go on until somebody mends what is wrong.
    Stuck {
        /// Where it stands.
        range: Range,
        /// What is wrong.
        why: String,
    },
}

/// A page that is stored.
#[derive(Debug)]
pub(super) struct Stored {
    /// The range after it; `None`: it was the last page.
    pub(super) rest: Option<Range>,
    /// What was cut off, to be read beside it.
    pub(super) cut: Option<Range>,
    /// Its version.
    pub(super) version: OffsetDateTime,
    pub(super) objects: usize,
    pub(super) changes: usize,
    /// Objects that could not be stored.
    pub(super) failed: usize,
}

/// A page that was read, and is to be stored.
#[derive(Clone)]
struct Found {
    parts: Vec<Part>,
    nameless: Vec<ObjectKey>,
    /// The range that goes on, or is done.
    range: Range,
    done: bool,
    cut: Option<Span>,
    version: OffsetDateTime,
    /// Version of the run's first page.
    began: Option<OffsetDateTime>,
}

/// Reads the next page of `range` and stores it. `cut`: somebody could read another part of it meanwhile. `began`: the
/// version of the run's first page.
///
/// # Errors
/// Only those that end the whole run.
pub(super) async fn step(
    backfill: &Arc<Backfill>,
    run: &Run,
    range: Range,
    cut: bool,
    began: Option<OffsetDateTime>,
) -> Result<Outcome, Stop> {
    let after = range.after.as_ref().map(|place| place.id.clone());
    let answer = match backfill.read_page(&range.account, range.list.listed(), range.span, after).await {
        Ok(answer) => answer,
        Err(error) => return refused(backfill, range, error).await,
    };
    let Ok(page) = Page::read(range.list, &answer.body) else {
        return Ok(again(range, None, "the answer of Stripe is no list"));
    };
    drop(answer.body);
    let (rest, done) = match range.next(&page) {
        Next::End => (range.clone(), true),
        Next::After(place) => (Range { after: Some(place), ..range.clone() }, false),
        Next::Nowhere => return Ok(again(range, None, "Stripe says that there is more, and does not give it")),
    };
    let second = rest.after.as_ref().filter(|_| cut && !done);
    let second = second.zip(backfill.floor).and_then(|(place, floor)| range.cut(&page, place, floor));
    let (older, rest) = match second {
        Some(at) => (
            Some(Span { from: range.span.from, until: Some(at) }),
            Range { span: Span { from: Some(at), ..rest.span }, ..rest },
        ),
        None => (None, rest),
    };
    let found = Found {
        nameless: nameless(&range, &page),
        parts: page.into_parts(&range.account, range.list, range.span, answer.at, backfill.margin),
        version: stamp(answer.at, backfill.margin),
        range: rest,
        done,
        cut: older,
        began,
    };
    store(backfill, run, range, found).await
}

fn again(range: Range, wait: Option<Duration>, why: impl Into<String>) -> Outcome {
    Outcome::Again { range, wait, why: why.into() }
}

/// What follows from an error of Stripe's.
async fn refused(backfill: &Backfill, range: Range, error: ApiError) -> Result<Outcome, Stop> {
    let is_missing = matches!(error, ApiError::NotFound { .. });
    if is_missing && let Some(range) = range.without_place() {
        // the object after which the page was to begin was deleted
        return Ok(Outcome::Changed(range));
    }
    let is_lacking = is_missing || error.is_unknown_path();
    Ok(match error {
        _ if is_lacking => match range.list.instead() {
            Some(list) => {
                ranges::replace(&mut *backfill.context.pool.acquire().await?, &range, list).await?;
                tracing::warn!(list = range.list.as_str(), instead = list.as_str(), "Stripe has no such list");
                Outcome::Changed(Range { list, after: None, ..range })
            }
            None => Outcome::Omitted { range, why: NO_LIST.to_owned() },
        },
        ApiError::RateLimited { retry_after, .. } | ApiError::Unavailable { retry_after, .. } => {
            again(range, retry_after, error.to_string())
        }
        // the other lists are read all the same
        ApiError::Forbidden { .. } => Outcome::Omitted { range, why: error.to_string() },
        ApiError::Unauthorised { .. } | ApiError::Rejected { .. } | ApiError::NotFound { .. } => {
            Outcome::Stuck { range, why: error.to_string() }
        }
    })
}

/// What has no id is named by where it stood.
fn nameless(range: &Range, page: &Page) -> Vec<ObjectKey> {
    let after = range.after.as_ref().map_or("at the beginning".to_owned(), |place| format!("after {}", place.id));
    let name = |place: &usize| format!("place {place} of the page {after}");
    let key = |place| ObjectKey::new(&range.account, range.list.object_type(), &name(place));
    page.nameless.iter().map(key).collect()
}

/// Stores a page, as a whole where that can be.
async fn store(backfill: &Arc<Backfill>, run: &Run, range: Range, found: Found) -> Result<Outcome, Stop> {
    let mut holds = HOLDS.iter();
    let stored = loop {
        let stored = match commit(backfill, run, found.clone(), None).await {
            Err(Failure::Retry(_) | Failure::Bury(_)) => take_apart(backfill, run, found.clone()).await,
            stored => stored,
        };
        match (stored, holds.next()) {
            // what was read need not be read again: it is as old as its version says
            (Err(Failure::Contended(_)), Some(milliseconds)) => sleep(Duration::from_millis(*milliseconds)).await,
            (stored, _) => break stored,
        }
    };
    match stored {
        Ok(Some(stored)) => Ok(Outcome::Stored(stored)),
        Ok(None) => Err(Stop::Relieved),
        // a live event holds what the page has for long, or the database is away
        Err(failure) => Ok(again(range, None, failure.to_string())),
    }
}

/// Objects and changed rows, and the objects that could not be stored, each with the reason.
type Counted = (usize, usize, Vec<(ObjectKey, String)>);

/// Stores the page in one transaction; with `counts`, only what is said about it, since its objects are stored already.
/// `None`: the run belongs to somebody else.
async fn commit(
    backfill: &Arc<Backfill>,
    run: &Run,
    found: Found,
    counts: Option<Counted>,
) -> Result<Option<Stored>, Failure> {
    let (context, run, margin) = (backfill.context.clone(), run.clone(), backfill.margin);
    let work = async move {
        let Found { parts, nameless, range, done, cut, version, began } = found;
        let mut tx = reading::begin(&context).await?;
        let (objects, changes, mut failed) = if let Some(counts) = counts {
            counts
        } else {
            let objects = parts.len();
            ask_for_owed(&mut tx, &parts, margin).await?;
            let past = range.list.is_past();
            let reading = Reading { parts, cause: CAUSE, also: BTreeSet::new(), past, known_since: began };
            (objects, reading::merge(&mut tx, &context, reading).await?.changes.len(), Vec::new())
        };
        let no_name = || "it has no id, or is of another type than the list".to_owned();
        failed.extend(nameless.into_iter().map(|key| (key, no_name())));
        for (key, error) in &failed {
            runs::fail(&mut tx, &run, key, error).await?;
        }
        // at the end, since a sign of life waits for whoever holds it
        if !runs::hold(&mut tx, &run).await? {
            return Ok(None);
        }
        ranges::note(&mut tx, &range, done, objects, changes).await?;
        let cut = match cut {
            Some(span) => Some(ranges::add(&mut tx, run.id, &range.account, range.list, span).await?),
            None => None,
        };
        tx.commit().await?;
        let rest = (!done).then_some(range);
        Ok(Some(Stored { rest, cut, version, objects, changes, failed: failed.len() }))
    };
    reading::contained(work).await
}

/// Stores the objects of a page one by one, and notes those that cannot be.
async fn take_apart(backfill: &Arc<Backfill>, run: &Run, mut found: Found) -> Result<Option<Stored>, Failure> {
    let (mut objects, mut changes, mut failed) = (0, 0, Vec::new());
    for part in std::mem::take(&mut found.parts) {
        let key = part.key.clone();
        match alone(backfill, part, found.range.list.is_past()).await {
            Ok(rows) => (objects, changes) = (objects + 1, changes + rows),
            Err(failure @ (Failure::Away(_) | Failure::Contended(_))) => return Err(failure),
            Err(failure) => {
                tracing::error!(
                    object.r#type = key.object_type,
                    object.id = key.object_id,
                    error = %failure,
                    "an object cannot be stored, and the backfill goes on without it"
                );
                failed.push((key, failure.to_string()));
            }
        }
    }
    commit(backfill, run, found, Some((objects, changes, failed))).await
}

/// The failed charges of what is still owed decide a flag, and lists have the last charge of each payment only.
async fn ask_for_owed(conn: &mut PgConnection, parts: &[Part], margin: Duration) -> Result<(), Failure> {
    let mut demands = Demands::default();
    for part in parts.iter().filter(|part| part.key.object_type == "invoice" && is_owed(part)) {
        demands.fetch(part.key.clone(), None);
    }
    Ok(demand::add(conn, &demands, margin).await?)
}

async fn alone(backfill: &Arc<Backfill>, one: Part, past: bool) -> Result<usize, Failure> {
    let (context, margin) = (backfill.context.clone(), backfill.margin);
    let work = async move {
        let mut tx = reading::begin(&context).await?;
        ask_for_owed(&mut tx, std::slice::from_ref(&one), margin).await?;
        let reading = Reading { parts: vec![one], cause: CAUSE, also: BTreeSet::new(), past, known_since: None };
        let changes = reading::merge(&mut tx, &context, reading).await?.changes.len();
        tx.commit().await?;
        Ok(changes)
    };
    reading::contained(work).await
}
