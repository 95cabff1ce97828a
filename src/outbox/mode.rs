//! The mode, live or test, that is ours: events of the other one are ignored. Where the setting was wrong, they are
//! processed once it is right.

use sqlx::PgConnection;

/// Puts events of this mode back into the queue that were ignored while the setting said the other one. Returns how many.
///
/// # Errors
/// Those of the database.
pub async fn heal(conn: &mut PgConnection, livemode: bool) -> Result<u64, sqlx::Error> {
    let healed = sqlx::query!(
        "-- outbox.heal_livemode
        UPDATE billing.outbox SET state = 'pending', outcome = NULL, reason = NULL, finished_at = NULL,
            run_at = clock_timestamp()
        WHERE reason = 'foreign_livemode' AND livemode = $1",
        livemode
    );
    Ok(healed.execute(conn).await?.rows_affected())
}
