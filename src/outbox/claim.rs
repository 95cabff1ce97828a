//! Claims: selects the events of a worker's batch, and recovers the batches of dead workers.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::base::interval::interval;
use crate::database::Connection;
use crate::domain::event::EventKey;

/// A claimed event with all fields that the worker needs.
pub struct Claimed {
    /// Id and creation time.
    pub key: EventKey,
    /// The event type.
    pub event_type: String,
    /// Whether the event is thin: its payload only references its object.
    pub is_thin: bool,
    /// Type of the object, if the envelope contains it.
    pub object_type: Option<String>,
    /// Id of the object, if the envelope contains it.
    pub object_id: Option<String>,
    /// Connected account; empty for the key's own account.
    pub account: String,
    /// `livemode` of the event.
    pub livemode: Option<bool>,
    /// The body as received; `None` if it is missing in the archive.
    pub payload: Option<Vec<u8>>,
}

/// A claimed row as selected.
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

/// Maximum payload bytes in one batch, unless its first event is larger: payloads are held in memory several times.
const MAX_BATCH_BYTES: i64 = 8 * 1024 * 1024;

/// Maximum time between an event's due time and its commit with which it is still claimed at once. A later commit, as
/// behind a lost synchronous standby, is found by the next search from the beginning.
const LATE: Duration = Duration::from_secs(2);

/// Returns a lower bound of the due times of fresh pending events that were due at `from` or later.
///
/// # Errors
/// Database errors.
pub async fn oldest(conn: &mut Connection, from: OffsetDateTime) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- outbox.oldest_due
        SELECT least(min(oldest.run_at), statement_timestamp() - $1::interval) AS "at!"
        FROM billing.lanes AS lane
        CROSS JOIN LATERAL (
            SELECT o.run_at FROM billing.outbox AS o
            WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = lane.number AND o.state = 'pending' AND NOT o.isolated
                AND o.run_at >= $2
            ORDER BY o.run_at LIMIT 1
        ) AS oldest"#,
        interval(LATE),
        from
    )
    .fetch_one(conn)
    .await
}

