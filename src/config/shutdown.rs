//! How long the end may take. Read by `serve`.

use std::time::Duration;

use super::parse;
use super::settings;
use super::source::Source;

/// Settings of the end of the process.
#[derive(Debug, Clone)]
pub struct ShutdownConfig {
    /// `BILLING_SYNC_SHUTDOWN_TIMEOUT`, default 25s (Kubernetes kills after 30): time for work in progress to finish.
    pub timeout: Duration,
}

impl ShutdownConfig {
    /// Reads the time-out.
    pub fn read(source: &mut Source) -> Option<Self> {
        let bounds = parse::duration(Duration::from_secs(1), Duration::from_hours(1));
        Some(Self { timeout: source.value(&settings::SHUTDOWN_TIMEOUT, bounds)? })
    }
}
