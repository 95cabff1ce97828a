//! The gap: events that were never compared and that Stripe no longer lists. It stays until a backfill has closed it.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::text::to_the_second;

/// Events created within these times were never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// From here, by Stripe's clock.
    pub since: OffsetDateTime,
    /// To here.
    pub until: OffsetDateTime,
}

impl Gap {
    /// Of two ends that are both there.
    pub(super) fn of(since: Option<OffsetDateTime>, until: Option<OffsetDateTime>) -> Option<Self> {
        Some(Self { since: since?, until: until? })
    }

    /// What there is to do about it.
    pub fn describe(&self) -> String {
        format!(
            "events created from {} to {} were never compared, and Stripe lists 30 days only: what they told is not \
             known here; `billing-sync backfill` reads the objects themselves",
            to_the_second(self.since),
            to_the_second(self.until)
        )
    }

    /// Says it as loudly as a log can.
    pub(super) fn say(&self, account: &str) {
        tracing::error!(account, "there is a gap: {}", self.describe());
    }
}

/// Notes a gap. One that is open already grows by it, for one backfill closes both.
///
/// # Errors
/// Those of the database.
pub(super) async fn note(conn: &mut PgConnection, account: &str, gap: Gap) -> Result<(), sqlx::Error> {
    let noted = sqlx::query!(
        "-- reconcile.note_gap
        UPDATE billing.watermarks
        SET gap_since = least(gap_since, $2), gap_until = greatest(gap_until, $3)
        WHERE account = $1",
        account,
        gap.since,
        gap.until
    )
    .execute(conn)
    .await?;
    super::watermark::one(&noted)
}

/// Closes the gap of an account after everything was read that Stripe had at the time `before`; says whether one was
/// closed. A gap that reaches beyond that time stays.
///
/// # Errors
/// Those of the database.
pub async fn close(conn: &mut PgConnection, account: &str, before: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let closed = sqlx::query!(
        "-- reconcile.close_gap
        UPDATE billing.watermarks SET gap_since = NULL, gap_until = NULL
        WHERE account = $1 AND gap_until <= $2",
        account,
        before
    )
    .execute(conn)
    .await?;
    Ok(closed.rows_affected() > 0)
}
