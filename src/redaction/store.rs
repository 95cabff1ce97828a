//! The SQL of the redaction. The functions that it calls are in `migrations/0017_retention.sql`.

use std::time::Duration;

use uuid::Uuid;

use crate::base::interval::interval;
use crate::database::Connection;
use crate::domain::event::EventKey;
use crate::domain::object::ObjectKey;

/// Rows of one statement.
const AT_ONCE: i64 = 2000;

/// What one statement did.
pub(super) struct Step {
    /// 0 at the end.
    pub(super) seen: i64,
    /// Those of them that it redacted.
    pub(super) redacted: i64,
}

/// A stored customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Customer {
    /// Whether Stripe has deleted the customer.
    pub is_deleted: bool,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archive {
    /// Dead events that were discarded: without their payload they cannot be retried.
    pub discarded: u64,
    /// Events whose payload was removed.
    pub events: u64,
    /// Changes of rows whose values were removed.
    pub changes: u64,
    /// Events that are pending, whose payload is removed after they are processed, and changes at Stripe in progress.
    pub left: i64,
}

pub(super) async fn find(conn: &mut Connection, customer: &ObjectKey) -> Result<Option<Customer>, sqlx::Error> {
    sqlx::query_as!(
        Customer,
        r#"-- redaction.find
        SELECT coalesce(o.deleted_at IS NOT NULL, false) AS "is_deleted!"
        FROM (VALUES ($1::text, $2::text)) AS asked (account, id)
        LEFT JOIN billing.stripe_objects AS o
            ON o.account = asked.account AND o.object_type = 'customer' AND o.object_id = asked.id
        WHERE o.object_id IS NOT NULL
            OR EXISTS (SELECT FROM billing.outbox AS e WHERE e.object_id = asked.id AND e.account = asked.account)
            OR EXISTS (SELECT FROM billing.stripe_objects AS s WHERE s.customer_id = asked.id AND s.account = asked.account)"#,
        customer.account,
        customer.object_id
    )
    .fetch_optional(conn)
    .await
}

pub(super) async fn mark(conn: &mut Connection, customer: &ObjectKey) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- redaction.mark
        INSERT INTO billing.redacted_customers (account, customer_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        customer.account,
        customer.object_id
    )
    .execute(conn)
    .await
    .map(|_| ())
}

/// The customer's dead events.
pub(super) async fn dead(
    conn: &mut Connection,
    customer: &ObjectKey,
    ids: &[String],
) -> Result<Vec<EventKey>, sqlx::Error> {
    sqlx::query_as!(
        EventKey,
        "-- redaction.dead
        SELECT event_id, created FROM billing.outbox
        WHERE state = 'dead' AND account = $1 AND (customer_id = $2 OR object_id = ANY($3))",
        customer.account,
        customer.object_id,
        ids
    )
    .fetch_all(conn)
    .await
}

/// Removes the payloads of the customer's done events. An event is the customer's if it names the customer, in its columns
/// or anywhere in its payload, or is about one of the objects. Reads the whole archive.
pub(super) async fn events(conn: &mut Connection, customer: &ObjectKey, ids: &[String]) -> Result<u64, sqlx::Error> {
    let redacted = sqlx::query!(
        "-- redaction.events
        UPDATE billing.events AS e SET payload = NULL, redacted_at = clock_timestamp()
        FROM billing.outbox AS o
        WHERE o.event_id = e.event_id AND o.created = e.created AND o.account = $1 AND o.state = 'done'
            AND e.payload IS NOT NULL
            AND (o.customer_id = $2 OR o.object_id = ANY($3) OR position(convert_to($2, 'UTF8') IN e.payload) > 0)",
        customer.account,
        customer.object_id,
        ids
    )
    .execute(conn)
    .await?;
    Ok(redacted.rows_affected())
}

