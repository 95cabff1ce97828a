//! Some stored events, to see whether they are of the account that an API key belongs to.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

/// Stripe keeps events for 30 days.
const REACH: Duration = Duration::days(29);

/// Up to five events of our own account, none later than `until` by Stripe's clock, which its API still has. Any will
/// do, so that nothing is sorted.
///
/// # Errors
/// Those of the database.
pub async fn recent(conn: &mut PgConnection, until: OffsetDateTime) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- outbox.sample
        SELECT event_id
        FROM billing.outbox
        WHERE created BETWEEN $1 AND $2 AND account = '' AND format = 'snapshot' AND source = 'webhook'
        LIMIT 5",
        until - REACH,
        until
    )
    .fetch_all(conn)
    .await
}

/// Whether Stripe ever delivered an event of our own account: a key of another account would then be known by it, sooner
/// or later.
///
/// # Errors
/// Those of the database.
pub async fn any(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        "-- outbox.any
        SELECT EXISTS (
            SELECT FROM billing.outbox WHERE account = '' AND source = 'webhook') AS \"any!\""
    )
    .fetch_one(conn)
    .await
}

/// When the oldest stored event of an account was created, `earliest` where that is longer ago.
///
/// # Errors
/// Those of the database.
pub async fn oldest(
    conn: &mut PgConnection,
    account: &str,
    earliest: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- outbox.oldest
        SELECT CASE
            -- asked first, because it ends with the first row that is found
            WHEN EXISTS (SELECT FROM billing.outbox WHERE account = $1 AND created < $2) THEN $2
            ELSE (SELECT min(created) FROM billing.outbox WHERE account = $1 AND created >= $2)
        END AS oldest",
        account,
        earliest
    )
    .fetch_one(conn)
    .await
}
