//! Lines for operators: lists and details, and the decision about a line whose outcome cannot be found out.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Connection;

/// A line without its form, which contains personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its id.
    pub id: Uuid,
    /// `begun`, `sent`, `done`, `refused` or `unknown`.
    pub state: String,
    /// The operation, one of `client::Write::OPERATIONS`.
    pub operation: String,
    /// The object or workspace to which the change belongs, as `type/id`.
    pub target: String,
    /// The caller that requested the change.
    pub principal: String,
    /// Connected account; empty for the own account.
    pub account: String,
    /// The workspace for which the change is made.
    pub workspace_id: Option<Uuid>,
    /// Stripe's type of the object.
    pub object_type: String,
    /// Stripe's id of the object; `None` until it is created.
    pub object_id: Option<String>,
    /// Path of the request, without v1.
    pub path: String,
    /// The line from which this one follows.
    pub previous_id: Option<Uuid>,
    /// The subscription that ends once the checkout session is complete.
    pub replaces: Option<String>,
    /// Whether another line follows, and does not exist yet.
    pub follow_up_due: bool,
    /// Number of the idempotency key at Stripe.
    pub key_number: i32,
    /// Number of attempts.
    pub attempts: i32,
    /// Version of the object in the mirror before the first attempt.
    #[serde(with = "time::serde::rfc3339::option")]
    pub known_version: Option<OffsetDateTime>,
    /// The event of that content, or another word for its source.
    pub known_event_id: Option<String>,
    /// Error of the last attempt.
    pub last_error: Option<String>,
    /// Whether Stripe has saved its error under the key.
    pub is_error_saved: bool,
    /// Stripe's id of the last answered request.
    pub stripe_request_id: Option<String>,
    /// HTTP status of Stripe's last answer.
    pub stripe_status: Option<i32>,
    /// Reason that an operator gave.
    pub resolved_by: Option<String>,
    /// Time of the request.
    #[serde(with = "time::serde::rfc3339")]
    pub begun_at: OffsetDateTime,
    /// Time of the first attempt with the present key.
    #[serde(with = "time::serde::rfc3339::option")]
    pub first_sent_at: Option<OffsetDateTime>,
    /// End of the lease.
    #[serde(with = "time::serde::rfc3339::option")]
    pub leased_until: Option<OffsetDateTime>,
    /// Time of the next attempt, while the line is open.
    #[serde(with = "time::serde::rfc3339")]
    pub retry_at: OffsetDateTime,
    /// Time at which the line was finished.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

impl Line {
    /// Whether the outcome is still being found out.
    pub fn is_open(&self) -> bool {
        ["begun", "sent"].contains(&self.state.as_str())
    }

    /// The latest time at which a process may have tried an open line, or had to.
    pub fn tried_at(&self) -> OffsetDateTime {
        let times = [Some(self.begun_at), self.first_sent_at, self.leased_until, Some(self.retry_at)];
        times.into_iter().flatten().max().unwrap_or(self.begun_at)
    }
}

/// Lines to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// One of these states; empty: any.
    pub states: &'a [&'a str],
    /// Of this workspace.
    pub workspace: Option<Uuid>,
    /// Of this customer.
    pub customer: Option<&'a str>,
}

/// The newest lines, and the number of all that match.
///
/// # Errors
/// Database errors.
pub async fn list(conn: &mut Connection, filter: Filter<'_>, limit: i64) -> Result<(Vec<Line>, i64), sqlx::Error> {
    let states: Vec<String> = filter.states.iter().map(|state| (*state).to_owned()).collect();
    let lines = sqlx::query_as!(
        Line,
        "-- ledger.list
        SELECT id, state, operation, target, principal, account, workspace_id, object_type, object_id, path, previous_id,
            replaces, follow_up_due, key_number, attempts, known_version, known_event_id, last_error, is_error_saved,
            stripe_request_id, stripe_status, resolved_by, begun_at, first_sent_at, leased_until, retry_at, finished_at
        FROM billing.api_writes
        WHERE (cardinality($1::text[]) = 0 OR state = ANY($1)) AND ($2::uuid IS NULL OR workspace_id = $2)
            AND ($3::text IS NULL OR target = 'customer/' || $3 OR object_id = $3)
        ORDER BY begun_at DESC, id LIMIT $4",
        &states,
        filter.workspace,
        filter.customer,
        limit
    )
    .fetch_all(&mut *conn)
    .await?;
    let all = sqlx::query_scalar!(
        r#"-- ledger.count
        SELECT count(*) AS "count!" FROM billing.api_writes
        WHERE (cardinality($1::text[]) = 0 OR state = ANY($1)) AND ($2::uuid IS NULL OR workspace_id = $2)
            AND ($3::text IS NULL OR target = 'customer/' || $3 OR object_id = $3)"#,
        &states,
        filter.workspace,
        filter.customer
    )
    .fetch_one(conn)
    .await?;
    Ok((lines, all))
}