/// Removes the personal values in the history of these rows.
pub(super) async fn changes(conn: &mut Connection, rows: &[Uuid]) -> Result<u64, sqlx::Error> {
    let redacted = sqlx::query!(
        "-- redaction.changes
        UPDATE billing.row_changes SET changes = billing.without_personal_values(changes)
        WHERE row_id = ANY($1) AND changes ?| billing.personal_columns()
            AND changes <> billing.without_personal_values(changes)",
        rows
    )
    .execute(conn)
    .await?;
    Ok(redacted.rows_affected())
}

/// Removes the forms of finished changes at Stripe, and the answers that clients got.
pub(super) async fn ledger(conn: &mut Connection, customer: &ObjectKey, ids: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- redaction.ledger
        WITH lines AS (
            SELECT id FROM billing.api_writes
            WHERE account = $1 AND finished_at IS NOT NULL
                AND (target = 'customer/' || $3 OR object_id = ANY($2) OR position($3 IN form) > 0)
        ), answers AS (
            UPDATE billing.api_requests AS r SET body = 'null' FROM lines WHERE r.write_id = lines.id AND r.body IS NOT NULL
        )
        UPDATE billing.api_writes AS w SET form = NULL FROM lines WHERE w.id = lines.id AND w.form IS NOT NULL",
        customer.account,
        ids,
        customer.object_id
    )
    .execute(conn)
    .await
    .map(|_| ())
}

/// Number of the customer's pending events, and of changes at Stripe in progress.
pub(super) async fn left(conn: &mut Connection, customer: &ObjectKey, ids: &[String]) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- redaction.left
        SELECT (
            SELECT count(*) FROM billing.outbox
            -- pending events have two indexes, and each needs its half of this condition
            WHERE ((state = 'pending' AND NOT isolated) OR (state = 'pending' AND isolated))
                AND account = $1 AND (customer_id = $2 OR object_id = ANY($3))
        ) + (
            SELECT count(*) FROM billing.api_writes
            WHERE account = $1 AND finished_at IS NULL AND (target = 'customer/' || $2 OR object_id = ANY($3))
        ) AS "left!""#,
        customer.account,
        customer.object_id,
        ids
    )
    .fetch_one(conn)
    .await
}

/// Removes the payloads of events of marked customers, among some thousand that were finished after those of the last
/// step. The last minutes are left to a later one: transactions that began earlier may not have committed.
pub(super) async fn later_events(conn: &mut Connection) -> Result<Step, sqlx::Error> {
    sqlx::query_as!(
        Step,
        r#"-- redaction.later_events
        WITH state AS MATERIALIZED (
            SELECT s.customers_until AS since, clock_timestamp() - interval '2 min' AS until,
                EXISTS (SELECT FROM billing.redacted_customers) AS has_customers
            FROM billing.redaction_state AS s FOR UPDATE SKIP LOCKED
        ), next AS MATERIALIZED (
            SELECT o.finished_at FROM state
            CROSS JOIN LATERAL (
                SELECT finished_at FROM billing.outbox
                WHERE finished_at > state.since AND finished_at <= state.until AND state.has_customers
                ORDER BY finished_at LIMIT $1
            ) AS o
        ), step AS MATERIALIZED (
            SELECT state.since, coalesce((SELECT max(finished_at) FROM next), state.until) AS until FROM state
        ), redacted AS (
            UPDATE billing.events AS e SET payload = NULL, redacted_at = clock_timestamp()
            FROM step
            JOIN billing.outbox AS o ON o.finished_at > step.since AND o.finished_at <= step.until AND o.state = 'done'
            WHERE (SELECT has_customers FROM state) AND e.event_id = o.event_id AND e.created = o.created
                AND e.payload IS NOT NULL
                AND (EXISTS (
                    SELECT FROM billing.redacted_customers AS r WHERE r.account = o.account AND r.customer_id = o.customer_id)
                OR EXISTS (
                    SELECT FROM billing.stripe_objects AS s
                    JOIN billing.redacted_customers AS r ON r.account = s.account AND r.customer_id = s.customer_id
                    WHERE s.object_id = o.object_id AND s.account = o.account))
            RETURNING 1
        ), advanced AS (
            UPDATE billing.redaction_state AS s SET customers_until = step.until FROM step WHERE step.until > step.since
        )
        SELECT (SELECT count(*) FROM next) AS "seen!", (SELECT count(*) FROM redacted) AS "redacted!""#,
        AT_ONCE
    )
    .fetch_one(conn)
    .await
}

