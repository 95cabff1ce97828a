//! Open lines: leases them for one attempt, and records its outcome.

use std::time::Duration;

use uuid::Uuid;

use crate::base::interval::interval;
use crate::database::Connection;
use crate::domain::object::KnownContent;

/// A line that one process sends.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub struct Leased {
    /// The line.
    pub id: Uuid,
    /// Who asked for it.
    pub principal: String,
    /// The operation.
    pub operation: String,
    /// Connected account, or empty.
    pub account: String,
    /// The workspace for which it is made.
    pub workspace: Option<Uuid>,
    /// Stripe's type of its object.
    pub object_type: String,
    /// The id of its object; `None` until it is created.
    pub object_id: Option<String>,
    /// Path of the request.
    pub path: String,
    /// Form of the request.
    pub form: String,
    /// Number of the idempotency key.
    pub key_number: i32,
    /// Whether it may have been sent with this key before.
    pub may_have_been_sent: bool,
    /// Whether Stripe will not know the key any more.
    pub is_key_expired: bool,
    /// Whether Stripe has saved an error under the key.
    pub is_error_saved: bool,
    /// The object's content in the mirror before it was first sent.
    pub known: Option<KnownContent>,
    /// Whether another line follows from this one.
    pub is_follow_up_due: bool,
    /// Seconds since it was asked for.
    pub age_seconds: i64,
    /// Attempts so far, with this one.
    pub attempts: i32,
}

impl Leased {
    /// A field of the form.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.form.as_bytes());
        pairs.find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
    }
}

/// Leases a line, and notes that it is being sent. `None` if it is finished, or another process has the lease.
///
/// # Errors
/// Database errors.
pub async fn lease(conn: &mut Connection, id: Uuid, time: Duration) -> Result<Option<Leased>, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- ledger.lease
        UPDATE billing.api_writes AS w
        SET state = 'sent', attempts = w.attempts + 1, leased_until = clock_timestamp() + $2::interval,
            first_sent_at = coalesce(w.first_sent_at, clock_timestamp()),
            known_version = CASE WHEN w.first_sent_at IS NULL THEN o.version ELSE w.known_version END,
            known_event_id = CASE WHEN w.first_sent_at IS NULL THEN o.event_id ELSE w.known_event_id END
        FROM (
            SELECT id, first_sent_at FROM billing.api_writes
            WHERE id = $1 AND state IN ('begun', 'sent')
                AND (leased_until IS NULL OR leased_until < clock_timestamp())
                -- a look at Stripe that is too early does not show the change
                AND (NOT is_error_saved OR retry_at <= clock_timestamp())
            FOR UPDATE
        ) AS before
        JOIN billing.api_writes AS line ON line.id = before.id
        LEFT JOIN billing.stripe_objects AS o ON o.account = line.account AND o.object_type = line.object_type
            AND o.object_id = line.object_id
        WHERE w.id = before.id
        RETURNING w.id, w.principal, w.operation, w.account, w.workspace_id, w.object_type, w.object_id, w.path,
            w.form AS "form!", w.key_number, before.first_sent_at IS NOT NULL AS "may_have_been_sent!",
            coalesce(before.first_sent_at < clock_timestamp() - interval '23 hours', false) AS "is_key_expired!",
            w.is_error_saved, w.known_version, w.known_event_id, w.follow_up_due,
            extract(epoch FROM clock_timestamp() - w.begun_at)::bigint AS "age_seconds!", w.attempts"#,
        id,
        interval(time)
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Leased {
        id: row.id,
        principal: row.principal,
        operation: row.operation,
        account: row.account,
        workspace: row.workspace_id,
        object_type: row.object_type,
        object_id: row.object_id,
        path: row.path,
        form: row.form,
        key_number: row.key_number,
        may_have_been_sent: row.may_have_been_sent,
        is_key_expired: row.is_key_expired,
        is_error_saved: row.is_error_saved,
        known: row.known_version.zip(row.known_event_id).map(|(version, event_id)| KnownContent { version, event_id }),
        is_follow_up_due: row.follow_up_due,
        age_seconds: row.age_seconds,
        attempts: row.attempts,
    }))
}

/// An error, as the ledger records it.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The error, without any text of Stripe.
    pub error: String,
    /// Stripe's request id.
    pub request_id: Option<String>,
    /// Stripe's status.
    pub status: Option<u16>,
    /// Whether Stripe has saved the error under the key.
    pub is_saved: bool,
    /// Whether nothing was sent, nor before.
    pub is_unsent: bool,
}

/// Ends the lease of this attempt, whose outcome is unknown, or which was not sent; the line is tried again after
/// `delay`. Changes nothing if another attempt has begun.
///
/// # Errors
/// Database errors.
pub async fn put_back(
    conn: &mut Connection,
    line: &Leased,
    delay: Duration,
    failure: &Recorded,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger.put_back
        UPDATE billing.api_writes
        SET leased_until = NULL, retry_at = clock_timestamp() + $2::interval, last_error = left($3, 500),
            state = CASE WHEN $7 THEN 'begun' ELSE 'sent' END, first_sent_at = CASE WHEN NOT $7 THEN first_sent_at END,
            is_error_saved = is_error_saved OR $4, stripe_request_id = coalesce($5, stripe_request_id),
            stripe_status = coalesce($6, stripe_status)
        WHERE id = $1 AND state = 'sent' AND attempts = $8",
        line.id,
        interval(delay),
        failure.error,
        failure.is_saved,
        failure.request_id,
        failure.status.map(i32::from),
        failure.is_unsent,
        line.attempts
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives a line a new idempotency key, because the look at Stripe of this attempt has shown that nothing was changed. It
/// counts as not sent, and its lease ends. Changes nothing if another attempt has begun.
///
/// # Errors
/// Database errors.
pub async fn renew_key(conn: &mut Connection, line: &Leased) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger.renew_key
        UPDATE billing.api_writes
        SET state = 'begun', key_number = key_number + 1, first_sent_at = NULL, is_error_saved = false,
            leased_until = NULL, retry_at = clock_timestamp()
        WHERE id = $1 AND state = 'sent' AND attempts = $2",
        line.id,
        line.attempts
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How a line is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Stripe made the change.
    Done,
    /// Stripe did not.
    Refused,
    /// It cannot be found out.
    Unknown,
}

