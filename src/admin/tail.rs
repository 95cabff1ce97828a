//! Queries of `tail`: the events that were finished since a time, their changes, and the events that wait. Reads only,
//! by the indexes of finished and pending events and of the times of changes.
//!
//! An event becomes visible when its transaction commits, but `finished_at` is earlier. [`writers`] lists the open
//! transactions that may still finish events; the caller reads again from before the first of them began.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Connection;

/// The most events that [`finished`] returns at once.
pub const PAGE: i64 = 1000;

/// Longest time from a change of a row to the end of its event, in one transaction: the worker ends a longer step.
const MAX_STEP_SECONDS: f64 = 150.0;

/// Which events are shown. Without an id, all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only events of this customer and its objects.
    pub customer: Option<String>,
    /// Only events of this workspace's customers, and events that take a row out of the workspace.
    pub workspace: Option<Uuid>,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of billing.outbox, described in its migration")]
pub struct Event {
    pub event_id: String,
    pub created: OffsetDateTime,
    pub event_type: String,
    pub account: String,
    pub object_id: Option<String>,
    pub customer_id: Option<String>,
    pub state: String,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub last_error: Option<String>,
    pub received_at: OffsetDateTime,
    pub finished_at: OffsetDateTime,
    /// Whether the event's customer is one of the filter's. True without a filter.
    pub is_match: bool,
}

/// A changed row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of billing.row_changes, described in its migration")]
pub struct Change {
    pub table_name: String,
    pub row_id: Uuid,
    pub causes: Vec<String>,
    pub changes: String,
}

/// Pending events that have waited for long.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Their number.
    pub events: i64,
    /// Age of the oldest one.
    pub oldest_seconds: f64,
    /// The oldest one.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Its object.
    pub object_id: Option<String>,
    /// Its attempts so far.
    pub attempts: i32,
    /// The error of the last one.
    pub last_error: Option<String>,
}

/// The open transactions that may finish events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writers {
    /// The database's time before they were listed. On a standby: the time of the last transaction that it has applied,
    /// `None` if it has applied none.
    pub at: Option<OffsetDateTime>,
    /// Whether the server is a standby, which does not know the transactions of its primary.
    pub is_standby: bool,
    /// Identifies each transaction while it is open.
    pub transactions: Vec<String>,
}

/// Lists the transactions that hold the lock of writers on the outbox. A transaction takes this lock before it evaluates
/// `finished_at`. Every role may read locks.
///
/// # Errors
/// Database errors.
pub async fn writers(conn: &mut Connection) -> Result<Writers, sqlx::Error> {
    sqlx::query_as!(
        Writers,
        r#"-- tail.writers
        WITH outbox AS (
            SELECT 'billing.outbox'::regclass::oid AS oid
            UNION ALL
            SELECT inhrelid FROM pg_inherits WHERE inhparent = 'billing.outbox'::regclass
        )
        SELECT
            CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() ELSE statement_timestamp() END AS at,
            pg_is_in_recovery() AS "is_standby!",
            ARRAY(
                SELECT DISTINCT virtualtransaction FROM pg_locks
                WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation IN (SELECT oid FROM outbox)
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            ) AS "transactions!""#
    )
    .fetch_one(conn)
    .await
}

/// A page of the events that were finished at `since` or later, in the order of their time, after the event `after`.
///
/// # Errors
/// Database errors.
pub async fn finished(
    conn: &mut Connection,
    since: OffsetDateTime,
    after: Option<&Event>,
    filter: &Filter,
) -> Result<Vec<Event>, sqlx::Error> {
    let (after_time, after_id) = after.map_or((since, ""), |event| (event.finished_at, event.event_id.as_str()));
    sqlx::query_as!(
        Event,
        r#"-- tail.finished
        SELECT o.event_id, o.created, o.type AS event_type, o.account, o.object_id, o.customer_id, o.state, o.outcome, o.reason,
            o.last_error, o.received_at, o.finished_at AS "finished_at!",
            CASE WHEN $4::text IS NULL AND $5::uuid IS NULL THEN true ELSE EXISTS (
                SELECT FROM (
                    SELECT o.customer_id AS id
                    UNION ALL
                    SELECT o.object_id
                    UNION ALL
                    SELECT mirrored.customer_id FROM billing.stripe_objects AS mirrored
                    WHERE mirrored.object_id = o.object_id AND mirrored.account = o.account
                ) AS of_event
                WHERE of_event.id = $4 OR EXISTS (
                    SELECT FROM billing.billing_contacts AS c
                    WHERE c.stripe_customer_id = of_event.id AND c.workspace_id = $5
                ) OR EXISTS (
                    SELECT FROM billing.subscriptions AS s
                    WHERE s.stripe_customer_id = of_event.id AND s.workspace_id = $5
                )
            ) END AS "is_match!"
        FROM billing.outbox AS o
        WHERE o.finished_at >= $1 AND (o.finished_at, o.event_id) > ($1, $2)
        ORDER BY o.finished_at, o.event_id
        LIMIT $3"#,
        after_time,
        after_id,
        PAGE,
        filter.customer,
        filter.workspace
    )
    .fetch_all(conn)
    .await
}

