//! Claims: which events a worker may work on, and how a dead worker's claims come back.

use sqlx::PgConnection;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::event::EventKey;
use crate::interval::interval;

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
pub(super) struct Row {
    pub(super) event_id: String,
    pub(super) created: OffsetDateTime,
    pub(super) event_type: String,
    pub(super) format: String,
    pub(super) object_type: Option<String>,
    pub(super) object_id: Option<String>,
    pub(super) account: String,
    pub(super) livemode: Option<bool>,
    pub(super) payload: Option<Vec<u8>>,
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

/// How long a delivery may take from the time that its event is due to its commit, and be found at once all the same. One
/// that takes longer, as behind a lost synchronous standby, is found by the next look from the beginning.
const LATE: Duration = Duration::from_secs(2);

/// No fresh event that is pending now, and was due at `from` or later, was due before this time.
///
/// # Errors
/// Those of the database.
pub async fn oldest(conn: &mut PgConnection, from: OffsetDateTime) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- outbox.oldest_due
        SELECT least(min(oldest.run_at), statement_timestamp() - $1::interval) AS "at!"
        FROM billing.lanes AS lane
        CROSS JOIN LATERAL (
            SELECT o.run_at FROM billing.outbox AS o
            WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = lane.number AND o.state = 'pending' AND NOT o.alone
                AND o.run_at >= $2
            ORDER BY o.run_at LIMIT 1
        ) AS oldest"#,
        interval(LATE),
        from
    )
    .fetch_one(conn)
    .await
}

/// Claims up to `limit` fresh events of free lanes that were due at `since` or later, oldest first, for as long as the
/// transaction lives.
///
/// The time is asked in a sub-select, once, so that the index ends the search where the due events end.
///
/// # Errors
/// Those of the database.
pub async fn batch(conn: &mut PgConnection, limit: i64, since: OffsetDateTime) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"-- outbox.claim
        WITH claimed AS MATERIALIZED (
            SELECT due.*
            FROM unnest(billing.claim_lanes($1, $3)) AS claimed (lane)
            CROSS JOIN LATERAL (
                SELECT event_id, created, type, format, object_type, object_id, account, livemode, run_at
                FROM billing.outbox AS o
                WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = claimed.lane
                    AND state = 'pending' AND NOT alone AND run_at BETWEEN $3 AND (SELECT clock_timestamp())
                ORDER BY run_at, event_id
                LIMIT $1
                FOR UPDATE SKIP LOCKED
            ) AS due
            ORDER BY run_at, event_id
            LIMIT $1
        ), sized AS (
            -- the length is in the row's header: nothing is read for it
            SELECT c.*, e.payload, row_number() OVER oldest_first AS place,
                   sum(octet_length(e.payload)) OVER oldest_first AS bytes
            FROM claimed AS c
            LEFT JOIN LATERAL (
                SELECT e.payload FROM billing.events AS e
                WHERE e.event_id = c.event_id AND e.created = c.created
                OFFSET 0
            ) AS e ON true
            WINDOW oldest_first AS (ORDER BY c.run_at, c.event_id ROWS UNBOUNDED PRECEDING)
        )
        SELECT event_id AS "event_id!", created AS "created!", type AS "event_type!", format AS "format!", object_type,
               object_id, account AS "account!", livemode, payload AS "payload?"
        FROM sized
        WHERE place = 1 OR bytes IS NULL OR bytes <= $2"#,
        limit,
        MAX_BATCH_BYTES,
        since
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
    if keys.is_empty() {
        return Ok(());
    }
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
            CROSS JOIN LATERAL (
                SELECT o.event_id, o.created FROM billing.outbox AS o
                WHERE o.event_id = k.event_id AND o.created = k.created AND o.state = 'pending'
                OFFSET 0
                FOR UPDATE SKIP LOCKED
            ) AS o
        ), sent AS (
            UPDATE billing.outbox AS o SET alone = true
            FROM free WHERE o.event_id = free.event_id AND o.created = free.created
            RETURNING 1
        ), forgotten AS (
            DELETE FROM billing.worker_batches AS b
            WHERE b.batch_id IN (SELECT batch_id FROM free)
                OR NOT EXISTS (
                    SELECT FROM unnest(b.event_ids, b.createds) AS k (event_id, created)
                    CROSS JOIN LATERAL (
                        SELECT FROM billing.outbox AS o
                        WHERE o.event_id = k.event_id AND o.created = k.created AND o.state = 'pending'
                        OFFSET 0
                    ) AS o)
        )
        SELECT count(*) AS "count!" FROM sent"#
    )
    .fetch_one(conn)
    .await
    .map(|count| u64::try_from(count).unwrap_or_default())
}

/// Makes events due that wait for longer than any of ours can: fresh ones do not wait at all, the others at most `longest`.
/// Their times were written by a clock that ran ahead and has been put right since. Returns how many.
///
/// # Errors
/// Those of the database.
pub async fn pull_back(conn: &mut PgConnection, longest: Duration) -> Result<u64, sqlx::Error> {
    let pulled = sqlx::query!(
        "-- outbox.pull_back
        UPDATE billing.outbox AS o SET run_at = clock_timestamp()
        FROM (
            SELECT event_id, created FROM billing.outbox
            WHERE state = 'pending' AND NOT alone AND run_at > (SELECT clock_timestamp() + interval '1 min')
            FOR UPDATE SKIP LOCKED
        ) AS late
        WHERE o.event_id = late.event_id AND o.created = late.created"
    );
    let fresh = pulled.execute(&mut *conn).await?.rows_affected();
    let pulled = sqlx::query!(
        "-- outbox.pull_back_alone
        UPDATE billing.outbox AS o SET run_at = clock_timestamp()
        FROM (
            SELECT event_id, created FROM billing.outbox
            WHERE state = 'pending' AND alone AND run_at > (SELECT clock_timestamp() + $1::interval + interval '1 min')
            FOR UPDATE SKIP LOCKED
        ) AS late
        WHERE o.event_id = late.event_id AND o.created = late.created",
        interval(longest)
    );
    Ok(fresh + pulled.execute(conn).await?.rows_affected())
}

/// How long until the next pending event is due, of fresh ones that are not due before `since`; `None` where none is
/// pending. Zero or less: it is due.
///
/// # Errors
/// Those of the database.
pub async fn next_due(conn: &mut PgConnection, since: OffsetDateTime) -> Result<Option<Duration>, sqlx::Error> {
    let seconds = sqlx::query_scalar!(
        "-- outbox.next_due
        SELECT extract(epoch FROM LEAST(
            (SELECT min(run_at) FROM billing.outbox WHERE state = 'pending' AND alone),
            (SELECT min(next.run_at)
            FROM billing.lanes AS lane
            CROSS JOIN LATERAL (
                SELECT o.run_at FROM billing.outbox AS o
                WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = lane.number
                    AND o.state = 'pending' AND NOT o.alone AND o.run_at >= $1
                ORDER BY o.run_at LIMIT 1
            ) AS next)
        ) - clock_timestamp())::float8",
        since
    )
    .fetch_one(conn)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// The parallel arrays in which keys travel to `unnest`.
pub(super) fn columns<'a>(keys: impl IntoIterator<Item = &'a EventKey>) -> (Vec<String>, Vec<OffsetDateTime>) {
    keys.into_iter().map(|key| (key.event_id.clone(), key.created)).unzip()
}
