//! Subscriptions whose limits could not be renewed, each retried individually with increasing delay.
//!
//! `billing.renew_limits_isolated` sets them aside as failing jobs of the kind `renewal`; batches then skip them. The
//! scheduler retries those that are due, and the command `renew` all of them. The job ends when the renewal succeeds.

use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use time::OffsetDateTime;
use uuid::Uuid;

use super::store::{self, Due};
use crate::base::retry::RetryPolicy;
use crate::database::{self, Connection};
use crate::jobs::{Job, Kind, claim, settle};

/// Delays between retries of a failed renewal.
const RETRY: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, initial: Duration::from_secs(5), max: Duration::from_hours(1) };

/// Lease of a retry, longer than one takes.
const LEASE: Duration = Duration::from_mins(1);

/// A balance that another session holds is retried later: this barely waits for its lock.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '30s';
    SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// A renewal that failed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The subscription's id in Stripe.
    pub stripe_subscription_id: String,
    /// Code and names of the database error, without its message.
    pub error: String,
}

/// Makes all set-aside subscriptions due now.
///
/// # Errors
/// Database errors.
pub async fn make_all_due(conn: &mut Connection) -> Result<u64, sqlx::Error> {
    let hastened = sqlx::query!(
        "-- limits.make_all_due\nUPDATE billing.jobs SET run_at = clock_timestamp() WHERE kind = 'renewal'"
    );
    Ok(hastened.execute(conn).await?.rows_affected())
}

/// The set-aside subscriptions, at most a hundred.
///
/// # Errors
/// Database errors.
pub async fn list(conn: &mut Connection) -> Result<Vec<Failed>, sqlx::Error> {
    let failed = sqlx::query_as!(
        Failed,
        r#"-- limits.set_aside_list
        SELECT object_id AS stripe_subscription_id, coalesce(last_error, '') AS "error!"
        FROM billing.jobs WHERE kind = 'renewal' ORDER BY account, object_id LIMIT 100"#
    );
    failed.fetch_all(conn).await
}

/// The due periods of these subscriptions, see [`store::due`], and the subscriptions for which they cannot be computed.
/// Call it in a transaction, which stays usable.
///
/// # Errors
/// Those of the connection.
pub async fn due(
    conn: &mut Connection,
    ids: &[Uuid],
    until: OffsetDateTime,
) -> Result<(Vec<Due>, Vec<(Uuid, String)>), sqlx::Error> {
    if let Ok(all) = try_due(conn, ids, until).await? {
        return Ok((all, Vec::new()));
    }
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for id in ids {
        match try_due(conn, &[*id], until).await? {
            Ok(periods) => found.extend(periods),
            Err(error) => failed.push((*id, error)),
        }
    }
    Ok((found, failed))
}

async fn try_due(
    conn: &mut Connection,
    ids: &[Uuid],
    until: OffsetDateTime,
) -> Result<Result<Vec<Due>, String>, sqlx::Error> {
    let mut savepoint = conn.begin().await?;
    match store::due(&mut savepoint, ids, until).await {
        Ok(periods) => savepoint.commit().await.map(|()| Ok(periods)),
        Err(error) => {
            let Some(text) = database::describe(&error) else { return Err(error) };
            savepoint.rollback().await?;
            Ok(Err(text))
        }
    }
}

/// Sets a subscription aside because of `error`.
///
/// # Errors
/// Errors of the database, and `error` itself if it is an error of the connection.
pub async fn put(conn: &mut Connection, id: Uuid, error: sqlx::Error) -> Result<(), sqlx::Error> {
    let Some(reason) = database::describe(&error) else { return Err(error) };
    let put = sqlx::query!("-- limits.set_aside\nSELECT billing.set_aside_renewal($1, $2)", id, reason);
    put.execute(conn).await?;
    tracing::error!(
        subscription.row = %id,
        error = reason,
        "the limits of a subscription cannot be renewed; it is set aside"
    );
    Ok(())
}

/// Whether a statement timed out.
#[must_use]
pub fn is_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).as_deref() == Some("57014")
}

/// Retries due set-aside subscriptions, at most `at_most`, and begins none after `time`; returns those that failed
/// again.
///
/// # Errors
/// Errors of the database that no subscription caused.
pub async fn retry_due(conn: &mut Connection, at_most: u64, time: Duration) -> Result<Vec<Failed>, sqlx::Error> {
    let (began, mut failed) = (Instant::now(), Vec::new());
    for _ in 0..at_most {
        if began.elapsed() > time {
            break;
        }
        let jobs = claim::due(conn, Kind::Renewal, 1, LEASE).await?;
        let Some(job) = jobs.into_iter().next() else { break };
        if let Err(error) = retry(conn, &job).await? {
            failed.push(Failed { stripe_subscription_id: job.key.object_id, error });
        }
    }
    Ok(failed)
}

/// Retries one subscription. The inner error is the reason why it stays set aside.
async fn retry(conn: &mut Connection, job: &Job) -> Result<Result<(), String>, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN).await?;
    let renewed = sqlx::query!(
        "-- limits.retry
        SELECT billing.lock_and_renew_limits(s.id) FROM billing.subscriptions AS s
        WHERE s.account = $1 AND s.stripe_subscription_id = $2",
        job.key.account,
        job.key.object_id
    )
    .execute(&mut *tx)
    .await;
    let Err(error) = renewed else {
        settle::done(&mut tx, &[job]).await?;
        tx.commit().await?;
        return Ok(Ok(()));
    };
    tx.rollback().await?;
    let Some(text) = database::describe(&error) else { return Err(error) };
    let delay = RETRY.unlimited(u32::try_from(job.attempt).unwrap_or(u32::MAX), fastrand::f64());
    settle::put_back(conn, job, delay, true, Some(&text)).await?;
    Ok(Err(text))
}
