//! Puts events into the archive and the queue, in one statement. Called by the receiver's batch and by `reconcile`.
//!
//! Must not look into a payload: to the database it is bytes, so that no content can fail the statement that
//! carries its neighbours.

use std::collections::HashSet;

use hyper::body::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::domain::event::{Envelope, EventKey};

/// An event on its way in: what was read of it, and its bytes as they came.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The fields that become columns.
    pub envelope: Envelope,
    /// The body of the request, or the event's own bytes out of a list.
    pub payload: Bytes,
}

/// How an event came here: the word stored in `billing.outbox.source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Stripe delivered it.
    Webhook,
    /// Stripe's list had it, and nobody had delivered it.
    Reconcile,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Reconcile => "reconcile",
        }
    }
}

/// One statement is one transaction and one round trip, and leaves nothing behind in the session.
///
/// The setting is made by a row that all other rows are joined to, because a common table expression that nobody
/// reads does not run; it is local to the transaction and still in force at its commit.
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
    -- one order for everybody: two receivers with the same events would wait for each other in a circle
    ORDER BY event_id COLLATE "C", created
    ON CONFLICT DO NOTHING
    RETURNING event_id, created
)
INSERT INTO billing.outbox
    (event_id, created, type, format, object_type, object_id, customer_id, account, livemode, api_version,
        source)
SELECT event_id, created, type, format, object_type, object_id, customer_id,
    -- an event that names our own account is like one that names none
    CASE WHEN own.account_id IS NULL THEN account ELSE '' END, livemode, api_version, $12
FROM incoming
JOIN stored USING (event_id, created)
LEFT JOIN billing.own_accounts AS own ON own.account_id = incoming.account
ON CONFLICT DO NOTHING
RETURNING event_id, created
"#;

/// Stores what is not yet there and returns the keys of those; the commit is durable when this returns.
///
/// The keys in `incoming` differ from each other. Outside a transaction the statement is its own.
///
/// # Errors
/// Whatever the database says; then nothing of `incoming` is stored.
pub async fn store(
    conn: &mut PgConnection,
    incoming: &[Incoming],
    origin: Origin,
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

/// Whether the partition that a row was meant for was made or replaced while the statement waited for its lock: the same
/// statement passes when it is repeated. Such a violation names no constraint, unlike that of a CHECK.
pub fn has_moved_partition(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some("23514") && error.constraint().is_none())
}

/// Whether a failed statement is about what its events hold, so that another one with fewer of them may pass.
///
/// Classes 22 (data), 23 (constraint) and 54 (a row too large) depend on the row. Everything else, a full disk or
/// a missing table for example, would fail every row alike.
pub fn is_about_data(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}
