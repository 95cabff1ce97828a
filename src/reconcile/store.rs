//! Stores what is lacking of a page, and counts it: what was found, and what of it should have been delivered long ago.
//!
//! Called by the run, page by page. Each page is a commit of its own, so that whatever breaks off keeps what it has.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::page::Page;
use super::{Failure, Reconcile, watermark};
use crate::domain::event::{Envelope, EventKey};
use crate::outbox::enqueue::{self, Incoming, Origin};
use crate::outbox::twins;
use crate::outbox::wake::wake;
use crate::stripe::catalogue::{self, Meaning};

/// A younger event may still be on its way.
const MISSED_AFTER: time::Duration = time::Duration::minutes(5);

/// How many ids are named for each type.
const EXAMPLES: usize = 3;

/// What a comparison has found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events listed.
    pub compared: u64,
    /// Those that were not stored before, by type.
    pub found: BTreeMap<String, Found>,
    /// Those of them that count as missed.
    pub missed: u64,
    /// Those that could not be stored; the log names them.
    pub unreadable: u64,
}

/// Events of one type that were not stored before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub events: u64,
    /// The ids of the first ones.
    pub examples: Vec<String>,
}

impl Tally {
    /// Events that were not stored before.
    pub fn inserted(&self) -> u64 {
        self.found.values().map(|found| found.events).sum()
    }
}

/// Stores what is lacking of a page that was asked for `at` that time, and counts it.
pub(super) async fn page(
    reconcile: &Reconcile,
    account: &str,
    page: Page,
    at: OffsetDateTime,
    tally: &mut Tally,
) -> Result<(), Failure> {
    for event in &page.unreadable {
        let (id, error) = (event.id.as_deref(), &event.error);
        tracing::error!(event.id = id, account, %error, "an event that Stripe lists is not stored");
    }
    let events = &page.events;
    let work = async |conn: &mut PgConnection| {
        let (stored, refused) = insert(conn, events).await?;
        let found: Vec<&Envelope> =
            events.iter().map(|event| &event.envelope).filter(|event| stored.contains(&event.key)).collect();
        let missed = missed(conn, &found, at).await?;
        watermark::hold(conn, account).await?;
        if !stored.is_empty()
            && let Err(error) = wake(conn).await
        {
            // they poll too
            tracing::debug!(%error, "cannot notify the workers");
        }
        Ok((found, missed, refused))
    };
    let (found, missed, refused) = reconcile.step(work).await?;
    for event_type in &missed {
        reconcile.metrics.event_missed(event_type);
    }
    tally.add(&page, &found, missed.len(), refused);
    Ok(())
}

impl Tally {
    fn add(&mut self, page: &Page, found: &[&Envelope], missed: usize, refused: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.compared += number(page.events.len() + page.unreadable.len());
        self.unreadable += number(page.unreadable.len() + refused);
        self.missed += number(missed);
        for event in found {
            let of_type = self.found.entry(event.event_type.clone()).or_default();
            of_type.events += 1;
            if of_type.examples.len() < EXAMPLES {
                of_type.examples.push(event.key.event_id.clone());
            }
        }
    }
}

/// Stores what is lacking; says which those are, and how many the database refuses. What one event holds must never cost
/// its neighbours their place.
async fn insert(conn: &mut PgConnection, events: &[Incoming]) -> Result<(HashSet<EventKey>, usize), sqlx::Error> {
    match enqueue::store(conn, events, Origin::Reconcile).await {
        Err(error) if enqueue::is_about_data(&error) => {}
        stored => return Ok((stored?, 0)),
    }
    let (mut stored, mut refused) = (HashSet::new(), 0);
    for event in events {
        match enqueue::store(conn, std::slice::from_ref(event), Origin::Reconcile).await {
            Ok(keys) => stored.extend(keys),
            Err(error) if enqueue::is_about_data(&error) => {
                let error = Failure::from(error);
                tracing::error!(event.id = event.envelope.key.event_id, %error, "the database refuses an event");
                refused += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((stored, refused))
}

/// The types of those that nobody can have expected any more: old enough, acting here, and not told by a thin event.
async fn missed(conn: &mut PgConnection, found: &[&Envelope], now: OffsetDateTime) -> Result<Vec<String>, sqlx::Error> {
    let is_missed = |event: &&Envelope| {
        now - event.key.created > MISSED_AFTER && catalogue::meaning(&event.event_type) == Meaning::Snapshot
    };
    let late: Vec<&Envelope> = found.iter().copied().filter(is_missed).collect();
    let told = twins::thin(conn, &late).await?;
    Ok(late.into_iter().filter(|event| !told.contains(&event.key)).map(|event| event.event_type.clone()).collect())
}
