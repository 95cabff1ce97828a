//! Settling: removes events from the queue.
//!
//! `done` is written in the transaction that contains the event's effects, so that both commit or neither does.

use super::claim::columns;
use crate::database::Connection;
use crate::domain::event::{EventKey, Outcome, Reason};

/// Result of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The event.
    pub key: EventKey,
    /// Outcome of the event.
    pub outcome: Outcome,
    /// Reason of the outcome, or a remark.
    pub reason: Option<Reason>,
}

/// Marks events done; returns for each the seconds since it was received.
///
/// # Errors
/// Database errors, and [`sqlx::Error::RowNotFound`] if an event was not pending: then another worker has settled it,
/// and the whole transaction must not commit.
pub async fn done(conn: &mut Connection, settlements: &[Settlement]) -> Result<Vec<(EventKey, f64)>, sqlx::Error> {
    let (ids, created_ats) = columns(settlements.iter().map(|one| &one.key));
    let outcomes: Vec<String> = settlements.iter().map(|one| one.outcome.as_str().to_owned()).collect();
    let reasons: Vec<Option<String>> =
        settlements.iter().map(|one| one.reason.map(|reason| reason.as_str().to_owned())).collect();
    let rows = sqlx::query!(
        r#"-- outbox.done
        -- an upsert, because it finds each row by its key whatever the statistics are; it never inserts
        INSERT INTO billing.outbox AS o (event_id, created, type, format, state, outcome, reason, finished_at)
        SELECT k.event_id, k.created, held.type, held.format, 'done', k.outcome, k.reason, clock_timestamp()
        FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) AS k (event_id, created, outcome, reason)
        CROSS JOIN LATERAL (
            SELECT h.type, h.format FROM billing.outbox AS h
            WHERE h.event_id = k.event_id AND h.created = k.created
            OFFSET 0
        ) AS held
        ON CONFLICT (event_id, created) DO UPDATE SET
            state = excluded.state, outcome = excluded.outcome, reason = excluded.reason,
            finished_at = excluded.finished_at, last_error = NULL
        WHERE o.state = 'pending'
        RETURNING o.event_id, o.created, extract(epoch FROM clock_timestamp() - o.received_at)::float8 AS "delay!""#,
        &ids,
        &created_ats,
        &outcomes,
        &reasons as &[Option<String>]
    )
    .fetch_all(conn)
    .await?;
    if rows.len() != settlements.len() {
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(rows.into_iter().map(|row| (EventKey { event_id: row.event_id, created: row.created }, row.delay)).collect())
}
