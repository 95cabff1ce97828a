//! Wakes the workers after a commit.
//!
//! A NOTIFY inside the ingest transaction would serialise all commits of the database (measured: a third of the
//! rate), so it goes on its own, from its own task; while one is in flight, further signals merge into one more.
//! A lost one is harmless, because workers poll too.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::outbox::wake::wake;

/// Sends one NOTIFY for each signal, or for several that came meanwhile, until `stop`.
pub(super) async fn run(pool: PgPool, stored: Arc<Notify>, limit: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            // the last signal before the stop is still sent
            biased;
            () = stored.notified() => {}
            () = stop.cancelled() => return,
        }
        match timeout(limit, notify(&pool)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %error, "cannot notify the workers"),
            Err(_) => tracing::debug!("cannot notify the workers in time"),
        }
    }
}

async fn notify(pool: &PgPool) -> Result<(), sqlx::Error> {
    wake(&mut *pool.acquire().await?).await
}
