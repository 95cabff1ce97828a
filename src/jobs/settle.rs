//! Settles jobs: completes them or schedules a retry.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Job, Kind};
use crate::base::interval::interval;
use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// Completes jobs whose work is in this transaction. A job that was requested again meanwhile is due at once.
///
/// # Errors
/// Database errors.
pub async fn done(conn: &mut Connection, jobs: &[&Job]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- jobs.done
        WITH served AS MATERIALIZED (
            SELECT j.kind, j.account, j.object_type, j.object_id, j.generation = s.generation AS is_last
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
                AS s (kind, account, object_type, object_id, generation)
            JOIN billing.jobs AS j USING (kind, account, object_type, object_id)
            ORDER BY j.kind, j.account, j.object_type, j.object_id
            FOR UPDATE OF j
        ), again AS (
            UPDATE billing.jobs AS j SET run_at = clock_timestamp(), attempts = 0, last_error = NULL
            FROM served AS s
            WHERE NOT s.is_last AND j.kind = s.kind AND j.account = s.account AND j.object_type = s.object_type
                AND j.object_id = s.object_id
        )
        DELETE FROM billing.jobs AS j USING served AS s
        WHERE s.is_last AND j.kind = s.kind AND j.account = s.account AND j.object_type = s.object_type
            AND j.object_id = s.object_id",
        &jobs.iter().map(|job| job.kind.as_str().to_owned()).collect::<Vec<_>>(),
        &jobs.iter().map(|job| job.key.account.clone()).collect::<Vec<_>>(),
        &jobs.iter().map(|job| job.key.object_type.clone()).collect::<Vec<_>>(),
        &jobs.iter().map(|job| job.key.object_id.clone()).collect::<Vec<_>>(),
        &jobs.iter().map(|job| job.generation).collect::<Vec<_>>()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts a job back, due after `delay`. `cost`: whether the attempt counts, so that the next delay is longer.
///
/// # Errors
/// Database errors.
pub async fn put_back(
    conn: &mut Connection,
    job: &Job,
    delay: Duration,
    cost: bool,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    let ObjectKey { account, object_type, object_id } = &job.key;
    sqlx::query!(
        "-- jobs.put_back
        UPDATE billing.jobs SET
            run_at = clock_timestamp() + $5::interval, last_error = $7,
            attempts = CASE WHEN $6 THEN attempts ELSE GREATEST(attempts - 1, 0) END
        WHERE kind = $1 AND account = $2 AND object_type = $3 AND object_id = $4",
        job.kind.as_str(),
        account,
        object_type,
        object_id,
        interval(delay),
        cost,
        error
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets aside an object whose rows cannot be computed or written, as a failing reproject job of its own, due after
/// `delay`.
///
/// # Errors
/// Database errors.
pub async fn set_aside(
    conn: &mut Connection,
    key: &ObjectKey,
    delay: Duration,
    error: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- jobs.set_aside
        INSERT INTO billing.jobs (kind, account, object_type, object_id, attempts, run_at, last_error)
        VALUES ($1, $2, $3, $4, 1, clock_timestamp() + $5::interval, $6)
        ON CONFLICT (kind, account, object_type, object_id) DO UPDATE SET last_error = excluded.last_error",
        Kind::Reproject.as_str(),
        key.account,
        key.object_type,
        key.object_id,
        interval(delay),
        error
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Continues a reproject job after `cursor`, or from the start if it was requested again. `error`: why the job's own
/// object failed.
///
/// # Errors
/// Database errors.
pub async fn continue_paged(
    conn: &mut Connection,
    job: &Job,
    cursor: &str,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    let ObjectKey { account, object_type, object_id } = &job.key;
    sqlx::query!(
        "-- jobs.continue_paged
        UPDATE billing.jobs SET
            cursor = CASE WHEN generation = $5 THEN $6 END, run_at = clock_timestamp(), attempts = 0,
            last_error = $7
        WHERE kind = $1 AND account = $2 AND object_type = $3 AND object_id = $4",
        job.kind.as_str(),
        account,
        object_type,
        object_id,
        job.generation,
        cursor,
        error
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records a successful read, and completes the confirm job that it satisfies.
///
/// # Errors
/// Database errors.
pub async fn note_read(
    conn: &mut Connection,
    job: &Job,
    version: OffsetDateTime,
    outcome: &str,
    request_id: Option<&str>,
) -> Result<(), sqlx::Error> {
    let ObjectKey { account, object_type, object_id } = &job.key;
    sqlx::query!(
        "-- jobs.note_read
        WITH noted AS (
            INSERT INTO billing.reads (account, object_type, object_id, version, outcome, cause, request_id)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
        )
        DELETE FROM billing.jobs
        WHERE kind = $8 AND account = $1 AND object_type = $2 AND object_id = $3 AND newer_than < $4",
        account,
        object_type,
        object_id,
        version,
        outcome,
        job.kind.as_str(),
        request_id,
        Kind::Confirm.as_str()
    )
    .execute(conn)
    .await?;
    Ok(())
}
