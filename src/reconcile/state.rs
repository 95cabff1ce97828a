//! SQL of `billing.reconcile_state`: watermark, gap, lease and account id of each account. The same statements count what
//! a comparison found, and how it ended, in `billing.reconcile_days`, the history that `status` shows.
//!
//! The lease keeps several processes from listing the same account at once. It is not a lock: two concurrent listings
//! do no harm.

use std::time::Duration;

use sqlx::postgres::PgQueryResult;
use time::OffsetDateTime;

use super::gap::Gap;
use super::stats::ReconcileStats;
use crate::base::interval::interval;
use crate::database::Connection;
use crate::stripe_key::account::Account;

/// Duration of the lease: longer than one request with its retries takes. Each page renews it.
const LEASE: Duration = Duration::from_mins(2);

/// State of an account when a comparison begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// All events created up to this time, by Stripe's clock, have been compared; `None` before the first comparison.
    pub compared_until: Option<OffsetDateTime>,
    /// Events that can no longer be compared.
    pub gap: Option<Gap>,
    /// Consecutive failed runs.
    pub failures: u32,
}

/// Begins a comparison and takes the lease. With a `pause`, returns `None` if another process holds the lease or the
/// last comparison ended less than that ago.
///
/// # Errors
/// Database errors.
pub async fn begin(
    conn: &mut Connection,
    account: &str,
    pause: Option<Duration>,
) -> Result<Option<Watermark>, sqlx::Error> {
    let row = sqlx::query!(
        "-- reconcile.begin
        INSERT INTO billing.reconcile_state AS w (account, leased_until) VALUES ($1, clock_timestamp() + $2::interval)
        ON CONFLICT (account) DO UPDATE
        SET leased_until = clock_timestamp() + $2::interval, started_at = clock_timestamp()
        WHERE $3::interval IS NULL
            -- later times were written by a clock that has been corrected since: no lease lasts that long
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

/// Renews the lease, and counts the missed events of a page in the history: a later page may fail, and the next run no
/// longer finds them missing.
///
/// # Errors
/// Database errors.
pub(super) async fn renew_lease(conn: &mut Connection, account: &str, missed: u64) -> Result<(), sqlx::Error> {
    // fails without a row
    sqlx::query_scalar!(
        "-- reconcile.renew_lease
        WITH held AS (
            UPDATE billing.reconcile_state SET leased_until = clock_timestamp() + $2::interval WHERE account = $1
            RETURNING account
        ), counted AS (
            INSERT INTO billing.reconcile_days AS d (day, account, missed)
            SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, account, $3::bigint FROM held WHERE $3::bigint > 0
            ON CONFLICT (day, account) DO UPDATE SET missed = d.missed + excluded.missed
        )
        SELECT account FROM held",
        account,
        interval(LEASE),
        count(missed)
    )
    .fetch_one(conn)
    .await
    .map(|_| ())
}

/// Ends a comparison whose listing was complete. Moves the watermark to `until`, never backwards; `None` leaves it,
/// because the listing began after it. `stripe_account`: the account that this comparison verified.
///
/// # Errors
/// Database errors.
pub(super) async fn finish(
    conn: &mut Connection,
    account: &str,
    until: Option<OffsetDateTime>,
    stats: &ReconcileStats,
    stripe_account: Option<&Account>,
) -> Result<Watermark, sqlx::Error> {
    let row = sqlx::query!(
        "-- reconcile.finish
        WITH finished AS (
            UPDATE billing.reconcile_state
            SET compared_until = greatest(compared_until, $2), finished_at = clock_timestamp(), leased_until = NULL,
                failures = 0, last_error = NULL, last_compared = $3, last_inserted = $4, last_missed = $5,
                last_unreadable = $6, stripe_account = coalesce($7, stripe_account),
                livemode = CASE WHEN $7::text IS NULL THEN livemode ELSE $8 END
            WHERE account = $1
            RETURNING account, compared_until, gap_since, gap_until
        ), counted AS (
            INSERT INTO billing.reconcile_days AS d (day, account, completed, unreadable)
            SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, account, 1, $6 FROM finished
            ON CONFLICT (day, account) DO UPDATE SET completed = d.completed + 1,
                unreadable = d.unreadable + excluded.unreadable
        ), outdated AS (
            DELETE FROM billing.reconcile_days WHERE day < (clock_timestamp() AT TIME ZONE 'UTC')::date - 40
        )
        SELECT compared_until, gap_since, gap_until FROM finished",
        account,
        until,
        count(stats.compared),
        count(stats.inserted()),
        count(stats.missed),
        count(stats.unreadable),
        stripe_account.map(|account| account.id.as_str()),
        stripe_account.map(|account| account.livemode)
    )
    .fetch_one(conn)
    .await?;
    let gap = Gap::of(row.gap_since, row.gap_until);
    Ok(Watermark { compared_until: row.compared_until, gap, failures: 0 })
}

/// Records a failed comparison; no process begins another one within `wait`.
///
/// # Errors
/// Database errors.
pub(super) async fn fail(conn: &mut Connection, account: &str, wait: Duration, error: &str) -> Result<(), sqlx::Error> {
    let failed = sqlx::query!(
        "-- reconcile.fail
        WITH failed AS (
            UPDATE billing.reconcile_state
            SET failures = failures + 1, last_error = left($3, 500), leased_until = clock_timestamp() + $2::interval
            WHERE account = $1
            RETURNING account
        )
        INSERT INTO billing.reconcile_days AS d (day, account, failed)
        SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, account, 1 FROM failed
        ON CONFLICT (day, account) DO UPDATE SET failed = d.failed + 1",
        account,
        interval(wait),
        error
    )
    .execute(conn)
    .await?;
    expect_one_row(&failed)
}

/// Releases the lease without recording a result.
///
/// # Errors
/// Database errors.
pub(super) async fn release(conn: &mut Connection, account: &str) -> Result<(), sqlx::Error> {
    let released = sqlx::query!(
        "-- reconcile.release
        UPDATE billing.reconcile_state SET leased_until = NULL WHERE account = $1",
        account
    )
    .execute(conn)
    .await?;
    expect_one_row(&released)
}

/// Returns the account and mode that a key check verified last for the key's own account.
///
/// # Errors
/// Database errors.
pub(super) async fn stripe_account(conn: &mut Connection) -> Result<Option<Account>, sqlx::Error> {
    sqlx::query_as!(
        Account,
        r#"-- reconcile.stripe_account
        SELECT stripe_account AS "id!", livemode AS "livemode!"
        FROM billing.reconcile_state WHERE account = '' AND stripe_account IS NOT NULL"#
    )
    .fetch_optional(conn)
    .await
}

/// Records a gap. An open gap is extended instead, because one backfill closes both.
///
/// # Errors
/// Database errors.
pub(super) async fn note_gap(conn: &mut Connection, account: &str, gap: Gap) -> Result<(), sqlx::Error> {
    let noted = sqlx::query!(
        "-- reconcile.note_gap
        WITH noted AS (
            UPDATE billing.reconcile_state
            SET gap_since = least(gap_since, $2), gap_until = greatest(gap_until, $3)
            WHERE account = $1
            RETURNING account
        )
        INSERT INTO billing.reconcile_days AS d (day, account, gap_found)
        SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, account, true FROM noted
        ON CONFLICT (day, account) DO UPDATE SET gap_found = true",
        account,
        gap.since,
        gap.until
    )
    .execute(conn)
    .await?;
    expect_one_row(&noted)
}

/// Closes the gap of an account after all objects that Stripe had at the time `before` were read. Returns whether a gap
/// was closed; one that ends after that time remains.
///
/// # Errors
/// Database errors.
pub async fn close_gap(conn: &mut Connection, account: &str, before: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let closed = sqlx::query!(
        "-- reconcile.close_gap
        UPDATE billing.reconcile_state SET gap_since = NULL, gap_until = NULL
        WHERE account = $1 AND gap_until <= $2",
        account,
        before
    )
    .execute(conn)
    .await?;
    Ok(closed.rows_affected() > 0)
}

/// Checks that one row was updated. The row exists during the whole comparison unless another session deletes it.
fn expect_one_row(result: &PgQueryResult) -> Result<(), sqlx::Error> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

fn count(events: u64) -> i64 {
    i64::try_from(events).unwrap_or(i64::MAX)
}
