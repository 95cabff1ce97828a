//! How a process is told to end: once kindly, and then with impatience.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::shutdown::ShutdownConfig;
use crate::listener::Ending;

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

    /// Runs `work` to its end. The first signal begins the ending: draining at once, shutdown after the drain delay. A
    /// second signal, or the end of the time-out, leaves the work where it is: nothing is lost, since every start is also
    /// the recovery. Returns whether the work ended by itself.
    pub async fn run(&mut self, work: impl Future<Output = ()>, ending: &Ending, config: &ShutdownConfig) -> bool {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            () = work.as_mut() => return true,
            signal = self.next() => begin(signal, config),
        }
        ending.draining.cancel();
        let shutdown = async {
            tokio::time::sleep(config.drain_delay).await;
            ending.shutdown.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work => true,
            () = shutdown => true,
            signal = self.next() => {
                tracing::warn!(signal, "asked twice: stopping at once");
                false
            }
            () = tokio::time::sleep(config.timeout) => {
                tracing::warn!("work in flight did not end within BILLING_SYNC_SHUTDOWN_TIMEOUT: stopping at once");
                false
            }
        }
    }
}

fn begin(signal: &'static str, config: &ShutdownConfig) {
    if config.drain_delay.is_zero() {
        tracing::info!(signal, "stopping: finishing what is in flight");
    } else {
        let delay = humantime::format_duration(config.drain_delay);
        tracing::info!(signal, "stopping: not ready from now on, and serving for another {delay}");
    }
}