impl Finish {
    /// The state of the line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// Finishes a line. What Stripe has made is done, whatever another attempt has found. An attempt that has lost its lease
/// can neither refuse a line nor call it unknown. The row of a link that Stripe refused goes.
///
/// # Errors
/// Database errors.
pub async fn finish(
    conn: &mut Connection,
    line: &Leased,
    finish: Finish,
    object_id: Option<&str>,
    recorded: &Recorded,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger.finish
        WITH refused AS (
            DELETE FROM billing.checkout_links AS l USING billing.api_writes AS w
            WHERE l.id = $1 AND $2 = 'refused' AND l.stripe_payment_link_id IS NULL AND w.id = l.id
                AND w.state = 'sent' AND w.attempts = $7
        )
        UPDATE billing.api_writes
        SET state = $2, object_id = coalesce($3, object_id), finished_at = clock_timestamp(), leased_until = NULL,
            last_error = CASE WHEN $2 = 'done' THEN NULL ELSE left($4, 500) END,
            stripe_request_id = coalesce($5, stripe_request_id), stripe_status = coalesce($6, stripe_status),
            follow_up_due = follow_up_due AND $2 = 'done'
        WHERE id = $1 AND ($2 = 'done' OR state = 'sent' AND attempts = $7)",
        line.id,
        finish.as_str(),
        object_id,
        recorded.error,
        recorded.request_id,
        recorded.status.map(i32::from),
        line.attempts
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lines that are due, oldest first.
///
/// # Errors
/// Database errors.
pub async fn due(conn: &mut Connection, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- ledger.due
        SELECT id FROM billing.api_writes
        WHERE state IN ('begun', 'sent') AND retry_at <= clock_timestamp()
            AND (leased_until IS NULL OR leased_until < clock_timestamp())
        ORDER BY retry_at LIMIT $1",
        limit
    )
    .fetch_all(conn)
    .await
}

/// A checkout session of ours that was completed, and the subscription that it replaces.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// The line that created the session.
    pub line: Uuid,
    /// Connected account, or empty.
    pub account: String,
    /// The workspace of both subscriptions.
    pub workspace: Option<Uuid>,
    /// The subscription that ends.
    pub replaced: String,
}

/// Locks completed sessions that replace a subscription which does not end yet. Sessions that expired are forgotten.
///
/// # Errors
/// Database errors.
pub async fn completed_replacements(conn: &mut Connection, limit: i64) -> Result<Vec<Replacement>, sqlx::Error> {
    sqlx::query!(
        "-- ledger.expired_replacements
        UPDATE billing.api_writes AS w SET follow_up_due = false
        FROM billing.checkout_sessions AS s
        WHERE w.follow_up_due AND w.replaces IS NOT NULL AND w.state = 'done' AND s.account = w.account
            AND s.stripe_session_id = w.object_id AND s.status = 'expired'"
    )
    .execute(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        r#"-- ledger.completed_replacements
        SELECT w.id, w.account, w.workspace_id, w.replaces AS "replaces!"
        FROM billing.api_writes AS w
        JOIN billing.checkout_sessions AS s ON s.account = w.account AND s.stripe_session_id = w.object_id
        WHERE w.follow_up_due AND w.replaces IS NOT NULL AND w.state = 'done' AND s.status = 'complete'
            AND s.stripe_subscription_id IS NOT NULL AND s.stripe_subscription_id <> w.replaces
        ORDER BY w.id LIMIT $1 FOR UPDATE OF w SKIP LOCKED"#,
        limit
    )
    .fetch_all(conn)
    .await?;
    let replacements = rows.into_iter().map(|row| Replacement {
        line: row.id,
        account: row.account,
        workspace: row.workspace_id,
        replaced: row.replaces,
    });
    Ok(replacements.collect())
}

/// Notes who created the customer of a new workspace: the workspace's creator.
///
/// # Errors
/// Database errors.
pub async fn note_creator(conn: &mut Connection, contact: Uuid, workspace: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger.note_creator
        INSERT INTO billing.row_origins (row_id, created_by_user_id)
        SELECT $1, w.created_by_user_id FROM billing.workspaces AS w
        WHERE w.id = $2 AND w.created_by_user_id IS NOT NULL
        ON CONFLICT DO NOTHING",
        contact,
        workspace
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that the line that follows exists.
///
/// # Errors
/// Database errors.
pub async fn follow_up_begun(conn: &mut Connection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger.follow_up_begun
        UPDATE billing.api_writes SET follow_up_due = false WHERE id = $1",
        id
    )
    .execute(conn)
    .await?;
    Ok(())
}
