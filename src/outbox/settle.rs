//! Settling: how events leave the queue.
//!
//! `done` is written in the transaction that holds the event's effects, so that both commit or neither does.

use sqlx::PgConnection;

use super::claim::columns;
use crate::domain::event::{EventKey, Outcome, Reason};

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The event.
    pub key: EventKey,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, or what was noticed.
    pub reason: Option<Reason>,
}

/// Marks events done; returns for each how long ago it was received, in seconds.
///
/// # Errors
/// Those of the database, and [`sqlx::Error::RowNotFound`] where not every event was pending: then somebody
/// else has settled one, and the whole transaction must not commit.
pub async fn done(conn: &mut PgConnection, settlements: &[Settlement]) -> Result<Vec<(EventKey, f64)>, sqlx::Error> {
    let (ids, createds) = columns(settlements.iter().map(|one| &one.key));
    let outcomes: Vec<String> = settlements.iter().map(|one| one.outcome.as_str().to_owned()).collect();
    let reasons: Vec<Option<String>> =
        settlements.iter().map(|one| one.reason.map(|reason| reason.as_str().to_owned())).collect();
    let rows = sqlx::query!(
        r#"-- outbox.done
        UPDATE billing.outbox AS o SET
            state = 'done', outcome = k.outcome, reason = k.reason, finished_at = clock_timestamp(), last_error = NULL
        FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) AS k (event_id, created, outcome, reason)
        CROSS JOIN LATERAL (
            SELECT o.tableoid, o.ctid FROM billing.outbox AS o
            WHERE o.event_id = k.event_id AND o.created = k.created
            OFFSET 0
        ) AS place
        -- the claim has locked the row, so that it stays where it is
        WHERE o.tableoid = place.tableoid AND o.ctid = place.ctid AND o.state = 'pending'
        RETURNING o.event_id, o.created, extract(epoch FROM clock_timestamp() - o.received_at)::float8 AS "delay!""#,
        &ids,
        &createds,
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
