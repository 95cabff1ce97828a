//! Stores the missing events of a page, and counts them, also those that should have been delivered long ago.
//!
//! Called by the run, page by page. Each page is one commit, so an interrupted run keeps what it has stored.

use std::collections::HashSet;

use time::OffsetDateTime;

use super::page::Page;
use super::stats::ReconcileStats;
use super::{Failure, Reconcile, state};
use crate::database::Connection;
use crate::domain::event::{Envelope, EventKey};
use crate::outbox::counterparts;
use crate::outbox::enqueue::{self, EventSource, Incoming};
use crate::outbox::wake::wake;
use crate::stripe::catalogue::{self, Meaning};

/// Age after which an undelivered event counts as missed; a younger one may still be on its way.
const MISSED_AFTER: time::Duration = time::Duration::minutes(5);

/// Stores the missing events of a page that was requested at `at`, and updates the statistics.
pub(super) async fn page(
    reconcile: &Reconcile,
    account: &str,
    page: Page,
    at: OffsetDateTime,
    stats: &mut ReconcileStats,
) -> Result<(), Failure> {
    for event in &page.unreadable {
        let (id, error) = (event.id.as_deref(), &event.error);
        tracing::error!(event.id = id, account, %error, "an event that Stripe lists is not stored");
    }
    let events = &page.events;
    let work = async |conn: &mut Connection| {
        let (stored, refused) = insert(conn, events).await?;
        let found: Vec<&Envelope> =
            events.iter().map(|event| &event.envelope).filter(|event| stored.contains(&event.key)).collect();
        let missed = missed(conn, &found, at).await?;
        state::renew_lease(conn, account, missed.len() as u64).await?;
        if !stored.is_empty()
            && let Err(error) = wake(conn).await
        {
            // the workers also poll
            tracing::debug!(%error, "could not notify the workers");
        }
        Ok((found, missed, refused))
    };
    let (found, missed, refused) = reconcile.step(work).await?;
    for event_type in &missed {
        reconcile.metrics.event_missed(event_type);
    }
    stats.add(&page, &found, missed.len(), refused);
    Ok(())
}

/// Stores the missing events. Returns their keys and the number of events that the database refuses: one event with
/// invalid content must not prevent the storage of the others.
async fn insert(conn: &mut Connection, events: &[Incoming]) -> Result<(HashSet<EventKey>, usize), sqlx::Error> {
    match enqueue::store(conn, events, EventSource::Reconcile).await {
        Err(error) if enqueue::is_about_data(&error) => {}
        stored => return Ok((stored?, 0)),
    }
    let (mut stored, mut refused) = (HashSet::new(), 0);
    for event in events {
        match enqueue::store(conn, std::slice::from_ref(event), EventSource::Reconcile).await {
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

/// Returns the types of the missed events: old enough, handled by this program, and without a delivered thin event as a
/// counterpart.
async fn missed(conn: &mut Connection, found: &[&Envelope], now: OffsetDateTime) -> Result<Vec<String>, sqlx::Error> {
    let is_missed = |event: &&Envelope| {
        now - event.key.created > MISSED_AFTER && catalogue::meaning(&event.event_type) == Meaning::Snapshot
    };
    let late: Vec<&Envelope> = found.iter().copied().filter(is_missed).collect();
    let progress = counterparts::with_thin(conn, &late).await?;
    Ok(late.into_iter().filter(|event| !progress.contains(&event.key)).map(|event| event.event_type.clone()).collect())
}
