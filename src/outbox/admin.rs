//! What an operator asks of the outbox: to see it, to have dead events tried again, to give them up.
//!
//! Only dead events are ever touched here; pending ones belong to the workers. Called by the `outbox` commands. The
//! caller owns the transaction.

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
    pub alone: bool,
    pub attempts: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub run_at: OffsetDateTime,
    pub last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

/// Events by state and type, the newest first; `None` means any.
///
/// Pending and dead ones are found by their indexes. The finished ones have none for this: the archive is read by
/// partition, which takes seconds where there are many millions.
///
/// # Errors
/// Whatever the database says.
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
            source, state, outcome, reason, alone, attempts, run_at, last_error, received_at, finished_at
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

/// The rows of one event id: one, unless somebody made events of different times with the same id.
///
/// # Errors
/// Whatever the database says.
pub async fn find(conn: &mut PgConnection, event_id: &str) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        -- outbox.find
        SELECT event_id, created, type, format, object_type, object_id, customer_id, account, livemode, api_version,
            source, state, outcome, reason, alone, attempts, run_at, last_error, received_at, finished_at
        FROM billing.outbox
        WHERE event_id = $1
        ORDER BY created
        "#,
        event_id
    )
    .fetch_all(conn)
    .await
}

/// The archived bytes of one event; `None` where retention has removed them.
///
/// # Errors
/// Whatever the database says.
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
}

/// The state of each of these events, and a lock on their rows until the transaction ends.
///
/// # Errors
/// Whatever the database says.
pub async fn lock(conn: &mut PgConnection, event_ids: &[String]) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        -- outbox.lock
        SELECT event_id, state
        FROM billing.outbox
        WHERE event_id = ANY($1)
        -- one order for everybody, so that two operators do not wait for each other in a circle
        ORDER BY event_id, created
        FOR UPDATE
        "#,
        event_ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.event_id, row.state)).collect())
}

/// Makes dead events pending again, with all their attempts before them; returns their ids.
///
/// `event_ids`: which ones; `None`: all that are dead. The last error stays until the next one, and they are tried
/// alone, because what they died of may still be there.
///
/// # Errors
/// Whatever the database says.
pub async fn retry(conn: &mut PgConnection, event_ids: Option<&[String]>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- outbox.retry
        UPDATE billing.outbox
        SET state = 'pending', attempts = 0, alone = true, run_at = clock_timestamp(), finished_at = NULL
        WHERE state = 'dead' AND ($1::text[] IS NULL OR event_id = ANY($1))
        RETURNING event_id
        "#,
        event_ids
    )
    .fetch_all(conn)
    .await
}

/// Gives dead events up: they become done and ignored, with the reason `discarded`; returns their ids.
///
/// # Errors
/// Whatever the database says.
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
