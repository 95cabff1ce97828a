//! Shutdown by signal: the first one stops the process gracefully, a second one at once. Long commands stop at the first
//! one, with a summary.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::shutdown::ShutdownConfig;
use crate::listener::Ending;

/// A signal that stops a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM, of a supervisor.
    Terminate,
    /// SIGINT, of Ctrl-C.
    Interrupt,
}

impl StopSignal {
    /// Name of the signal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// Exit code of a command that the signal has stopped: 128 and the number of the signal, as shells report it.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
        })
    }
}

/// Listener for SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Handles both signals from now on.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of the signals.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }

    /// Runs `work` to its end. The first signal starts draining, and the shutdown after the drain delay. A second
    /// signal, or the timeout, abandons the work. Nothing is lost, because every startup recovers. Returns whether the
    /// work ended by itself.
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
                tracing::warn!(signal = signal.name(), "second signal; stopping immediately");
                false
            }
            () = tokio::time::sleep(config.timeout) => {
                tracing::warn!("work in flight did not finish within BILLING_SYNC_SHUTDOWN_TIMEOUT; stopping now");
                false
            }
        }
    }
}

fn begin(signal: StopSignal, config: &ShutdownConfig) {
    let signal = signal.name();
    if config.drain_delay.is_zero() {
        tracing::info!(signal, "stopping; finishing work in flight");
    } else {
        let delay = humantime::format_duration(config.drain_delay);
        tracing::info!(signal, "stopping; reporting not ready, and serving for another {delay}");
    }
}
