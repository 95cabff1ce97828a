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
