//! The history of a row: every event and read of an object and its related objects, and every change of its row.
//!
//! Reads only, by indexes: the references of an object, in both directions, are in the mirror. Called by `explain`.

use std::collections::BTreeSet;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// A step of the history, with the database's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When the step was processed, or will be.
    pub at: OffsetDateTime,
    /// What happened.
    pub what: StepKind,
}

/// The kind of a step, with its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// An event.
    Event {
        /// Its id.
        event_id: String,
        /// Connected account; empty for the key's own account.
        account: String,
        /// The customer that the object references.
        customer_id: Option<String>,
        /// Its type.
        event_type: String,
        /// The object of the event.
        object_id: Option<String>,
        /// When Stripe created it.
        created: OffsetDateTime,
        /// pending, done or dead.
        state: String,
        /// Set if the event is done.
        outcome: Option<String>,
        /// Explains the outcome, or is a remark.
        reason: Option<String>,
        /// Number of failed attempts.
        attempts: i32,
        /// The error of the last attempt.
        last_error: Option<String>,
        /// Set if an operator discarded the event.
        discard: Option<Discard>,
    },
    /// A read of Stripe's API.
    Read {
        /// The requested object.
        object_id: String,
        /// applied, superseded or missing.
        outcome: String,
        /// fetch or confirm.
        cause: String,
        /// Stripe's request id.
        request_id: Option<String>,
        /// Its position in the order of events.
        version: OffsetDateTime,
    },
    /// A change at Stripe that the workspace API made, from the ledger.
    Write {
        /// The id of its line.
        id: Uuid,
        /// The operation.
        operation: String,
        /// The changed or created object.
        object_id: Option<String>,
        /// The caller that requested it.
        principal: String,
        /// begun, sent, done, refused or unknown.
        state: String,
        /// Stripe's request id.
        request_id: Option<String>,
        /// The error of the last attempt.
        last_error: Option<String>,
        /// When it was requested.
        begun_at: OffsetDateTime,
    },
    /// A row changed.
    Change {
        /// The table, without its schema.
        table: String,
        /// The id of the row.
        row_id: Uuid,
        /// Event ids, `write` and the id of a line in the ledger, or words such as "backfill".
        causes: Vec<String>,
        /// A JSON object: each column with the value before and after.
        changes: String,
    },
    /// A queued job.
    Job {
        /// fetch, confirm or reproject.
        kind: String,
        /// The object of the job.
        object_id: String,
        /// The error of the last attempt.
        last_error: Option<String>,
    },
}

/// Who discarded an event, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discard {
    /// The name of the operator.
    pub by: String,
    /// The role as which the operator's command logged in to the database.
    pub database_role: String,
    /// Why.
    pub reason: String,
}

/// An object by its id, with the objects that it references and that reference it; for a customer, all its objects.
///
/// # Errors
/// Database errors.
pub async fn around(conn: &mut Connection, id: &str) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- explain.around
        WITH own AS (
            SELECT account, object_type, object_id, refs FROM billing.stripe_objects WHERE object_id = $1
        )
        SELECT account AS "account!", object_type AS "object_type!", object_id AS "object_id!" FROM own
        UNION
        SELECT account, split_part(ref, '/', 1), substr(ref, strpos(ref, '/') + 1) FROM own, unnest(own.refs) AS ref
        UNION
        SELECT o.account, o.object_type, o.object_id
        FROM own
        JOIN billing.stripe_objects AS o
            ON o.refs @> ARRAY[own.object_type || '/' || own.object_id] AND o.account = own.account
        -- shared objects are referenced by too many others
        WHERE own.object_type NOT IN ('price', 'plan', 'product', 'coupon')
        UNION
        SELECT o.account, o.object_type, o.object_id
        FROM own JOIN billing.stripe_objects AS o ON o.account = own.account AND o.customer_id = own.object_id
        WHERE own.object_type = 'customer'"#,
        id
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, &row.object_type, &row.object_id)).collect())
}

