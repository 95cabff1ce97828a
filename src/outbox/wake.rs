//! Notifies the workers of new events. The receiver, `reconcile` and `outbox retry` call this after their commit.

use crate::database::Connection;

/// Name of the notification channel.
pub const CHANNEL: &str = "billing_sync_outbox";

/// Wakes the workers. A lost notification is harmless, because workers also poll.
///
/// # Errors
/// Database errors.
pub async fn wake(conn: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query("-- outbox.wake\nSELECT pg_notify($1, '')").bind(CHANNEL).execute(conn).await.map(|_| ())
}
