//! Changes at Stripe that are not finished, counted in the ledger.

use prometheus::{GaugeVec, Opts, Registry};

use super::gauge::gauge;
use crate::database::Connection;

/// Lines of the ledger that are open or of unknown outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Writes {
    /// Lines that were not sent yet.
    pub begun: i64,
    /// Lines that were sent and whose outcome is not known yet.
    pub sent: i64,
    /// Lines whose outcome cannot be found out any more.
    pub unknown: i64,
    /// Seconds since the oldest open line was begun; 0 if none is open.
    pub oldest_open_seconds: f64,
}

/// Counts the lines by their partial indexes, so the cost does not grow with the history.
///
/// # Errors
/// Database errors.
pub async fn writes(conn: &mut Connection) -> Result<Writes, sqlx::Error> {
    sqlx::query_as!(
        Writes,
        r#"
        -- metrics.writes
        SELECT count(*) FILTER (WHERE state = 'begun') AS "begun!", count(*) FILTER (WHERE state = 'sent') AS "sent!",
            (SELECT count(*) FROM billing.api_writes WHERE state = 'unknown') AS "unknown!",
            coalesce(greatest(extract(epoch FROM clock_timestamp() - min(begun_at)), 0), 0)::double precision
                AS "oldest_open_seconds!"
        FROM billing.api_writes WHERE state IN ('begun', 'sent')
        "#
    )
    .fetch_one(conn)
    .await
}

pub(super) fn set_writes(registry: &Registry, writes: &Writes) -> Result<(), prometheus::Error> {
    let help = "Changes at Stripe that are not finished, by state: begun (not sent yet), sent (the outcome is not known \
                yet), unknown (an operator must decide).";
    let lines = GaugeVec::new(Opts::new("billing_sync_api_writes", help), &["state"])?;
    registry.register(Box::new(lines.clone()))?;
    for (state, count) in [("begun", writes.begun), ("sent", writes.sent), ("unknown", writes.unknown)] {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 lines")]
        lines.with_label_values(&[state]).set(count as f64);
    }
    let help = "Seconds since the oldest change at Stripe that is begun or sent was requested; 0 if there is none.";
    gauge(registry, "billing_sync_api_write_oldest_open_seconds", help)?.set(writes.oldest_open_seconds);
    Ok(())
}
