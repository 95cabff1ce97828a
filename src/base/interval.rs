//! Durations as PostgreSQL intervals. Called by the modules whose SQL computes a future time.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

/// Converts a duration to an interval with microsecond precision.
pub fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}