/// Claims up to `limit` fresh events of free lanes that were due at `since` or later, oldest first, until the
/// transaction ends.
///
/// The current time is read once, in a sub-select, so that the index scan stops at the last due event.
///
/// # Errors
/// Database errors.
pub async fn batch(conn: &mut Connection, limit: i64, since: OffsetDateTime) -> Result<Vec<Claimed>, sqlx::Error> {
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
                    AND state = 'pending' AND NOT isolated AND run_at BETWEEN $3 AND (SELECT clock_timestamp())
                ORDER BY run_at, event_id
                LIMIT $1
                FOR UPDATE SKIP LOCKED
            ) AS due
            ORDER BY run_at, event_id
            LIMIT $1
        ), sized AS (
            -- the length is in the row's header: no payload is read for it
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

/// Records that a batch is in progress, in case its worker dies. Runs in a separate commit, on another connection than
/// the batch.
///
/// # Errors
/// Database errors.
pub async fn note_batch(conn: &mut Connection, batch_id: Uuid, keys: &[EventKey]) -> Result<(), sqlx::Error> {
    let (ids, created_ats) = columns(keys);
    // The record need not survive a crash of the database, which kills no worker: so its commit waits for no disk.
    sqlx::query!(
        "-- outbox.note_batch
        WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
        INSERT INTO billing.worker_batches (batch_id, event_ids, event_created_ats) SELECT $1, $2, $3 FROM relaxed",
        batch_id,
        &ids,
        &created_ats
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes the record of a batch, in the transaction that ends it.
///
/// # Errors
/// Database errors.
pub async fn forget_batch(conn: &mut Connection, batch_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("-- outbox.forget_batch\nDELETE FROM billing.worker_batches WHERE batch_id = $1", batch_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Isolates the events of a failed batch.
///
/// # Errors
/// Database errors.
pub async fn isolate(conn: &mut Connection, keys: &[EventKey]) -> Result<(), sqlx::Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let (ids, created_ats) = columns(keys);
    sqlx::query!(
        "-- outbox.isolate
        UPDATE billing.outbox AS o SET isolated = true
        FROM unnest($1::text[], $2::timestamptz[]) AS k (event_id, created)
        WHERE o.event_id = k.event_id AND o.created = k.created AND o.state = 'pending'",
        &ids,
        &created_ats
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finds the batches of dead workers and isolates their events; returns the number of events.
///
/// A running batch locks its rows from before its record is written until after the record is removed. So a recorded
/// row that is pending and not locked has lost its worker.
///
/// # Errors
/// Database errors.
pub async fn recover_batches(conn: &mut Connection) -> Result<u64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- outbox.recover_batches
        WITH free AS (
            SELECT b.batch_id, o.event_id, o.created
            FROM billing.worker_batches AS b
            CROSS JOIN LATERAL unnest(b.event_ids, b.event_created_ats) AS k (event_id, created)
            CROSS JOIN LATERAL (
                SELECT o.event_id, o.created FROM billing.outbox AS o
                WHERE o.event_id = k.event_id AND o.created = k.created AND o.state = 'pending'
                OFFSET 0
                FOR UPDATE SKIP LOCKED
            ) AS o
        ), sent AS (
            UPDATE billing.outbox AS o SET isolated = true
            FROM free WHERE o.event_id = free.event_id AND o.created = free.created
            RETURNING 1
        ), forgotten AS (
            DELETE FROM billing.worker_batches AS b
            WHERE b.batch_id IN (SELECT batch_id FROM free)
                OR NOT EXISTS (
                    SELECT FROM unnest(b.event_ids, b.event_created_ats) AS k (event_id, created)
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

/// Makes events due whose due time is too far ahead: fresh events do not wait at all, isolated ones at most `longest`.
/// Such times were written by a clock that ran ahead and has been corrected since. Returns the number of events.
///
/// # Errors
/// Database errors.
pub async fn pull_back(conn: &mut Connection, longest: Duration) -> Result<u64, sqlx::Error> {
    let pulled = sqlx::query!(
        "-- outbox.pull_back
        UPDATE billing.outbox AS o SET run_at = clock_timestamp()
        FROM (
            SELECT event_id, created FROM billing.outbox
            WHERE state = 'pending' AND NOT isolated AND run_at > (SELECT clock_timestamp() + interval '1 min')
            FOR UPDATE SKIP LOCKED
        ) AS late
        WHERE o.event_id = late.event_id AND o.created = late.created"
    );
    let fresh = pulled.execute(&mut *conn).await?.rows_affected();
    let pulled = sqlx::query!(
        "-- outbox.pull_back_isolated
        UPDATE billing.outbox AS o SET run_at = clock_timestamp()
        FROM (
            SELECT event_id, created FROM billing.outbox
            WHERE state = 'pending' AND isolated AND run_at > (SELECT clock_timestamp() + $1::interval + interval '1 min')
            FOR UPDATE SKIP LOCKED
        ) AS late
        WHERE o.event_id = late.event_id AND o.created = late.created",
        interval(longest)
    );
    Ok(fresh + pulled.execute(conn).await?.rows_affected())
}

/// Returns the time until the next pending event is due; zero if it is due, `None` if none is pending. Ignores fresh
/// events that were due before `since`.
///
/// # Errors
/// Database errors.
pub async fn next_due(conn: &mut Connection, since: OffsetDateTime) -> Result<Option<Duration>, sqlx::Error> {
    let seconds = sqlx::query_scalar!(
        "-- outbox.next_due
        SELECT extract(epoch FROM LEAST(
            (SELECT min(run_at) FROM billing.outbox WHERE state = 'pending' AND isolated),
            (SELECT min(next.run_at)
            FROM billing.lanes AS lane
            CROSS JOIN LATERAL (
                SELECT o.run_at FROM billing.outbox AS o
                WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = lane.number
                    AND o.state = 'pending' AND NOT o.isolated AND o.run_at >= $1
                ORDER BY o.run_at LIMIT 1
            ) AS next)
        ) - clock_timestamp())::float8",
        since
    )
    .fetch_one(conn)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// Splits keys into parallel arrays for `unnest`.
pub(super) fn columns<'a>(keys: impl IntoIterator<Item = &'a EventKey>) -> (Vec<String>, Vec<OffsetDateTime>) {
    keys.into_iter().map(|key| (key.event_id.clone(), key.created)).unzip()
}
