//! How stored events are processed.
use std::time::Duration;
/// Settings of the worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// a
    pub batch_size: usize,
    /// a
    pub workers: usize,
    /// a
    pub poll_interval: Duration,
    /// a
    pub max_attempts: u32,
    /// a
    pub retry_initial: Duration,
    /// a
    pub retry_max: Duration,
    /// a
    pub attempt_lease: Duration,
}
