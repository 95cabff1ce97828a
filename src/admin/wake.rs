//! Wakes the workers for an operator, as the receiver does after it has stored something. Called by `outbox retry`.

use sqlx::PgConnection;

use crate::outbox::CHANNEL;

/// To be called after the commit. A lost one is harmless, because workers poll too.
///
/// # Errors
/// Whatever the database says.
pub async fn wake(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("-- admin.wake\nSELECT pg_notify($1, '')").bind(CHANNEL).execute(conn).await.map(|_| ())
}
