//! The partitions of the archive and the queue. Calls the functions of `migrations/0001_events_outbox.sql`, which has
//! the reasons. Used by the module `maintenance`.

use sqlx::postgres::types::Oid;
use time::OffsetDateTime;

use crate::database::Connection;

/// A table that is partitioned by month of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// `billing.events`.
    Events,
    /// `billing.outbox`.
    Outbox,
}

impl Parent {
    /// Both tables.
    pub const ALL: [Self; 2] = [Self::Events, Self::Outbox];

    /// The name of the table in the schema `billing`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Outbox => "outbox",
        }
    }
}

/// Rows in one step of a copy: about ten milliseconds, during which no worker can claim them.
const PAGE: i32 = 500;

/// Creates the missing months, or begins a split if the default partition is large; returns the number of new months.
///
/// # Errors
/// Database errors, including a lock that was not available within two seconds.
pub async fn create(conn: &mut Connection, parent: Parent, months_ahead: i32) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- outbox.create_partitions
        SELECT billing.create_partitions($1, $2) AS "made!""#,
        parent.as_str(),
        months_ahead
    )
    .fetch_one(conn)
    .await
}

/// Returns the copy of the default partition, if a split is in progress.
///
/// # Errors
/// Database errors.
pub async fn unfinished_split(conn: &mut Connection, parent: Parent) -> Result<Option<Oid>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- outbox.unfinished_split
        SELECT to_regclass(format('billing.%I', $1 || '_split'))::oid",
        parent.as_str()
    )
    .fetch_one(conn)
    .await
}

/// State of one pass of a split.
#[derive(Debug, Clone)]
pub struct Pass {
    parent: Parent,
    split: Oid,
    last_event_id: String,
    last_created: OffsetDateTime,
    /// Rows that this pass did not copy, because other sessions had locked them.
    pub skipped: i64,
}

impl Pass {
    /// A pass over the whole default partition.
    pub fn new(parent: Parent, split: Oid) -> Self {
        // before every event id: none is empty
        Self { parent, split, last_event_id: String::new(), last_created: OffsetDateTime::UNIX_EPOCH, skipped: 0 }
    }

    /// Copies the next rows; `false` after the last.
    ///
    /// # Errors
    /// Database errors.
    pub async fn step(&mut self, conn: &mut Connection) -> Result<bool, sqlx::Error> {
        let page = sqlx::query!(
            "-- outbox.copy_into_split
            SELECT last_event_id, last_created, seen, skipped FROM billing.copy_into_split($1, $2, $3, $4, $5)",
            self.parent.as_str(),
            self.split,
            self.last_event_id,
            self.last_created,
            PAGE
        )
        .fetch_one(conn)
        .await?;
        self.skipped += page.skipped.unwrap_or_default();
        let (Some(event_id), Some(created)) = (page.last_event_id, page.last_created) else { return Ok(false) };
        (self.last_event_id, self.last_created) = (event_id, created);
        Ok(page.seen.unwrap_or_default() >= i64::from(PAGE))
    }
}

/// Returns the next transaction id of the server: all transactions that have committed are below it.
///
/// # Errors
/// Database errors.
pub async fn next_transaction_id(conn: &mut Connection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- outbox.next_transaction_id
        SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS "now!""#
    )
    .fetch_one(conn)
    .await
}

/// Replaces the default partition by its complete copy; returns the number of new months. `None` while a transaction is
/// open that began before the copy was complete.
///
/// # Errors
/// Database errors, including a lock that was not available within two seconds.
pub async fn finish_split(
    conn: &mut Connection,
    parent: Parent,
    split: Oid,
    copied_before: &str,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- outbox.finish_split
        SELECT billing.finish_split($1, $2, $3::text::xid8)",
        parent.as_str(),
        split,
        copied_before
    )
    .fetch_one(conn)
    .await
}
