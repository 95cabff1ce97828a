//! The operator's queries of the outbox: lists events, retries dead events, discards dead events.
//!
//! Only dead events are changed here; pending ones belong to the workers. Called by the `outbox` commands. The caller
//! owns the transaction.

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// One event of the outbox, every column. Times are written as RFC 3339.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the columns of billing.outbox, described in its migration")]
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
}

/// Returns events by state and type, newest first; `None` means any.
///
/// Pending and dead events have indexes. Finished events have no index for this: the archive is scanned by partition,
/// which takes seconds with many millions of events.
///
/// # Errors
/// Database errors.
pub async fn list(
    conn: &mut PgConnection,
    state: Option<&str>,
    event_type: Option<&str>,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        -- outbox.list
        SELECT event_id, created, type, format, object_type, object_id, customer_id, account, livemode, api_version,
            source, state, outcome, reason, isolated, attempts, run_at, last_error, received_at, finished_at
        FROM billing.outbox
        WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR type = $2)
        ORDER BY received_at DESC, event_id DESC
        LIMIT $3
        "#,
        state,
        event_type,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Returns the rows of one event id: one, unless events with the same id and different creation times were stored.
///
/// # Errors
/// Database errors.
pub async fn find(conn: &mut PgConnection, event_id: &str) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        -- outbox.find
        SELECT event_id, created, type, format, object_type, object_id, customer_id, account, livemode, api_version,
            source, state, outcome, reason, isolated, attempts, run_at, last_error, received_at, finished_at
        FROM billing.outbox
        WHERE event_id = $1
        ORDER BY created
        "#,
        event_id
    )
    .fetch_all(conn)
    .await
}

/// Returns the archived bytes of one event; `None` if they were removed by the retention or a redaction.
///
/// # Errors
/// Database errors.
pub async fn payload(
    conn: &mut PgConnection,
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

/// Locks the rows of these events until the transaction ends, and returns their states.
///
/// # Errors
/// Database errors.
pub async fn lock(conn: &mut PgConnection, event_ids: &[String]) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        -- outbox.lock
        SELECT event_id, state
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
    Ok(rows.into_iter().map(|row| (row.event_id, row.state)).collect())
}

/// Makes dead events pending again, with all their attempts; returns their ids.
///
/// `event_ids`: the events; `None`: all dead ones. They keep their last error until the next one, and are isolated,
/// because the cause may persist.
///
/// # Errors
/// Database errors.
pub async fn retry(conn: &mut PgConnection, event_ids: Option<&[String]>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- outbox.retry
        UPDATE billing.outbox
        SET state = 'pending', attempts = 0, isolated = true, run_at = clock_timestamp(), finished_at = NULL
        WHERE state = 'dead' AND ($1::text[] IS NULL OR event_id = ANY($1))
        RETURNING event_id
        "#,
        event_ids
    )
    .fetch_all(conn)
    .await
}

/// Discards dead events: they become done and ignored, with the reason `discarded`; returns their ids.
///
/// # Errors
/// Database errors.
pub async fn discard(conn: &mut PgConnection, event_ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- outbox.discard
        UPDATE billing.outbox
        SET state = 'done', outcome = 'ignored', reason = 'discarded', finished_at = clock_timestamp()
        WHERE state = 'dead' AND event_id = ANY($1)
        RETURNING event_id
        "#,
        event_ids
    )
    .fetch_all(conn)
    .await
}
