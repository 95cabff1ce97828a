//! Attempts at isolated events: counted before the work; after a failure released, repeated, or the last one.
//!
//! Each function runs in a separate commit, except [`claim`], which is the first statement of the work itself.

use std::time::Duration;

use super::claim::{Claimed, Row};
use crate::base::interval::interval;
use crate::database::Connection;
use crate::domain::event::EventKey;

/// One attempt at one event, already counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The event.
    pub key: EventKey,
    /// Which attempt this is, from 1.
    pub number: i32,
}

/// Result of selecting the next isolated event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextAttempt {
    /// The attempt is counted and must be made now.
    Attempt(Attempt),
    /// No attempt is left, so the event is dead now, with the error of its last attempt. The worker died during that
    /// attempt, or the maximum was lowered.
    Exhausted(EventKey, String),
}

/// Selection among the isolated events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The longest due event without an individual attempt: its batch may have failed because of another event.
    Untried,
    /// The longest due event.
    Any,
}

/// Counts the next attempt at the next isolated event. Runs in a separate commit before the work, because an event that
/// kills the process must also run out of attempts. No other worker tries the event during `lease`.
///
/// # Errors
/// Database errors.
pub async fn begin(
    conn: &mut Connection,
    next: Next,
    lease: Duration,
    max_attempts: i32,
) -> Result<Option<NextAttempt>, sqlx::Error> {
    let row = sqlx::query!(
        "-- outbox.begin_attempt
        -- materialized, so that the limit is 1 with every plan
        WITH next AS MATERIALIZED (
            SELECT event_id, created FROM billing.outbox
            WHERE state = 'pending' AND isolated AND run_at <= (SELECT clock_timestamp()) AND (attempts = 0 OR NOT $3)
            ORDER BY run_at, event_id
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        )
        UPDATE billing.outbox AS o SET
            attempts = LEAST(o.attempts + 1, $2),
            run_at = clock_timestamp() + $1::interval,
            last_error = CASE WHEN o.attempts < $2 THEN 'the worker stopped during this attempt'
                ELSE coalesce(o.last_error, 'no attempt is left') END,
            state = CASE WHEN o.attempts < $2 THEN 'pending' ELSE 'dead' END,
            finished_at = CASE WHEN o.attempts < $2 THEN NULL ELSE clock_timestamp() END
        FROM next
        WHERE o.event_id = next.event_id AND o.created = next.created
        RETURNING o.event_id, o.created, o.attempts, o.state, o.last_error",
        interval(lease),
        max_attempts,
        next == Next::Untried
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let key = EventKey { event_id: row.event_id, created: row.created };
        if row.state == "dead" {
            NextAttempt::Exhausted(key, row.last_error.unwrap_or_default())
        } else {
            NextAttempt::Attempt(Attempt { key, number: row.attempts })
        }
    }))
}

/// Claims the event of an attempt until the transaction ends. `None` if another worker has claimed or finished it.
///
/// # Errors
/// Database errors.
pub async fn claim(conn: &mut Connection, attempt: &Attempt) -> Result<Option<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"-- outbox.claim_one
        SELECT o.event_id, o.created, o.type AS event_type, o.format, o.object_type, o.object_id, o.account,
               o.livemode, e.payload AS "payload?"
        FROM billing.outbox AS o LEFT JOIN billing.events AS e USING (event_id, created)
        WHERE o.event_id = $1 AND o.created = $2 AND o.state = 'pending' AND o.attempts = $3
        FOR UPDATE OF o SKIP LOCKED"#,
        attempt.key.event_id,
        attempt.key.created,
        attempt.number
    )
    .fetch_optional(conn)
    .await
    .map(|row| row.map(Claimed::from))
}

/// Puts an event back after a failed attempt; it is retried after `delay`.
///
/// # Errors
/// Database errors.
pub async fn put_back(
    conn: &mut Connection,
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

/// Releases an attempt that failed because of the infrastructure, so that it does not count. The event is retried after
/// a tenth of its age, from 1 s to 1 min: a lasting cause, such as a locked row, is retried with increasing delay.
///
/// # Errors
/// Database errors.
pub async fn snooze(conn: &mut Connection, attempt: &Attempt) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- outbox.snooze
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

/// Makes an event dead: it is not retried until an operator retries it.
///
/// # Errors
/// Database errors.
pub async fn dead_letter(conn: &mut Connection, attempt: &Attempt, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- outbox.dead_letter
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
