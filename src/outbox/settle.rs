//! Settling: how an event leaves the queue, or goes back into it.
//!
//! `done` is written in the transaction that holds the event's effects, so that both commit or neither does.

use std::time::Duration;

use sqlx::PgConnection;

use super::claim::{Attempt, columns, interval};
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
        WHERE o.event_id = k.event_id AND o.created = k.created AND o.state = 'pending'
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

/// Puts an event back after a failed attempt, to be tried again after `delay`.
///
/// # Errors
/// Those of the database.
pub async fn put_back(
    conn: &mut PgConnection,
    attempt: &Attempt,
    delay: Duration,
    error: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- outbox.put_back
        UPDATE billing.outbox SET run_at = clock_timestamp() + $4::interval, last_error = $5
        WHERE event_id = $1 AND created = $2 AND state = 'pending' AND attempts = $3",
        attempt.key.event_id,
        attempt.key.created,
        attempt.number,
        interval(delay),
        error
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes an attempt back that ended by no fault of the event. It is made again after a tenth of the time that the
/// event has waited already, from 1 s to 1 min: what lasts, a row that somebody holds, is asked less and less often.
///
/// # Errors
/// Those of the database.
pub async fn refund(conn: &mut PgConnection, attempt: &Attempt) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- outbox.refund
        UPDATE billing.outbox SET
            attempts = attempts - 1,
            last_error = NULL,
            run_at = clock_timestamp()
                + LEAST(interval '1 min', GREATEST(interval '1 s', (clock_timestamp() - received_at) / 10))
        WHERE event_id = $1 AND created = $2 AND state = 'pending' AND attempts = $3",
        attempt.key.event_id,
        attempt.key.created,
        attempt.number
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Parks an event: it will not be tried again until an operator says so.
///
/// # Errors
/// Those of the database.
pub async fn bury(conn: &mut PgConnection, attempt: &Attempt, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- outbox.bury
        UPDATE billing.outbox SET state = 'dead', finished_at = clock_timestamp(), last_error = $4
        WHERE event_id = $1 AND created = $2 AND state = 'pending' AND attempts = $3",
        attempt.key.event_id,
        attempt.key.created,
        attempt.number,
        error
    )
    .execute(conn)
    .await?;
    Ok(())
}
