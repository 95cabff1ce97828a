//! Wakes the workers after a commit.
//!
//! A NOTIFY inside the ingest transaction would serialise all commits of the database (measured: a third of the rate),
//! so a separate task sends it on its own. While one is in flight, and for a moment after it, further signals merge
//! into one more, because a notification takes about as much processor time as a small INSERT, and so does the batch of
//! the worker that it wakes. A lost notification is harmless: workers also poll.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::database::Pool;
use crate::outbox::wake::wake;

/// Pause between two notifications.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends one NOTIFY for each signal, or for several signals that arrived meanwhile, until `stop`.
pub(super) async fn run(pool: Pool, stored: Arc<Notify>, limit: Duration, stop: CancellationToken) {
    for_signals(&stored, || notify(pool.clone(), limit), &stop).await;
}

async fn for_signals<F: Future<Output = ()>>(stored: &Notify, notify: impl Fn() -> F, stop: &CancellationToken) {
    loop {
        tokio::select! {
            // the last signal before the stop is still sent
            biased;
            () = stored.notified() => {}
            () = stop.cancelled() => return,
        }
        notify().await;
        stop.run_until_cancelled(sleep(PAUSE)).await;
    }
}

async fn notify(pool: Pool, limit: Duration) {
    match timeout(limit, async { wake(&mut pool.acquire().await?).await }).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = %error, "could not notify the workers"),
        Err(_) => tracing::debug!("could not notify the workers in time"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn signals_in_quick_succession_share_notifications() {
        let (stored, stop, sent) = (Notify::new(), CancellationToken::new(), AtomicU32::new(0));
        let count = || async {
            sent.fetch_add(1, Ordering::Relaxed);
        };
        let began = Instant::now();
        let signals = async {
            while began.elapsed() < PAUSE * 20 {
                stored.notify_one();
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        tokio::join!(for_signals(&stored, count, &stop), signals);
        let sent = sent.into_inner();
        // at least the notification before the first pause and the last one
        assert!((2..=22).contains(&sent), "{sent} notifications");
    }

    #[tokio::test]
    async fn the_last_signal_before_the_stop_is_sent() {
        let (stored, stop, sent) = (Notify::new(), CancellationToken::new(), AtomicU32::new(0));
        stored.notify_one();
        stop.cancel();
        let count = || async {
            sent.fetch_add(1, Ordering::Relaxed);
        };
        for_signals(&stored, count, &stop).await;
        assert_eq!(sent.into_inner(), 1);
    }
}
