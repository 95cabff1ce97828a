//! Wakes the workers when the receiver says that something was stored.
//!
//! Only a convenience: a lost notification, or a pooler that swallows them, costs at most the poll interval.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::database::shortage::Shortage;
use crate::database::{self, Session};
use crate::outbox::wake::CHANNEL;

/// After so long without a notification the connection is checked: a host that vanished would be silent for ever, and a
/// server that takes no writes any more gets no events.
const SILENCE: Duration = Duration::from_secs(15);

/// Time for that check.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// Time for a new connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Pause after a loss of the connection.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens where the pool of the workers leads, until `shutdown`, coming back after every loss of the connection. In a
/// shortage it leaves the connection to others.
pub(super) async fn run(workers: PgPool, wake: watch::Sender<()>, shortage: Shortage, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(shortage.until(false)).await.is_some() {
        // a pool of its own: what a dropped listener still has to say to a vanished host would keep a worker's place
        let pool = database::pool(&workers.connect_options(), Session::BACKGROUND, 1, CONNECT_LIMIT);
        let listened = async {
            tokio::select! {
                error = listen(&pool, &wake) => Some(error),
                () = shortage.until(true) => None,
            }
        };
        let lost = shutdown.run_until_cancelled(listened).await.flatten();
        let _ = timeout(PAUSE, pool.close()).await;
        if let Some(error) = lost {
            tracing::debug!(%error, "not listening for new events: the workers poll meanwhile");
            shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
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
            Ok(Ok(Some(_))) => {
                wake.send_replace(());
            }
            Ok(Err(error)) => return error,
            Err(_) if database::is_usable(&mut listener, CHECK_LIMIT).await => {}
            // closed, or of no use
            Ok(Ok(None)) | Err(_) => return sqlx::Error::WorkerCrashed,
        }
    }
}
