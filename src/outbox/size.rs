//! The size of the schema on disk, one row a day, from which `status` derives the growth. Measured by
//! the module `maintenance`.

use crate::database::Connection;

/// Measures the size, unless that was done today, and forgets what is older than 40 days.
///
/// # Errors
/// Database errors.
pub async fn measure(conn: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- outbox.measure_size
        WITH outdated AS (
            DELETE FROM billing.size_days WHERE day < (clock_timestamp() AT TIME ZONE 'UTC')::date - 40
        )
        INSERT INTO billing.size_days (day, bytes)
        SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, coalesce(sum(pg_total_relation_size(relation.oid)), 0)::bigint
        FROM pg_class AS relation
        WHERE relation.relnamespace = 'billing'::regnamespace AND relation.relkind IN ('r', 'm')
        ON CONFLICT (day) DO NOTHING"
    )
    .execute(conn)
    .await
    .map(|_| ())
}
