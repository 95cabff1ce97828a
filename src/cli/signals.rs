//! How a process is told to end: once kindly, and then with impatience.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes both signals over from now on.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Runs `work` to its end. The first signal asks it to end, by `shutdown`; a second one, or `patience` running
    /// out, leaves it where it is: nothing is lost, since a start is also the recovery. Says whether it ended by itself.
    pub async fn run(
        &mut self,
        work: impl Future<Output = ()>,
        shutdown: &CancellationToken,
        patience: Duration,
    ) -> bool {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            () = work.as_mut() => return true,
            signal = self.next() => tracing::info!(signal, "stopping: finishing what is in flight"),
        }
        shutdown.cancel();
        tokio::select! {
            () = work => true,
            signal = self.next() => {
                tracing::warn!(signal, "asked twice: stopping at once");
                false
            }
            () = tokio::time::sleep(patience) => {
                tracing::warn!("work in flight did not end within BILLING_SYNC_SHUTDOWN_TIMEOUT: stopping at once");
                false
            }
        }
    }
}
