//! Stored events for the key check: they show whether an API key belongs to their account.

use time::{Duration, OffsetDateTime};

use crate::database::Connection;

/// Maximum age of a sampled event, one day less than the 30 days for which Stripe keeps events.
const REACH: Duration = Duration::days(29);

/// Returns up to five events of the own account that Stripe's API still has, none later than `until` by Stripe's clock.
/// Any events will do, so the query does not sort.
///
/// # Errors
/// Database errors.
pub async fn recent(conn: &mut Connection, until: OffsetDateTime) -> Result<Vec<String>, sqlx::Error> {
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

/// Returns whether Stripe ever delivered an event of the own account. If so, a key of another account can be detected.
///
/// # Errors
/// Database errors.
pub async fn any(conn: &mut Connection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        "-- outbox.any
        SELECT EXISTS (
            SELECT FROM billing.outbox WHERE account = '' AND source = 'webhook') AS \"any!\""
    )
    .fetch_one(conn)
    .await
}

/// Returns the API version of the last processed event that Stripe delivered for the own account, if it is among the last
/// thousand of all.
///
/// # Errors
/// Database errors.
pub async fn last_version(conn: &mut Connection) -> Result<Option<String>, sqlx::Error> {
    let version = sqlx::query_scalar!(
        "-- outbox.last_version
        SELECT api_version
        FROM (
            SELECT api_version, account, format, source, finished_at
            FROM billing.outbox
            WHERE finished_at IS NOT NULL
            ORDER BY finished_at DESC
            LIMIT 1000) AS processed
        WHERE account = '' AND format = 'snapshot' AND source = 'webhook'
        ORDER BY finished_at DESC
        LIMIT 1"
    )
    .fetch_optional(conn)
    .await?;
    Ok(version.flatten())
}

/// Returns the creation time of an account's oldest stored event, but not earlier than `earliest`.
///
/// # Errors
/// Database errors.
pub async fn oldest(
    conn: &mut Connection,
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
