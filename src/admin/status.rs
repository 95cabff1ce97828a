//! Queries of `status` that no metric has: rates and delays of the last minutes, the history of comparisons, the last
//! sample, and sizes. Reads only; each query is bounded whatever the history.

use time::{Date, OffsetDateTime};

use crate::database::Connection;

/// Length of the window of [`flow`] in seconds.
pub const WINDOW_SECONDS: f64 = 300.0;

/// Events that [`flow`] reads at most. If more were finished in the window, the window is shorter.
const MOST_EVENTS: i64 = 20_000;

/// The server and its clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Release of PostgreSQL, such as "15.18 (Debian …)".
    pub version: String,
    /// Whether the server is a standby, which may be behind its primary.
    pub is_standby: bool,
    /// The database's clock.
    pub now: OffsetDateTime,
}

/// Events that arrived and were finished in the last minutes.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Length of the window.
    pub seconds: f64,
    /// Events stored in the window.
    pub arrived: i64,
    /// Events finished in the window: done or dead.
    pub finished: i64,
    /// Median of the time from the arrival here to the outcome, of the events done in the window; `None` without one.
    pub delay_p50_seconds: Option<f64>,
    /// 99th percentile of that time.
    pub delay_p99_seconds: Option<f64>,
    /// Seconds since the last event was finished; `None` if none ever was.
    pub last_finished_age_seconds: Option<f64>,
}

/// What the comparisons of one day found, of all accounts together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedDay {
    /// The day (UTC).
    pub day: Date,
    /// Whether all runs of an account failed.
    pub is_incomplete: bool,
    /// Missed events, which are stored now.
    pub missed: i64,
    /// Whether events that Stripe lists could not be stored.
    pub unreadable: bool,
    /// Whether events were found missing that Stripe no longer lists.
    pub gap_found: bool,
}

/// Samples of rows that were compared with Stripe.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Seconds since the last sample.
    pub age_seconds: f64,
    /// Customers of the last sample that were compared.
    pub customers: i64,
    /// Customers and lists of the last sample that could not be compared.
    pub failed: i64,
    /// Rows of the last sample that differed.
    pub differing: i64,
    /// The tables of these rows.
    pub tables: Vec<String>,
}

/// Sizes on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    /// Bytes of the schema billing.
    pub schema_bytes: i64,
    /// Bytes of the whole database.
    pub database_bytes: i64,
    /// Bytes by which the schema grew per day, since the oldest measurement of the last week; `None` in the first day.
    pub growth_bytes_per_day: Option<f64>,
}

/// The server and its clock.
///
/// # Errors
/// Database errors.
pub async fn server(conn: &mut Connection) -> Result<Server, sqlx::Error> {
    sqlx::query_as!(
        Server,
        r#"-- status.server
        SELECT current_setting('server_version') AS "version!", pg_is_in_recovery() AS "is_standby!",
            clock_timestamp() AS "now!""#
    )
    .fetch_one(conn)
    .await
}

/// Events that arrived and were finished in the last minutes, by the indexes of finished and of pending events: an event
/// that arrived in the window is pending, or was finished in the window too.
///
/// # Errors
/// Database errors.
pub async fn flow(conn: &mut Connection) -> Result<Flow, sqlx::Error> {
    sqlx::query_as!(
        Flow,
        r#"-- status.flow
        WITH recent AS MATERIALIZED (
            SELECT received_at, finished_at, outcome FROM billing.outbox
            WHERE finished_at > statement_timestamp() - $1::float8 * interval '1 s'
            ORDER BY finished_at DESC LIMIT $2
        ), span AS MATERIALIZED (
            SELECT CASE WHEN count(*) < $2 THEN statement_timestamp() - $1::float8 * interval '1 s'
                ELSE min(finished_at) END AS since
            FROM recent
        ), delay AS (
            SELECT percentile_cont(ARRAY[0.5, 0.99])
                WITHIN GROUP (ORDER BY greatest(extract(epoch FROM finished_at - received_at), 0)::float8) AS seconds
            FROM recent WHERE outcome IS NOT NULL
        )
        SELECT extract(epoch FROM statement_timestamp() - span.since)::float8 AS "seconds!",
            (SELECT count(*) FROM recent WHERE received_at > span.since)
                + (SELECT count(*) FROM billing.outbox AS o
                    WHERE o.state = 'pending' AND NOT o.isolated AND o.received_at > span.since)
                + (SELECT count(*) FROM billing.outbox AS o
                    WHERE o.state = 'pending' AND o.isolated AND o.received_at > span.since) AS "arrived!",
            (SELECT count(*) FROM recent) AS "finished!",
            delay.seconds[1] AS delay_p50_seconds, delay.seconds[2] AS delay_p99_seconds,
            -- without the condition, greatest would make 0 of null
            (SELECT greatest(extract(epoch FROM statement_timestamp() - last.at), 0)::float8
                FROM (SELECT max(finished_at) AS at FROM billing.outbox) AS last
                WHERE last.at IS NOT NULL) AS last_finished_age_seconds
        FROM span, delay"#,
        WINDOW_SECONDS,
        MOST_EVENTS
    )
    .fetch_one(conn)
    .await
}

/// The days of the last 40 on which a comparison ended, oldest first.
///
/// # Errors
/// Database errors.
pub async fn compared_days(conn: &mut Connection) -> Result<Vec<ComparedDay>, sqlx::Error> {
    sqlx::query_as!(
        ComparedDay,
        r#"-- status.compared_days
        SELECT day, bool_or(completed = 0 AND failed > 0) AS "is_incomplete!", sum(missed)::bigint AS "missed!",
            bool_or(unreadable > 0) AS "unreadable!", bool_or(gap_found) AS "gap_found!"
        FROM billing.reconcile_days GROUP BY day ORDER BY day"#
    )
    .fetch_all(conn)
    .await
}

/// The last sample; `None` before the first one.
///
/// # Errors
/// Database errors.
pub async fn drift(conn: &mut Connection) -> Result<Option<Drift>, sqlx::Error> {
    sqlx::query_as!(
        Drift,
        r#"-- status.drift
        SELECT greatest(extract(epoch FROM clock_timestamp() - sampled_at), 0)::float8 AS "age_seconds!", customers, failed,
            differing, tables
        FROM billing.verify_samples ORDER BY sampled_at DESC LIMIT 1"#
    )
    .fetch_optional(conn)
    .await
}

/// Sizes on disk, now and some days ago.
///
/// # Errors
/// Database errors.
pub async fn size(conn: &mut Connection) -> Result<Size, sqlx::Error> {
    sqlx::query_as!(
        Size,
        r#"-- status.size
        WITH now AS MATERIALIZED (
            SELECT coalesce(sum(pg_total_relation_size(relation.oid)), 0)::bigint AS bytes
            FROM pg_class AS relation
            WHERE relation.relnamespace = 'billing'::regnamespace AND relation.relkind IN ('r', 'm')
        ), before AS (
            SELECT bytes, extract(epoch FROM clock_timestamp() - measured_at)::float8 / 86400 AS days
            FROM billing.size_days
            WHERE measured_at BETWEEN clock_timestamp() - interval '7 days 12 hours' AND clock_timestamp() - interval '20 hours'
            ORDER BY day LIMIT 1
        )
        SELECT now.bytes AS "schema_bytes!", pg_database_size(current_database()) AS "database_bytes!",
            ((now.bytes - before.bytes) / before.days)::float8 AS growth_bytes_per_day
        FROM now LEFT JOIN before ON true"#
    )
    .fetch_one(conn)
    .await
}
