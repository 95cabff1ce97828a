//! Claims: which events a worker may work on, and how a dead worker's claims come back.

use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::event::EventKey;

/// A claimed event with all that the worker needs to know of it.
pub struct Claimed {
    /// Id and creation time.
    pub key: EventKey,
    /// The event type.
    pub event_type: String,
    /// The payload names its object only.
    pub is_thin: bool,
    /// Type of the object, as far as the envelope said.
    pub object_type: Option<String>,
    /// Id of the object, as far as the envelope said.
    pub object_id: Option<String>,
    /// Connected account, empty for the account itself.
    pub account: String,
    /// As the event says.
    pub livemode: Option<bool>,
    /// The body, as it was received; `None` where the archive has lost it.
    pub payload: Option<Vec<u8>>,
}

/// A row as it comes from the database.
struct Row {
    event_id: String,
    created: OffsetDateTime,
    event_type: String,
    format: String,
    object_type: Option<String>,
    object_id: Option<String>,
    account: String,
    livemode: Option<bool>,
    payload: Option<Vec<u8>>,
}

impl From<Row> for Claimed {
    fn from(row: Row) -> Self {
        Self {
            key: EventKey { event_id: row.event_id, created: row.created },
            event_type: row.event_type,
            is_thin: row.format == "thin",
            object_type: row.object_type,
            object_id: row.object_id,
            account: row.account,
            livemode: row.livemode,
            payload: row.payload,
        }
    }
}

/// Payload bytes in one batch, or one event if it is larger: what is claimed is held in memory several times over.
const MAX_BATCH_BYTES: i64 = 8 * 1024 * 1024;

/// Claims up to `limit` fresh events, oldest first, for as long as the transaction lives.
///
/// The time is asked in a sub-select, once, so that the index ends the search where the due events end.
///
/// # Errors
/// Those of the database.
pub async fn batch(conn: &mut PgConnection, limit: i64) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"-- outbox.claim
        WITH claimed AS MATERIALIZED (
            SELECT event_id, created, type, format, object_type, object_id, account, livemode, run_at
            FROM billing.outbox
            WHERE state = 'pending' AND NOT alone AND run_at <= (SELECT clock_timestamp())
            ORDER BY run_at, event_id
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        ), sized AS (
            -- the length is in the row's header: nothing is read for it
            SELECT event_id, created, row_number() OVER oldest_first AS place,
                   sum(octet_length(e.payload)) OVER oldest_first AS bytes
            FROM claimed LEFT JOIN billing.events AS e USING (event_id, created)
            WINDOW oldest_first AS (ORDER BY run_at, event_id ROWS UNBOUNDED PRECEDING)
        )
        SELECT c.event_id, c.created, c.type AS event_type, c.format, c.object_type, c.object_id, c.account,
               c.livemode, e.payload AS "payload?"
        FROM sized AS s
        JOIN claimed AS c USING (event_id, created)
        LEFT JOIN billing.events AS e USING (event_id, created)
        WHERE s.place = 1 OR s.bytes IS NULL OR s.bytes <= $2"#,
        limit,
        MAX_BATCH_BYTES
    )
    .fetch_all(conn)
    .await
    .map(|rows| rows.into_iter().map(Claimed::from).collect())
}

