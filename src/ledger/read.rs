//! Reads lines: the state of one for a client that waits, and lists for operators.

use uuid::Uuid;

use crate::database::Connection;

/// How far a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A process is sending it, or it waits for the next attempt.
    Open {
        /// Whether a process has its lease.
        is_leased: bool,
        /// Whether it waits until a look at Stripe can show the change.
        is_too_early: bool,
    },
    /// Stripe made the change.
    Done {
        /// The object.
        object_id: Option<String>,
    },
    /// Stripe did not make the change.
    Refused,
    /// It is not known whether Stripe made the change.
    Unknown,
}

/// How far a line is; `None` if there is no such line.
///
/// # Errors
/// Database errors.
pub async fn progress(conn: &mut Connection, id: Uuid) -> Result<Option<Progress>, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- ledger.progress
        SELECT state, object_id, coalesce(leased_until > clock_timestamp(), false) AS "is_leased!",
            is_error_saved AND retry_at > clock_timestamp() AS "is_too_early!"
        FROM billing.api_writes WHERE id = $1"#,
        id
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| match row.state.as_str() {
        "done" => Progress::Done { object_id: row.object_id },
        "refused" => Progress::Refused,
        "unknown" => Progress::Unknown,
        _ => Progress::Open { is_leased: row.is_leased, is_too_early: row.is_too_early },
    }))
}

/// The request of a finished line, so that Stripe's answer can be asked for again.
#[derive(Debug, Clone)]
pub struct SentRequest {
    /// The operation.
    pub operation: String,
    /// Connected account, or empty.
    pub account: String,
    /// Path of the request.
    pub path: String,
    /// Form of the request.
    pub form: String,
    /// Number of the idempotency key.
    pub key_number: i32,
}

/// The request of a line, if Stripe still has its answer.
///
/// # Errors
/// Database errors.
pub async fn sent_request(conn: &mut Connection, id: Uuid) -> Result<Option<SentRequest>, sqlx::Error> {
    sqlx::query_as!(
        SentRequest,
        r#"-- ledger.sent_request
        SELECT operation, account, path, form AS "form!", key_number FROM billing.api_writes
        WHERE id = $1 AND form IS NOT NULL AND first_sent_at > clock_timestamp() - interval '23 hours'
            -- an operator may have made the change by hand: the key may never have been sent
            AND resolved_by IS NULL"#,
        id
    )
    .fetch_optional(conn)
    .await
}

/// The line that follows from a line.
///
/// # Errors
/// Database errors.
pub async fn following(conn: &mut Connection, id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    let found = sqlx::query_scalar!(
        "-- ledger.following
        SELECT id FROM billing.api_writes WHERE previous_id = $1",
        id
    );
    found.fetch_optional(conn).await
}

/// The workspace of a line.
///
/// # Errors
/// Database errors.
pub async fn workspace(conn: &mut Connection, id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    let found = sqlx::query_scalar!(
        "-- ledger.workspace
        SELECT workspace_id FROM billing.api_writes WHERE id = $1",
        id
    );
    Ok(found.fetch_optional(conn).await?.flatten())
}
