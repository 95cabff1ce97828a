//! Says that there is something to do. Called after a commit, by the receiver, `reconcile` and `outbox retry`; the workers listen.

use sqlx::PgConnection;

/// The channel.
pub const CHANNEL: &str = "billing_sync_outbox";

/// Wakes the workers. A lost call is harmless, because they poll too.
///
/// # Errors
/// Whatever the database says.
pub async fn wake(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("-- outbox.wake\nSELECT pg_notify($1, '')").bind(CHANNEL).execute(conn).await.map(|_| ())
}
