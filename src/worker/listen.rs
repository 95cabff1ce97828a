//! Wakes the workers when the receiver says that something was stored.
//!
//! Only a convenience: a lost notification, or a pooler that swallows them, costs at most the poll interval.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::outbox::wake::CHANNEL;

/// After so long without a word the connection is made anew: a host that vanished would be silent for ever.
const SILENCE: Duration = Duration::from_mins(5);

/// Listens until `shutdown`, coming back after every loss of the connection.
pub(super) async fn run(pool: PgPool, wake: watch::Sender<()>, shutdown: CancellationToken) {
    let pause = Duration::from_secs(1);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            error = listen(&pool, &wake) => {
                tracing::debug!(%error, "not listening for new events: the workers poll meanwhile");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Listens until the connection is lost, and says how.
async fn listen(pool: &PgPool, wake: &watch::Sender<()>) -> sqlx::Error {
    let mut listener = match PgListener::connect_with(pool).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    if let Err(error) = listener.listen(CHANNEL).await {
        return error;
    }
    // whatever was stored before we listened
    wake.send_replace(());
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => wake.send_replace(()),
            Ok(Err(error)) => return error,
            // closed, or so quiet that nobody may be there
            Ok(Ok(None)) | Err(_) => return sqlx::Error::WorkerCrashed,
        }
    }
}
