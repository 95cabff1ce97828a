//! What `doctor` asks the database, beside the migrations and the outbox's figures. Reads only.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::stripe::catalogue::NOT_GENERATED;

/// Name of the server's release, "15.18 (Debian …)" for example.
///
/// # Errors
/// Whatever the database says.
pub async fn server_name(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- admin.server_name
        SELECT current_setting('server_version') AS "name!"
        "#
    )
    .fetch_one(conn)
    .await
}

/// Settings of the server that are off, and without which a crash of its machine may lose or damage what it has
/// committed.
///
/// # Errors
/// Whatever the database says.
pub async fn missing_durability(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- admin.missing_durability
        SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name",
    )
    .fetch_all(conn)
    .await
}

/// The database's clock.
///
/// # Errors
/// Whatever the database says.
pub async fn clock(conn: &mut PgConnection) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- admin.clock
        SELECT clock_timestamp() AS "now!"
        "#
    )
    .fetch_one(conn)
    .await
}

/// How often Stripe said in the last 30 days that it had failed to generate events, and when last.
///
/// # Errors
/// Whatever the database says.
pub async fn not_generated(conn: &mut PgConnection) -> Result<(i64, Option<OffsetDateTime>), sqlx::Error> {
    sqlx::query_as(
        "-- admin.not_generated
        SELECT count(*), max(created) FROM billing.outbox
        WHERE type = $1 AND created > clock_timestamp() - interval '30 days'",
    )
    .bind(NOT_GENERATED)
    .fetch_one(conn)
    .await
}

/// Partitions that should be there, of this month and `months_ahead` more, and are not.
///
/// # Errors
/// Whatever the database says.
pub async fn missing_partitions(conn: &mut PgConnection, months_ahead: i32) -> Result<Vec<String>, sqlx::Error> {
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
