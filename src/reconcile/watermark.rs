//! The watermark of each account: how far the stored events have been compared with Stripe's, and who is at it.
//!
//! The lease keeps many processes from listing the same at once. It is no lock: two that run all the same do no harm.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgQueryResult;
use time::OffsetDateTime;

use super::gap::Gap;
use super::store::Tally;
use crate::interval::interval;
use crate::jobs::account::Account;

/// Longer than one request with its retries takes; it is given anew with each page.
const LEASE: Duration = Duration::from_mins(2);

/// How an account stands when a comparison begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Every event created up to here, by Stripe's clock, has been compared; `None` before the first time.
    pub compared_until: Option<OffsetDateTime>,
    /// What never will be.
    pub gap: Option<Gap>,
    /// Runs that failed since the last one that did not.
    pub failures: u32,
}

/// Begins a comparison. With a `pause` only where nobody else is at it and the last one ended so long ago; else `None`.
///
/// # Errors
/// Those of the database.
pub async fn begin(
    conn: &mut PgConnection,
    account: &str,
    pause: Option<Duration>,
) -> Result<Option<Watermark>, sqlx::Error> {
    let row = sqlx::query!(
        "-- reconcile.begin
        INSERT INTO billing.watermarks AS w (account, leased_until) VALUES ($1, clock_timestamp() + $2::interval)
        ON CONFLICT (account) DO UPDATE
        SET leased_until = clock_timestamp() + $2::interval, started_at = clock_timestamp()
        WHERE $3::interval IS NULL
            -- times that lie farther ahead were written by a clock that has been put right since: no wait is as long
            OR (coalesce(w.leased_until NOT BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 hour', true)
                AND coalesce(w.finished_at NOT BETWEEN clock_timestamp() - $3::interval AND clock_timestamp(), true))
        RETURNING compared_until, gap_since, gap_until, failures",
        account,
        interval(LEASE),
        pause.map(interval)
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Watermark {
        compared_until: row.compared_until,
        gap: Gap::of(row.gap_since, row.gap_until),
        failures: u32::try_from(row.failures).unwrap_or_default(),
    }))
}

/// Goes on: nobody else need begin for a while.
///
/// # Errors
/// Those of the database.
pub(super) async fn hold(conn: &mut PgConnection, account: &str) -> Result<(), sqlx::Error> {
    let held = sqlx::query!(
        "-- reconcile.hold
        UPDATE billing.watermarks SET leased_until = clock_timestamp() + $2::interval WHERE account = $1",
        account,
        interval(LEASE)
    )
    .execute(conn)
    .await?;
    one(&held)
}

/// Ends a comparison whose listing was complete. The watermark moves to `until`, never back; `None` leaves it, where the
/// listing began after it. `stripe_account` was just proven to be ours.
///
/// # Errors
/// Those of the database.
pub(super) async fn finish(
    conn: &mut PgConnection,
    account: &str,
    until: Option<OffsetDateTime>,
    tally: &Tally,
    stripe_account: Option<&Account>,
) -> Result<Watermark, sqlx::Error> {
    let row = sqlx::query!(
        "-- reconcile.finish
        UPDATE billing.watermarks
        SET compared_until = greatest(compared_until, $2), finished_at = clock_timestamp(), leased_until = NULL,
            failures = 0, last_error = NULL, compared = $3, inserted = $4, missed = $5, unreadable = $6,
            stripe_account = coalesce($7, stripe_account),
            livemode = CASE WHEN $7::text IS NULL THEN livemode ELSE $8 END
        WHERE account = $1
        RETURNING compared_until, gap_since, gap_until",
        account,
        until,
        count(tally.compared),
        count(tally.inserted()),
        count(tally.missed),
        count(tally.unreadable),
        stripe_account.map(|account| account.id.as_str()),
        stripe_account.map(|account| account.livemode)
    )
    .fetch_one(conn)
    .await?;
    let gap = Gap::of(row.gap_since, row.gap_until);
    Ok(Watermark { compared_until: row.compared_until, gap, failures: 0 })
}

/// Notes that a comparison failed; nobody begins again within `wait`.
///
/// # Errors
/// Those of the database.
pub(super) async fn fail(
    conn: &mut PgConnection,
    account: &str,
    wait: Duration,
    error: &str,
) -> Result<(), sqlx::Error> {
    let failed = sqlx::query!(
        "-- reconcile.fail
        UPDATE billing.watermarks
        SET failures = failures + 1, last_error = left($3, 500), leased_until = clock_timestamp() + $2::interval
        WHERE account = $1",
        account,
        interval(wait),
        error
    )
    .execute(conn)
    .await?;
    one(&failed)
}

/// Gives the lease back without a word about how it went.
///
/// # Errors
/// Those of the database.
pub(super) async fn release(conn: &mut PgConnection, account: &str) -> Result<(), sqlx::Error> {
    let released = sqlx::query!(
        "-- reconcile.release
        UPDATE billing.watermarks SET leased_until = NULL WHERE account = $1",
        account
    )
    .execute(conn)
    .await?;
    one(&released)
}

/// The account and mode of our own events, where a key was ever proven to be of them.
///
/// # Errors
/// Those of the database.
pub(super) async fn stripe_account(conn: &mut PgConnection) -> Result<Option<Account>, sqlx::Error> {
    sqlx::query_as!(
        Account,
        r#"-- reconcile.stripe_account
        SELECT stripe_account AS "id!", livemode AS "livemode!"
        FROM billing.watermarks WHERE account = '' AND stripe_account IS NOT NULL"#
    )
    .fetch_optional(conn)
    .await
}

/// The row is there from the beginning of a comparison to its end, unless somebody has deleted it.
pub(super) fn one(result: &PgQueryResult) -> Result<(), sqlx::Error> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

fn count(events: u64) -> i64 {
    i64::try_from(events).unwrap_or(i64::MAX)
}
