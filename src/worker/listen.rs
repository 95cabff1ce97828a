//! Wakes the workers when the receiver notifies that it stored events.
//!
//! An optimisation only: if a notification is lost, events wait at most for the poll interval. A pooler in transaction
//! mode drops all of them; there the workers look every second.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::database::shortage::Shortage;
use crate::database::{self, Pool, Pooler, Session};
use crate::outbox::wake::CHANNEL;

/// Time without a notification after which the connection is checked. A host that vanished would stay silent for ever,
/// and a server that has become read-only stores no events.
const SILENCE: Duration = Duration::from_secs(15);

/// Timeout of that check.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// Timeout of a new connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Pause after the connection is lost.
const PAUSE: Duration = Duration::from_secs(1);

/// Interval of the wake-ups without notifications: a short delay, and few queries.
const REGULARLY: Duration = Duration::from_secs(1);

/// Listens on the database of the workers until `shutdown`, and reconnects after every loss. While connections are
/// scarce it gives its own up.
pub(super) async fn run(workers: Pool, wake: watch::Sender<()>, shortage: Shortage, shutdown: CancellationToken) {
    if workers.pooler() == Pooler::Transaction {
        shutdown.run_until_cancelled(wake_regularly(&wake)).await;
        return;
    }
    while shutdown.run_until_cancelled(shortage.until(false)).await.is_some() {
        // a pool of its own: a dropped listener still writes to its connection, and if the host has vanished that would
        // block a place in the worker's pool
        let pool = database::pool(workers.address(), Session::BACKGROUND, 1, CONNECT_LIMIT);
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

/// Listens until the connection is lost; returns the error.
async fn listen(pool: &Pool, wake: &watch::Sender<()>) -> sqlx::Error {
    let mut listener = match pool.listener().await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    if let Err(error) = listener.listen(CHANNEL).await {
        return error;
    }
    // events may have been stored before LISTEN
    wake.send_replace(());
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => {
                wake.send_replace(());
            }
            Ok(Err(error)) => return error,
            Err(_) if database::is_usable(&mut listener, CHECK_LIMIT).await => {}
            // closed or unusable
            Ok(Ok(None)) | Err(_) => return sqlx::Error::WorkerCrashed,
        }
    }
}

async fn wake_regularly(wake: &watch::Sender<()>) -> ! {
    loop {
        tokio::time::sleep(REGULARLY).await;
        wake.send_replace(());
    }
}
