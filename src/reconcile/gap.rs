//! The gap: events that were never compared and that Stripe no longer lists. It remains until a backfill closes it.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::base::text::to_the_second;

/// Times between which events were never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Start, by Stripe's clock.
    pub since: OffsetDateTime,
    /// End, by Stripe's clock.
    pub until: OffsetDateTime,
}

impl Gap {
    /// The gap between two times; `None` if one is missing.
    pub(super) fn of(since: Option<OffsetDateTime>, until: Option<OffsetDateTime>) -> Option<Self> {
        Some(Self { since: since?, until: until? })
    }

    /// Describes the gap and its fix.
    pub fn describe(&self) -> String {
        format!(
            "events created from {} to {} were never compared, and Stripe no longer lists them (30 days only); \
             `billing-sync backfill` reads the objects themselves",
            to_the_second(self.since),
            to_the_second(self.until)
        )
    }

    /// Logs the gap as an error.
    pub(super) fn log(&self, account: &str) {
        tracing::error!(account, "there is a gap: {}", self.describe());
    }
}

/// Records a gap. An open gap is extended instead, because one backfill closes both.
///
/// # Errors
/// Database errors.
pub(super) async fn note(conn: &mut PgConnection, account: &str, gap: Gap) -> Result<(), sqlx::Error> {
    let noted = sqlx::query!(
        "-- reconcile.note_gap
        UPDATE billing.reconcile_state
        SET gap_since = least(gap_since, $2), gap_until = greatest(gap_until, $3)
        WHERE account = $1",
        account,
        gap.since,
        gap.until
    )
    .execute(conn)
    .await?;
    super::state::expect_one_row(&noted)
}

/// Closes the gap of an account after all objects that Stripe had at the time `before` were read. Returns whether a gap
/// was closed; one that ends after that time remains.
///
/// # Errors
/// Database errors.
pub async fn close(conn: &mut PgConnection, account: &str, before: OffsetDateTime) -> Result<bool, sqlx::Error> {
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
