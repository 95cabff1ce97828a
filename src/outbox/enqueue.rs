//! Puts events into the archive and the queue, in one statement. Called by the receiver's batch and by `reconcile`.
//!
//! Must not parse a payload. The database stores it as bytes, so that the content of one event cannot fail the
//! statement that also stores others.

use std::collections::HashSet;

use hyper::body::Bytes;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::database::Connection;
use crate::domain::event::{Envelope, EventKey};

/// An event to store: its parsed envelope and its original bytes.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The fields that become columns.
    pub envelope: Envelope,
    /// The body of the request, or the bytes of the event in a list.
    pub payload: Bytes,
}

/// How an event arrived; stored in `billing.outbox.source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventSource {
    /// Delivered by Stripe.
    Webhook,
    /// Found in Stripe's event list, undelivered until then.
    Reconcile,
}

impl EventSource {
    fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Reconcile => "reconcile",
        }
    }
}

/// SQL that stores events: one statement, so one transaction and one round trip, without session state.
///
/// All rows are joined to the row that makes the setting, because PostgreSQL skips a common table expression that is
/// not referenced. The setting is local to the transaction and still in force at its commit.
const ENQUEUE: &str = r#"
-- outbox.enqueue
WITH durable AS MATERIALIZED (
    -- an operator may have switched it off for the database, and a 200 promises that the event is safe;
    -- remote_apply is the one value that promises more
    SELECT set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)
), incoming AS MATERIALIZED (
    SELECT event.*
    FROM durable
    CROSS JOIN unnest($1::text[], $2::timestamptz[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::boolean[], $11::text[])
        AS event (event_id, created, payload, type, format, object_type, object_id, customer_id, account, livemode,
            api_version)
), stored AS (
    INSERT INTO billing.events (event_id, created, payload)
    SELECT event_id, created, payload
    FROM incoming
    -- the same lock order in every session: two receivers with the same events would deadlock
    ORDER BY event_id COLLATE "C", created
    ON CONFLICT DO NOTHING
    RETURNING event_id, created
)
INSERT INTO billing.outbox
    (event_id, created, type, format, object_type, object_id, customer_id, account, livemode, api_version,
        source)
SELECT event_id, created, type, format, object_type, object_id, customer_id,
    -- an event that contains the own account's id is stored like one without an account
    CASE WHEN own.account_id IS NULL THEN account ELSE '' END, livemode, api_version, $12
FROM incoming
JOIN stored USING (event_id, created)
LEFT JOIN billing.own_accounts AS own ON own.account_id = incoming.account
ON CONFLICT DO NOTHING
RETURNING event_id, created
"#;

/// Stores the events that are not stored yet and returns their keys; the commit is durable when this returns.
///
/// The keys in `incoming` must be distinct. Outside of a transaction, the statement is a transaction itself.
///
/// # Errors
/// Database errors; then no event of `incoming` is stored.
pub async fn store(
    conn: &mut Connection,
    incoming: &[Incoming],
    origin: EventSource,
) -> Result<HashSet<EventKey>, sqlx::Error> {
    sqlx::query(ENQUEUE)
        .bind(column(incoming, |event| event.key.event_id.as_str()))
        .bind(column(incoming, |event| event.key.created))
        .bind(incoming.iter().map(|event| event.payload.as_ref()).collect::<Vec<&[u8]>>())
        .bind(column(incoming, |event| event.event_type.as_str()))
        .bind(column(incoming, |event| event.format.as_str()))
        .bind(column(incoming, |event| event.object_type.as_deref()))
        .bind(column(incoming, |event| event.object_id.as_deref()))
        .bind(column(incoming, |event| event.customer_id.as_deref()))
        .bind(column(incoming, |event| event.account.as_str()))
        .bind(column(incoming, |event| event.livemode))
        .bind(column(incoming, |event| event.api_version.as_deref()))
        .bind(origin.as_str())
        .try_map(|row: PgRow| Ok(EventKey { event_id: row.try_get(0)?, created: row.try_get(1)? }))
        .fetch_all(conn)
        .await
        .map(|keys| keys.into_iter().collect())
}

fn column<'a, T>(incoming: &'a [Incoming], field: impl Fn(&'a Envelope) -> T) -> Vec<T> {
    incoming.iter().map(|event| field(&event.envelope)).collect()
}

/// Whether the target partition of a row was created or replaced while the statement waited for its lock. Then the same
/// statement succeeds when it is repeated. Such a violation has no constraint name, unlike that of a CHECK.
pub fn has_moved_partition(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some("23514") && error.constraint().is_none())
}

/// Whether a statement failed because of the content of its events, so that one with fewer events may succeed.
///
/// Classes 22 (data), 23 (constraint) and 54 (a row too large) depend on the row. All other errors, for example a full
/// disk or a missing table, fail every row equally.
pub fn is_about_data(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}