/// Removes the payloads of some thousand events that were finished after those of the last step.
pub(super) async fn old_events(conn: &mut Connection, age: Duration) -> Result<Step, sqlx::Error> {
    sqlx::query_as!(
        Step,
        r#"-- redaction.old_events
        WITH state AS MATERIALIZED (
            SELECT s.events_until AS since, clock_timestamp() - $1::interval AS until
            FROM billing.redaction_state AS s FOR UPDATE SKIP LOCKED
        ), oldest AS MATERIALIZED (
            SELECT o.finished_at FROM state
            CROSS JOIN LATERAL (
                SELECT finished_at FROM billing.outbox
                WHERE finished_at > state.since AND finished_at <= state.until ORDER BY finished_at LIMIT $2
            ) AS o
        ), step AS MATERIALIZED (
            SELECT state.since, max(oldest.finished_at) AS until FROM state, oldest GROUP BY state.since
        ), redacted AS (
            UPDATE billing.events AS e SET payload = NULL, redacted_at = clock_timestamp()
            FROM step
            JOIN billing.outbox AS o ON o.finished_at > step.since AND o.finished_at <= step.until AND o.state = 'done'
            WHERE e.event_id = o.event_id AND e.created = o.created AND e.payload IS NOT NULL
            RETURNING 1
        ), advanced AS (
            UPDATE billing.redaction_state AS s SET events_until = step.until FROM step
        )
        SELECT (SELECT count(*) FROM oldest) AS "seen!", (SELECT count(*) FROM redacted) AS "redacted!""#,
        interval(age),
        AT_ONCE
    )
    .fetch_one(conn)
    .await
}

/// Removes the personal values of some thousand changes that were written after those of the last step.
pub(super) async fn old_changes(conn: &mut Connection, age: Duration) -> Result<Step, sqlx::Error> {
    sqlx::query_as!(
        Step,
        r#"-- redaction.old_changes
        WITH state AS MATERIALIZED (
            SELECT s.changes_until AS since, clock_timestamp() - $1::interval AS until
            FROM billing.redaction_state AS s FOR UPDATE SKIP LOCKED
        ), oldest AS MATERIALIZED (
            SELECT c.id, c.changed_at FROM state
            CROSS JOIN LATERAL (
                SELECT id, changed_at FROM billing.row_changes WHERE id > state.since ORDER BY id LIMIT $2
            ) AS c
        ), step AS MATERIALIZED (
            -- up to the first change that is too young
            SELECT state.since, max(oldest.id) AS until
            FROM state, oldest, (
                SELECT min(id) AS id FROM oldest, state WHERE changed_at > state.until
            ) AS young
            WHERE young.id IS NULL OR oldest.id < young.id
            GROUP BY state.since
        ), redacted AS (
            UPDATE billing.row_changes AS c SET changes = billing.without_personal_values(c.changes)
            FROM step
            WHERE c.id > step.since AND c.id <= step.until AND c.changes ?| billing.personal_columns()
            RETURNING 1
        ), advanced AS (
            UPDATE billing.redaction_state AS s SET changes_until = step.until FROM step
        )
        SELECT (SELECT count(*) FROM step) AS "seen!", (SELECT count(*) FROM redacted) AS "redacted!""#,
        interval(age),
        AT_ONCE
    )
    .fetch_one(conn)
    .await
}
