//! Claims due jobs; a lease moves their `run_at` into the future.

use std::time::Duration;

use super::{Job, Kind};
use crate::base::interval::interval;
use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// Claims up to `limit` due jobs of one kind, for `lease`. A job that failed before is claimed by itself, so that it
/// cannot fail others.
///
/// # Errors
/// Database errors.
pub async fn due(conn: &mut Connection, kind: Kind, limit: i64, lease: Duration) -> Result<Vec<Job>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- jobs.claim
        -- materialized, so that the limit holds with every plan
        WITH due AS MATERIALIZED (
            SELECT kind, account, object_type, object_id, attempts, run_at
            FROM billing.jobs
            WHERE kind = $1 AND run_at <= (SELECT clock_timestamp())
            ORDER BY run_at, account, object_type, object_id
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ), placed AS (
            SELECT due.*, row_number() OVER (ORDER BY run_at, account, object_type, object_id) AS place FROM due
        )
        UPDATE billing.jobs AS j SET run_at = clock_timestamp() + $3::interval, attempts = j.attempts + 1
        FROM placed
        WHERE j.kind = placed.kind AND j.account = placed.account AND j.object_type = placed.object_type
            AND j.object_id = placed.object_id
            AND (placed.place = 1 OR (placed.attempts = 0
                AND NOT EXISTS (SELECT FROM placed AS first WHERE first.place = 1 AND first.attempts > 0)))
        RETURNING j.account, j.object_type, j.object_id, j.generation, j.newer_than, j.cursor, j.attempts"#,
        kind.as_str(),
        limit,
        interval(lease)
    )
    .fetch_all(conn)
    .await?;
    let job = rows.into_iter().map(|row| Job {
        kind,
        key: ObjectKey { account: row.account, object_type: row.object_type, object_id: row.object_id },
        generation: row.generation,
        newer_than: row.newer_than,
        cursor: row.cursor,
        attempt: row.attempts,
    });
    Ok(job.collect())
}

/// Makes jobs due that are scheduled further ahead than `longest`, the longest possible delay: the database's clock ran
/// ahead when their time was written. Returns their number.
///
/// # Errors
/// Database errors.
pub async fn pull_back(conn: &mut Connection, longest: Duration) -> Result<u64, sqlx::Error> {
    let kinds: Vec<String> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    let pulled = sqlx::query!(
        "-- jobs.pull_back
        UPDATE billing.jobs AS j SET run_at = clock_timestamp()
        FROM unnest($1::text[]) AS asked (kind)
        CROSS JOIN LATERAL (
            SELECT late.kind, late.account, late.object_type, late.object_id FROM billing.jobs AS late
            WHERE late.kind = asked.kind AND late.run_at > (SELECT clock_timestamp() + $2::interval + interval '1 min')
            FOR UPDATE SKIP LOCKED
        ) AS late
        WHERE j.kind = late.kind AND j.account = late.account AND j.object_type = late.object_type
            AND j.object_id = late.object_id",
        &kinds,
        interval(longest)
    );
    Ok(pulled.execute(conn).await?.rows_affected())
}

/// Time until the next job of these kinds is due; `None` if there is none.
///
/// # Errors
/// Database errors.
pub async fn next_due(conn: &mut Connection, kinds: &[Kind]) -> Result<Option<Duration>, sqlx::Error> {
    let kinds: Vec<String> = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
    let seconds = sqlx::query_scalar!(
        "-- jobs.next_due
        SELECT extract(epoch FROM min(next.run_at) - clock_timestamp())::float8
        FROM unnest($1::text[]) AS asked (kind)
        CROSS JOIN LATERAL (
            SELECT j.run_at FROM billing.jobs AS j WHERE j.kind = asked.kind ORDER BY j.run_at LIMIT 1
        ) AS next",
        &kinds
    )
    .fetch_one(conn)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}