/// The events of these objects, and events with one of these ids.
///
/// # Errors
/// Database errors.
pub async fn events(conn: &mut Connection, ids: &[String], limit: i64) -> Result<Vec<Step>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- explain.events
        SELECT event.event_id AS "event_id!", account AS "account!", customer_id, type AS "event_type!", object_id,
            event.created AS "created!", state AS "state!",
            outcome, event.reason, attempts AS "attempts!", last_error, coalesce(finished_at, run_at) AS "at!",
            discard.discarded_by AS "discarded_by?", discard.database_role AS "database_role?",
            discard.reason AS "discard_reason?"
        FROM (
            SELECT * FROM billing.outbox
            WHERE object_id = ANY($1) OR event_id = ANY($1)
            ORDER BY created DESC, event_id DESC
            LIMIT $2
        ) AS event
        LEFT JOIN billing.discards AS discard
            ON event.reason = 'discarded' AND discard.event_id = event.event_id AND discard.created = event.created
                AND discard.discarded_at = event.finished_at
        ORDER BY event.created DESC, event.event_id DESC"#,
        ids,
        limit
    )
    .fetch_all(conn)
    .await?;
    let step = rows.into_iter().map(|row| Step {
        at: row.at,
        what: StepKind::Event {
            event_id: row.event_id,
            account: row.account,
            customer_id: row.customer_id,
            event_type: row.event_type,
            object_id: row.object_id,
            created: row.created,
            state: row.state,
            outcome: row.outcome,
            reason: row.reason,
            attempts: row.attempts,
            last_error: row.last_error,
            discard: match (row.discarded_by, row.database_role, row.discard_reason) {
                (Some(by), Some(database_role), Some(reason)) => Some(Discard { by, database_role, reason }),
                _ => None,
            },
        },
    });
    Ok(step.collect())
}

/// The reads of these objects.
///
/// # Errors
/// Database errors.
pub async fn reads(conn: &mut Connection, ids: &[String], limit: i64) -> Result<Vec<Step>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- explain.reads
        SELECT object_id, outcome, cause, request_id, version, read_at
        FROM billing.reads WHERE object_id = ANY($1)
        ORDER BY read_at DESC
        LIMIT $2",
        ids,
        limit
    )
    .fetch_all(conn)
    .await?;
    let step = rows.into_iter().map(|row| Step {
        at: row.read_at,
        what: StepKind::Read {
            object_id: row.object_id,
            outcome: row.outcome,
            cause: row.cause,
            request_id: row.request_id,
            version: row.version,
        },
    });
    Ok(step.collect())
}

/// The changes of these rows.
///
/// # Errors
/// Database errors.
pub async fn changes(conn: &mut Connection, rows: &[Uuid], limit: i64) -> Result<Vec<Step>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- explain.changes
        SELECT table_name, row_id, causes, changes::text AS "changes!", changed_at
        FROM billing.row_changes WHERE row_id = ANY($1)
        ORDER BY id DESC
        LIMIT $2"#,
        rows,
        limit
    )
    .fetch_all(conn)
    .await?;
    let step = rows.into_iter().map(|row| Step {
        at: row.changed_at,
        what: StepKind::Change { table: row.table_name, row_id: row.row_id, causes: row.causes, changes: row.changes },
    });
    Ok(step.collect())
}

/// The jobs of these objects.
///
/// # Errors
/// Database errors.
pub async fn jobs(conn: &mut Connection, ids: &[String]) -> Result<Vec<Step>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- explain.jobs
        SELECT kind, object_id, last_error, run_at FROM billing.jobs WHERE object_id = ANY($1) ORDER BY run_at",
        ids
    )
    .fetch_all(conn)
    .await?;
    let step = rows.into_iter().map(|row| Step {
        at: row.run_at,
        what: StepKind::Job { kind: row.kind, object_id: row.object_id, last_error: row.last_error },
    });
    Ok(step.collect())
}

/// The current rows with these ids: `(table, columns as JSON)`.
///
/// # Errors
/// Database errors.
pub async fn rows(conn: &mut Connection, ids: &[Uuid]) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- explain.rows
        SELECT 'billing_contacts' AS "table!", to_jsonb(t)::text AS "row!" FROM billing.live_billing_contacts AS t
        WHERE t.id = ANY($1)
        UNION ALL
        SELECT 'subscriptions', to_jsonb(t)::text FROM billing.live_subscriptions AS t WHERE t.id = ANY($1)
        UNION ALL
        SELECT 'pricing_plans', to_jsonb(t)::text FROM billing.pricing_plans AS t WHERE t.id = ANY($1)
        UNION ALL
        SELECT 'coupons', to_jsonb(t)::text FROM billing.live_coupons AS t WHERE t.id = ANY($1)
        UNION ALL
        SELECT 'checkout_sessions', to_jsonb(t)::text FROM billing.checkout_sessions AS t WHERE t.id = ANY($1)"#,
        ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.table, row.row)).collect())
}