/// Writes down that a batch is at work, for the case that its worker dies. In a commit of its own, on another
/// connection than the batch.
///
/// # Errors
/// Those of the database.
pub async fn note_batch(conn: &mut PgConnection, batch_id: Uuid, keys: &[EventKey]) -> Result<(), sqlx::Error> {
    let (ids, createds) = columns(keys);
    // The note need not survive a crash of the database, which kills no worker: so its commit waits for no disk.
    sqlx::query!(
        "-- outbox.note_batch
        WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
        INSERT INTO billing.worker_batches (batch_id, event_ids, createds) SELECT $1, $2, $3 FROM relaxed",
        batch_id,
        &ids,
        &createds
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes the note of a batch, in the transaction that ends it.
///
/// # Errors
/// Those of the database.
pub async fn forget_batch(conn: &mut PgConnection, batch_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("-- outbox.forget_batch\nDELETE FROM billing.worker_batches WHERE batch_id = $1", batch_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Sends the events of a failed batch to be tried one by one.
///
/// # Errors
/// Those of the database.
pub async fn set_alone(conn: &mut PgConnection, keys: &[EventKey]) -> Result<(), sqlx::Error> {
    let (ids, createds) = columns(keys);
    sqlx::query!(
        "-- outbox.set_alone
        UPDATE billing.outbox AS o SET alone = true
        FROM unnest($1::text[], $2::timestamptz[]) AS k (event_id, created)
        WHERE o.event_id = k.event_id AND o.created = k.created AND o.state = 'pending'",
        &ids,
        &createds
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finds the batches of dead workers and sends their events to be tried one by one; returns how many events.
///
/// A living batch holds the locks of its rows from before its note was written until after it is gone, so a
/// noted row that is pending and not locked has lost its worker.
///
/// # Errors
/// Those of the database.
pub async fn recover_batches(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- outbox.recover_batches
        WITH free AS (
            SELECT b.batch_id, o.event_id, o.created
            FROM billing.worker_batches AS b
            CROSS JOIN LATERAL unnest(b.event_ids, b.createds) AS k (event_id, created)
            JOIN billing.outbox AS o ON o.event_id = k.event_id AND o.created = k.created
            WHERE o.state = 'pending'
            FOR UPDATE OF o SKIP LOCKED
        ), sent AS (
            UPDATE billing.outbox AS o SET alone = true
            FROM free WHERE o.event_id = free.event_id AND o.created = free.created
            RETURNING 1
        ), forgotten AS (
            DELETE FROM billing.worker_batches AS b
            WHERE b.batch_id IN (SELECT batch_id FROM free)
                OR NOT EXISTS (
                    SELECT FROM unnest(b.event_ids, b.createds) AS k (event_id, created)
                    JOIN billing.outbox AS o ON o.event_id = k.event_id AND o.created = k.created
                    WHERE o.state = 'pending')
        )
        SELECT count(*) AS "count!" FROM sent"#
    )
    .fetch_one(conn)
    .await
    .map(|count| u64::try_from(count).unwrap_or_default())
}

/// One attempt at one event, already counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The event.
    pub key: EventKey,
    /// Which attempt this is, from 1.
    pub number: i32,
}

/// What came of looking for an event that goes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// This attempt is to be made.
    Attempt(Attempt),
    /// The worker died during the last attempt at this event, so that it is dead now.
    Exhausted(EventKey),
}

/// Counts the next attempt at the next event that goes alone. In a commit of its own, before the work: an event
/// that kills the process must run out of attempts too. For `lease` nobody else tries it.
///
/// # Errors
/// Those of the database.
pub async fn begin_attempt(
    conn: &mut PgConnection,
    lease: Duration,
    max_attempts: i32,
) -> Result<Option<Begun>, sqlx::Error> {
    let row = sqlx::query!(
        "-- outbox.begin_attempt
        -- materialized, so that the limit is 1 whatever the plan
        WITH next AS MATERIALIZED (
            SELECT event_id, created FROM billing.outbox
            WHERE state = 'pending' AND alone AND run_at <= (SELECT clock_timestamp())
            ORDER BY run_at, event_id
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        )
        UPDATE billing.outbox AS o SET
            attempts = LEAST(o.attempts + 1, $2),
            run_at = clock_timestamp() + $1::interval,
            last_error = 'the worker stopped during this attempt',
            state = CASE WHEN o.attempts < $2 THEN 'pending' ELSE 'dead' END,
            finished_at = CASE WHEN o.attempts < $2 THEN NULL ELSE clock_timestamp() END
        FROM next
        WHERE o.event_id = next.event_id AND o.created = next.created
        RETURNING o.event_id, o.created, o.attempts, o.state",
        interval(lease),
        max_attempts
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let key = EventKey { event_id: row.event_id, created: row.created };
        if row.state == "dead" { Begun::Exhausted(key) } else { Begun::Attempt(Attempt { key, number: row.attempts }) }
    }))
}

/// Claims the event of an attempt, for as long as the transaction lives. `None` where somebody else has it or
/// has finished it.
///
/// # Errors
/// Those of the database.
pub async fn one(conn: &mut PgConnection, attempt: &Attempt) -> Result<Option<Claimed>, sqlx::Error> {
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

/// How long until the next pending event is due; `None` where none is pending. Zero or less: it is due.
///
/// # Errors
/// Those of the database.
pub async fn next_due(conn: &mut PgConnection) -> Result<Option<Duration>, sqlx::Error> {
    let seconds = sqlx::query_scalar!(
        "-- outbox.next_due
        SELECT extract(epoch FROM LEAST(
            (SELECT min(run_at) FROM billing.outbox WHERE state = 'pending' AND alone),
            (SELECT min(run_at) FROM billing.outbox WHERE state = 'pending' AND NOT alone)
        ) - clock_timestamp())::float8"
    )
    .fetch_one(conn)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// The parallel arrays in which keys travel to `unnest`.
pub(super) fn columns<'a>(keys: impl IntoIterator<Item = &'a EventKey>) -> (Vec<String>, Vec<OffsetDateTime>) {
    keys.into_iter().map(|key| (key.event_id.clone(), key.created)).unzip()
}

/// A duration as PostgreSQL takes it, to the microsecond.
pub(super) fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}
