//! Some stored events, to see whether they are of the account that an API key belongs to.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

/// Stripe keeps events for 30 days.
const REACH: Duration = Duration::days(29);

/// Up to five events of our own account that Stripe's API still has at `now`, by its clock. Any will do, so that
/// nothing is sorted.
///
/// # Errors
/// Those of the database.
pub async fn recent(conn: &mut PgConnection, now: OffsetDateTime) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- outbox.sample
        SELECT event_id
        FROM billing.outbox
        WHERE created BETWEEN $1 AND $2 AND account = '' AND format = 'snapshot' AND source = 'webhook'
        LIMIT 5",
        now - REACH,
        now + Duration::MINUTE
    )
    .fetch_all(conn)
    .await
}
