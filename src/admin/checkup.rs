//! Queries of `doctor`, besides the migrations and the figures of the outbox. Reads only.

use time::OffsetDateTime;

use crate::database::Connection;
use crate::stripe::catalogue::NOT_GENERATED;

/// Release of the server, such as "15.18 (Debian …)".
///
/// # Errors
/// Database errors.
pub async fn server_name(conn: &mut Connection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- admin.server_name
        SELECT current_setting('server_version') AS "name!"
        "#
    )
    .fetch_one(conn)
    .await
}

/// Durability settings of the server that are off. Without them, a crash of its machine may lose or damage committed
/// data.
///
/// # Errors
/// Database errors.
pub async fn missing_durability(conn: &mut Connection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- admin.missing_durability
        SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name",
    )
    .fetch_all(conn)
    .await
}

/// The current time of the database.
///
/// # Errors
/// Database errors.
pub async fn clock(conn: &mut Connection) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- admin.clock
        SELECT clock_timestamp() AS "now!"
        "#
    )
    .fetch_one(conn)
    .await
}

/// How often Stripe reported in the last 30 days that it failed to generate events, and the last time.
///
/// # Errors
/// Database errors.
pub async fn not_generated(conn: &mut Connection) -> Result<(i64, Option<OffsetDateTime>), sqlx::Error> {
    sqlx::query_as(
        "-- admin.not_generated
        SELECT count(*), max(created) FROM billing.outbox
        WHERE type = $1 AND created > clock_timestamp() - interval '30 days'",
    )
    .bind(NOT_GENERATED)
    .fetch_one(conn)
    .await
}

/// Missing partitions of the current month and the next `months_ahead` months.
///
/// # Errors
/// Database errors.
pub async fn missing_partitions(conn: &mut Connection, months_ahead: i32) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- admin.missing_partitions
        SELECT expected.name AS "name!"
        FROM (
            SELECT format('billing.%s_%s', parent, to_char(
                date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + ahead * interval '1 month', 'YYYY_MM')) AS name
            FROM unnest(ARRAY['events', 'outbox']) AS parent, generate_series(0, $1::integer) AS ahead
        ) AS expected
        WHERE to_regclass(expected.name) IS NULL
        ORDER BY expected.name
        "#,
        months_ahead
    )
    .fetch_all(conn)
    .await
}
