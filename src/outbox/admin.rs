//! The operator's queries of the outbox: finds and lists events, retries dead events, discards dead events.
//!
//! Events that a worker may process are not changed here, but for the time of their next attempt. Called by the `outbox`
//! commands. The caller owns the transaction.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use super::claim::columns;
use crate::base::interval::interval;
use crate::database::Connection;
use crate::domain::event::EventKey;

/// Which events: those that fit everything that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The id of the event.
    pub event_id: Option<String>,
    /// pending, done or dead.
    pub state: Option<&'static str>,
    /// The event type.
    pub event_type: Option<String>,
    /// The customer that the event's object references, or is.
    pub customer_id: Option<String>,
    /// The event's object.
    pub object_id: Option<String>,
    /// A part of the last error, in any case.
    pub error: Option<String>,
    /// The least age: time since the event was received.
    pub older_than: Option<Duration>,
    /// The age that is too old.
    pub newer_than: Option<Duration>,
}

/// An event that fits a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The event.
    pub key: EventKey,
    /// Its type.
    pub event_type: String,
}

/// One event of the outbox: every column, and those of its discard. Times are written as RFC 3339.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the columns of billing.outbox and billing.discards, described in their migrations")]
pub struct Row {
    pub event_id: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    pub r#type: String,
    pub format: String,
    pub object_type: Option<String>,
    pub object_id: Option<String>,
    pub customer_id: Option<String>,
    pub account: String,
    pub livemode: Option<bool>,
    pub api_version: Option<String>,
    pub source: String,
    pub state: String,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub isolated: bool,
    pub attempts: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub run_at: OffsetDateTime,
    pub last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    pub discarded_by: Option<String>,
    pub database_role: Option<String>,
    pub discard_reason: Option<String>,
}

/// Selects the events that fit, the newest first, at most `limit`.
///
/// Indexes find an event id, an object, a state other than done, and `newer_than`. Any other filter reads the outbox by
/// partition if it is the only one, which takes seconds with many millions of events.
///
/// # Errors
/// Database errors.
pub async fn select(conn: &mut Connection, filter: &Filter, limit: Option<i64>) -> Result<Vec<Selected>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        -- outbox.select
        SELECT o.event_id, o.created, o.type AS event_type
        FROM billing.outbox AS o
        WHERE ($1::text IS NULL OR o.event_id = $1)
            AND ($2::text IS NULL OR o.state = $2)
            -- always true; pending events have two indexes, and each needs its half of this condition
            AND ($2 IS DISTINCT FROM 'pending' OR NOT o.isolated OR o.isolated)
            AND ($3::text IS NULL OR o.type = $3)
            AND ($4::text IS NULL OR o.customer_id = $4)
            AND ($5::text IS NULL OR o.object_id = $5)
            AND ($6::text IS NULL OR strpos(lower(o.last_error), lower($6)) > 0)
            AND ($7::interval IS NULL OR o.received_at <= (SELECT clock_timestamp() - $7))
            AND ($8::interval IS NULL OR o.received_at > (SELECT clock_timestamp() - $8))
            -- follows from the line before, because an event is received before it is finished; these have indexes
            AND ($8 IS NULL OR o.finished_at > (SELECT clock_timestamp() - $8)
                OR (o.state = 'pending' AND NOT o.isolated) OR (o.state = 'pending' AND o.isolated))
        ORDER BY o.received_at DESC, o.event_id DESC
        LIMIT $9
        "#,
        filter.event_id.as_deref(),
        filter.state,
        filter.event_type.as_deref(),
        filter.customer_id.as_deref(),
        filter.object_id.as_deref(),
        filter.error.as_deref(),
        filter.older_than.map(interval),
        filter.newer_than.map(interval),
        limit
    )
    .fetch_all(conn)
    .await?;
    let selected = rows.into_iter().map(|row| Selected {
        key: EventKey { event_id: row.event_id, created: row.created },
        event_type: row.event_type,
    });
    Ok(selected.collect())
}

/// Returns the rows of these events, in their order.
///
/// # Errors
/// Database errors.
pub async fn rows(conn: &mut Connection, keys: impl IntoIterator<Item = &EventKey>) -> Result<Vec<Row>, sqlx::Error> {
    let (ids, created_ats) = columns(keys);
    sqlx::query_as!(
        Row,
        r#"
        -- outbox.rows
        SELECT o.event_id, o.created, o.type, o.format, o.object_type, o.object_id, o.customer_id, o.account, o.livemode,
            o.api_version, o.source, o.state, o.outcome, o.reason, o.isolated, o.attempts, o.run_at, o.last_error,
            o.received_at, o.finished_at, discard.discarded_by AS "discarded_by?",
            discard.database_role AS "database_role?", discard.reason AS "discard_reason?"
        FROM unnest($1::text[], $2::timestamptz[]) WITH ORDINALITY AS k (event_id, created, position)
        JOIN billing.outbox AS o ON o.event_id = k.event_id AND o.created = k.created
        LEFT JOIN billing.discards AS discard
            ON o.reason = 'discarded' AND discard.event_id = o.event_id AND discard.created = o.created
                AND discard.discarded_at = o.finished_at
        ORDER BY k.position
        "#,
        &ids,
        &created_ats
    )
    .fetch_all(conn)
    .await
}

/// Returns the archived bytes of one event; `None` if they were removed by the retention or a redaction.
///
/// # Errors
/// Database errors.
pub async fn payload(
    conn: &mut Connection,
    event_id: &str,
    created: OffsetDateTime,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- outbox.payload
        SELECT payload FROM billing.events WHERE event_id = $1 AND created = $2
        "#,
        event_id,
        created
    )
    .fetch_optional(conn)
    .await
    .map(Option::flatten)
}