/// Lines of these objects and lines with these ids, newest first.
///
/// # Errors
/// Database errors.
pub async fn of_objects(
    conn: &mut Connection,
    objects: &[String],
    ids: &[Uuid],
    limit: i64,
) -> Result<Vec<Line>, sqlx::Error> {
    sqlx::query_as!(
        Line,
        "-- ledger.of_objects
        SELECT id, state, operation, target, principal, account, workspace_id, object_type, object_id, path, previous_id,
            replaces, follow_up_due, key_number, attempts, known_version, known_event_id, last_error, is_error_saved,
            stripe_request_id, stripe_status, resolved_by, begun_at, first_sent_at, leased_until, retry_at, finished_at
        FROM billing.api_writes
        WHERE object_id = ANY($1) OR id = ANY($2)
        ORDER BY begun_at DESC, id LIMIT $3",
        objects,
        ids,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Locks a line until the transaction ends; `None` if there is no such line.
///
/// # Errors
/// Database errors.
pub async fn lock(conn: &mut Connection, id: Uuid) -> Result<Option<Line>, sqlx::Error> {
    let lock = sqlx::query_scalar!(
        "-- ledger.lock
        SELECT id FROM billing.api_writes WHERE id = $1 FOR UPDATE",
        id
    );
    lock.fetch_optional(&mut *conn).await?;
    Ok(of_objects(conn, &[], &[id], 1).await?.pop())
}

/// What belongs to a line.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The form of the request; `None` one day after the line was finished.
    pub form: Option<String>,
    /// The lines that follow from it.
    pub next: Vec<Uuid>,
    /// Whether a process is sending it.
    pub is_leased: bool,
    /// The client's `Idempotency-Key`; `None` without one.
    pub client_key: Option<String>,
    /// Status of the client's stored answer; `None` until the request is answered.
    pub client_status: Option<i32>,
    /// The time of the database.
    pub now: OffsetDateTime,
}

/// What belongs to a line; `None` if there is no such line.
///
/// # Errors
/// Database errors.
pub async fn surroundings(conn: &mut Connection, id: Uuid) -> Result<Option<Surroundings>, sqlx::Error> {
    sqlx::query_as!(
        Surroundings,
        r#"-- ledger.surroundings
        SELECT w.form,
            ARRAY(SELECT next.id FROM billing.api_writes AS next WHERE next.previous_id = w.id ORDER BY next.begun_at)
                AS "next!",
            coalesce(w.leased_until > clock_timestamp(), false) AS "is_leased!",
            r.idempotency_key AS "client_key?", r.status AS client_status, clock_timestamp() AS "now!"
        FROM billing.api_writes AS w LEFT JOIN billing.api_requests AS r ON r.write_id = w.id
        WHERE w.id = $1
        LIMIT 1"#,
        id
    )
    .fetch_optional(conn)
    .await
}

/// An operator's decision.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// Whether Stripe made the change; otherwise it was refused.
    pub is_done: bool,
    /// The object, for a line that creates one.
    pub object_id: Option<&'a str>,
    /// Why.
    pub reason: &'a str,
    /// Whether the step that follows can still be made.
    pub keeps_follow_up: bool,
}

/// Finishes a locked line as an operator decided. A refused one loses its unanswered request, so that the client may
/// repeat it. Returns whether there was one.
///
/// # Errors
/// Database errors.
pub async fn resolve(conn: &mut Connection, id: Uuid, decision: Decision<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "-- ledger.resolve
        UPDATE billing.api_writes
        SET state = CASE WHEN $2 THEN 'done' ELSE 'refused' END, resolved_by = $3, object_id = coalesce($4, object_id),
            finished_at = clock_timestamp(), leased_until = NULL, follow_up_due = follow_up_due AND $5,
            last_error = coalesce(last_error, CASE WHEN NOT $2 THEN 'an operator decided that it was not made' END)
        WHERE id = $1",
        id,
        decision.is_done,
        decision.reason,
        decision.object_id,
        decision.keeps_follow_up
    )
    .execute(&mut *conn)
    .await?;
    if decision.is_done {
        return Ok(false);
    }
    let forgotten = sqlx::query!(
        "-- ledger.forget_request
        DELETE FROM billing.api_requests WHERE write_id = $1 AND status IS NULL",
        id
    )
    .execute(conn)
    .await?;
    Ok(forgotten.rows_affected() > 0)
}
