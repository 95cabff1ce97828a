//! How far the stored events are compared with Stripe's event list.

use prometheus::Registry;
use time::OffsetDateTime;

use super::gauge::gauge;
use crate::database::Connection;

/// How far the stored events are compared with Stripe's event list.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Age of the watermark of the account that is furthest behind; before its first comparison, time since it was
    /// registered. `None` if no account was ever registered.
    pub watermark_age_seconds: Option<f64>,
    /// Whether every account was compared at least once.
    pub compared: bool,
    /// Consecutive failed runs of the account with the most of them.
    pub failures: i32,
    /// The error of the last of these runs.
    pub last_error: Option<String>,
    /// Length in seconds of the longest gap: creation times that were never compared and no longer can be. 0 if there
    /// is no gap.
    pub gap_seconds: f64,
    /// The account with this gap; empty for the own account.
    pub gap_account: Option<String>,
    /// Start of the gap.
    pub gap_since: Option<OffsetDateTime>,
    /// End of the gap.
    pub gap_until: Option<OffsetDateTime>,
}

/// How far the stored events are compared. An account that was not compared for a day while others were is no longer
/// synced, and is left out.
///
/// # Errors
/// Database errors.
pub async fn comparison(conn: &mut Connection) -> Result<Comparison, sqlx::Error> {
    sqlx::query_as!(
        Comparison,
        r#"
        -- metrics.comparison
        WITH synced AS (
            SELECT * FROM billing.reconcile_state
            WHERE started_at > (SELECT max(started_at) FROM billing.reconcile_state) - interval '1 day'
        ), gap AS (
            -- of any account: a gap stays until it is closed
            SELECT * FROM billing.reconcile_state WHERE gap_since IS NOT NULL ORDER BY gap_until - gap_since DESC LIMIT 1
        ), failing AS (
            SELECT * FROM synced ORDER BY failures DESC LIMIT 1
        )
        SELECT
            (SELECT max(greatest(extract(epoch FROM clock_timestamp() - coalesce(compared_until, created_at)), 0))
                FROM synced)::double precision AS watermark_age_seconds,
            (SELECT bool_and(compared_until IS NOT NULL) FROM synced) IS TRUE AS "compared!",
            coalesce((SELECT failures FROM failing), 0) AS "failures!",
            (SELECT last_error FROM failing) AS last_error,
            coalesce((SELECT extract(epoch FROM gap_until - gap_since) FROM gap), 0)::double precision AS "gap_seconds!",
            (SELECT account FROM gap) AS gap_account,
            (SELECT gap_since FROM gap) AS gap_since,
            (SELECT gap_until FROM gap) AS gap_until
        "#
    )
    .fetch_one(conn)
    .await
}

pub(super) fn set_comparison(registry: &Registry, comparison: &Comparison) -> Result<(), prometheus::Error> {
    let help = "Length in seconds of the longest gap: events created in it were never compared with the stored ones, \
                and Stripe no longer lists them. 0 if there is no gap.";
    gauge(registry, "billing_sync_reconcile_gap_seconds", help)?.set(comparison.gap_seconds);
    // before the first comparison there is no age, and 0 would look like a perfect value
    if let Some(age) = comparison.watermark_age_seconds {
        let help = "Seconds since the watermark of the account that is furthest behind: all events created up to it \
                    have been compared with Stripe's event list. Absent before the first comparison and without a key.";
        gauge(registry, "billing_sync_reconcile_watermark_age_seconds", help)?.set(age);
    }
    Ok(())
}