/// An event whose row is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The event.
    pub key: EventKey,
    /// pending, done or dead.
    pub state: String,
    /// Whether its next attempt is in the future. It has failed before, or its worker has died, or runs.
    pub is_postponed: bool,
}

/// Locks the rows of these events until the transaction ends, and returns their states.
///
/// # Errors
/// Database errors.
pub async fn lock(conn: &mut Connection, event_ids: &[String]) -> Result<Vec<Locked>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        -- outbox.lock
        SELECT event_id, created, state, (state = 'pending' AND run_at > clock_timestamp()) AS "is_postponed!"
        FROM billing.outbox
        WHERE event_id = ANY($1)
        -- the same lock order in every session, so that two operators cannot deadlock
        ORDER BY event_id, created
        FOR UPDATE
        "#,
        event_ids
    )
    .fetch_all(conn)
    .await?;
    let locked = rows.into_iter().map(|row| Locked {
        key: EventKey { event_id: row.event_id, created: row.created },
        state: row.state,
        is_postponed: row.is_postponed,
    });
    Ok(locked.collect())
}

/// Makes those of these events that are dead pending again, with all their attempts; returns their number.
///
/// They keep their last error until the next one, and are isolated, because the cause may persist.
///
/// # Errors
/// Database errors.
pub async fn retry(conn: &mut Connection, keys: impl IntoIterator<Item = &EventKey>) -> Result<u64, sqlx::Error> {
    let (ids, created_ats) = columns(keys);
    let retried = sqlx::query!(
        r#"
        -- outbox.retry
        WITH dead AS MATERIALIZED (
            SELECT o.event_id, o.created
            FROM unnest($1::text[], $2::timestamptz[]) AS k (event_id, created)
            JOIN billing.outbox AS o ON o.event_id = k.event_id AND o.created = k.created
            WHERE o.state = 'dead'
            ORDER BY o.event_id, o.created
            FOR UPDATE OF o
        )
        UPDATE billing.outbox AS o
        SET state = 'pending', attempts = 0, isolated = true, run_at = clock_timestamp(), finished_at = NULL
        FROM dead WHERE o.event_id = dead.event_id AND o.created = dead.created
        "#,
        &ids,
        &created_ats
    )
    .execute(conn)
    .await?;
    Ok(retried.rows_affected())
}

/// Makes those of these events that are pending due now. Their attempts stay counted.
///
/// # Errors
/// Database errors.
pub async fn make_due(conn: &mut Connection, keys: impl IntoIterator<Item = &EventKey>) -> Result<(), sqlx::Error> {
    let (ids, created_ats) = columns(keys);
    sqlx::query!(
        r#"
        -- outbox.make_due
        UPDATE billing.outbox AS o SET run_at = clock_timestamp()
        FROM unnest($1::text[], $2::timestamptz[]) AS k (event_id, created)
        WHERE o.event_id = k.event_id AND o.created = k.created AND o.state = 'pending'
        "#,
        &ids,
        &created_ats
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Who discards events, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discard<'a> {
    /// The name of the operator.
    pub by: &'a str,
    /// Why, without personal data.
    pub reason: &'a str,
}

/// Discards those of these events that are dead, and records the discard; returns their number. They become done and
/// ignored, with the reason `discarded`.
///
/// # Errors
/// Database errors.
pub async fn discard(
    conn: &mut Connection,
    keys: impl IntoIterator<Item = &EventKey>,
    discard: Discard<'_>,
) -> Result<u64, sqlx::Error> {
    let (ids, created_ats) = columns(keys);
    let recorded = sqlx::query!(
        r#"
        -- outbox.discard
        WITH dead AS MATERIALIZED (
            SELECT o.event_id, o.created
            FROM unnest($1::text[], $2::timestamptz[]) AS k (event_id, created)
            JOIN billing.outbox AS o ON o.event_id = k.event_id AND o.created = k.created
            WHERE o.state = 'dead'
            ORDER BY o.event_id, o.created
            FOR UPDATE OF o
        ), discarded AS (
            UPDATE billing.outbox AS o
            SET state = 'done', outcome = 'ignored', reason = 'discarded', finished_at = clock_timestamp()
            FROM dead WHERE o.event_id = dead.event_id AND o.created = dead.created
            RETURNING o.event_id, o.created, o.finished_at
        )
        INSERT INTO billing.discards (event_id, created, discarded_at, discarded_by, database_role, reason)
        SELECT event_id, created, finished_at, $3, session_user::text, $4 FROM discarded
        "#,
        &ids,
        &created_ats,
        discard.by,
        discard.reason
    )
    .execute(conn)
    .await?;
    Ok(recorded.rows_affected())
}

/// A recorded discard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of billing.discards, described in its migration")]
pub struct Discarded {
    pub discarded_at: OffsetDateTime,
    pub discarded_by: String,
    pub database_role: String,
    pub reason: String,
}

/// Returns the discards of an event id, the oldest first, also those of events that the retention has removed.
///
/// # Errors
/// Database errors.
pub async fn discards(conn: &mut Connection, event_id: &str) -> Result<Vec<Discarded>, sqlx::Error> {
    sqlx::query_as!(
        Discarded,
        r#"
        -- outbox.discards
        SELECT discarded_at, discarded_by, database_role, reason FROM billing.discards
        WHERE event_id = $1
        ORDER BY discarded_at
        "#,
        event_id
    )
    .fetch_all(conn)
    .await
}
