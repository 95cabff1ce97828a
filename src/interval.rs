//! Durations as PostgreSQL takes them. Called by the rooms whose SQL puts a time ahead of now.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

/// A duration to the microsecond.
pub fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}