/// The last events that were finished, newest first. `objects`: only events of these objects; `None` means any.
///
/// # Errors
/// Database errors.
pub async fn last(conn: &mut Connection, objects: Option<&[String]>, limit: i64) -> Result<Vec<Event>, sqlx::Error> {
    sqlx::query_as!(
        Event,
        r#"-- tail.last
        SELECT event_id, created, type AS event_type, account, object_id, customer_id, state, outcome, reason, last_error,
            received_at, finished_at AS "finished_at!", true AS "is_match!"
        FROM billing.outbox
        WHERE finished_at IS NOT NULL AND ($1::text[] IS NULL OR object_id = ANY($1))
        ORDER BY finished_at DESC, event_id DESC
        LIMIT $2"#,
        objects,
        limit
    )
    .fetch_all(conn)
    .await
}

/// The customers of a workspace.
///
/// # Errors
/// Database errors.
pub async fn customers(conn: &mut Connection, workspace: Uuid) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- tail.customers
        SELECT stripe_customer_id AS "id!" FROM billing.billing_contacts WHERE workspace_id = $1
        UNION
        SELECT stripe_customer_id FROM billing.subscriptions WHERE workspace_id = $1"#,
        workspace
    )
    .fetch_all(conn)
    .await
}

/// The changes that these events caused, in the order of writing. `since` and `until`: the first and the last time at
/// which one of them was finished.
///
/// # Errors
/// Database errors.
pub async fn changes(
    conn: &mut Connection,
    event_ids: &[String],
    since: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Vec<Change>, sqlx::Error> {
    sqlx::query_as!(
        Change,
        r#"-- tail.changes
        SELECT table_name, row_id, causes, changes::text AS "changes!"
        FROM billing.row_changes
        WHERE changed_at BETWEEN $2::timestamptz - $4::float8 * interval '1 s' AND $3 AND causes && $1
        ORDER BY id"#,
        event_ids,
        since,
        until,
        MAX_STEP_SECONDS
    )
    .fetch_all(conn)
    .await
}

/// The pending events that match and were received more than `seconds` ago; `None` if there are none.
///
/// # Errors
/// Database errors.
pub async fn waiting(conn: &mut Connection, seconds: f64, filter: &Filter) -> Result<Option<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"-- tail.waiting
        WITH waiting AS (
            SELECT event_id, type, object_id, attempts, last_error, received_at FROM billing.outbox
            WHERE state = 'pending' AND received_at < clock_timestamp() - $1::float8 * interval '1 s'
                AND ($2::text IS NULL OR customer_id = $2 OR object_id = $2)
                AND ($3::uuid IS NULL OR customer_id IN (
                    SELECT stripe_customer_id FROM billing.billing_contacts WHERE workspace_id = $3
                    UNION SELECT stripe_customer_id FROM billing.subscriptions WHERE workspace_id = $3))
        )
        SELECT (SELECT count(*) FROM waiting) AS "events!",
            extract(epoch FROM clock_timestamp() - received_at)::float8 AS "oldest_seconds!", event_id,
            type AS event_type, object_id, attempts, last_error
        FROM waiting ORDER BY received_at LIMIT 1"#,
        seconds,
        filter.customer,
        filter.workspace
    )
    .fetch_optional(conn)
    .await
}
