//! Settings of the processing of stored events. Read by `serve`, used by the worker.

use std::time::Duration;

use super::error::Problem;
use super::parse;
use super::settings;
use super::source::Source;

const DAY: Duration = Duration::from_hours(24);

/// Settings of the worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// `BILLING_SYNC_BATCH_SIZE`, default 500: maximum number of events in one transaction.
    pub batch_size: usize,
    /// `BILLING_SYNC_WORKERS`, default 2: workers in this process.
    pub workers: usize,
    /// `BILLING_SYNC_POLL_INTERVAL`, default 5s: interval at which a worker checks for events without a notification.
    pub poll_interval: Duration,
    /// `BILLING_SYNC_MAX_ATTEMPTS`, default 12: failed attempts after which an event is dead.
    pub max_attempts: u32,
    /// `BILLING_SYNC_RETRY_INITIAL`, default 5s: wait after the first failed attempt.
    pub retry_initial: Duration,
    /// `BILLING_SYNC_RETRY_MAX`, default 1h: maximum wait between two attempts; never below `retry_initial`.
    pub retry_max: Duration,
    /// `BILLING_SYNC_ATTEMPT_LEASE`, default 60s: time after which another worker takes over an isolated event.
    pub attempt_lease: Duration,
}

impl WorkerConfig {
    /// Reads the settings of the worker.
    pub fn read(source: &mut Source) -> Option<Self> {
        let batch_size = source.value(&settings::BATCH_SIZE, parse::whole(1, 10_000));
        let workers = source.value(&settings::WORKERS, parse::whole(1, 64));
        let interval = parse::duration(Duration::from_millis(100), Duration::from_hours(1));
        let poll_interval = source.value(&settings::POLL_INTERVAL, interval);
        let max_attempts = source.value(&settings::MAX_ATTEMPTS, parse::whole(1, 1000));
        let (retry_initial, retry_max) = retries(source).unzip();
        let lease = parse::duration(Duration::from_secs(1), Duration::from_hours(1));
        let attempt_lease = source.value(&settings::ATTEMPT_LEASE, lease);
        Some(Self {
            batch_size: batch_size?,
            workers: workers?,
            poll_interval: poll_interval?,
            max_attempts: max_attempts?,
            retry_initial: retry_initial?,
            retry_max: retry_max?,
            attempt_lease: attempt_lease?,
        })
    }
}

fn retries(source: &mut Source) -> Option<(Duration, Duration)> {
    let initial = source.value(&settings::RETRY_INITIAL, parse::duration(Duration::from_millis(100), DAY));
    let max = source.value(&settings::RETRY_MAX, parse::duration(Duration::from_millis(100), 7 * DAY));
    let (initial, max) = (initial?, max?);
    if max < initial {
        let (initial, max) = (humantime::format_duration(initial), humantime::format_duration(max));
        let wrong = format!("{max} is shorter than BILLING_SYNC_RETRY_INITIAL, {initial}");
        let fix = "raise BILLING_SYNC_RETRY_MAX, or lower BILLING_SYNC_RETRY_INITIAL";
        source.problem(Problem::new("BILLING_SYNC_RETRY_MAX", wrong, fix));
        return None;
    }
    Some((initial, max))
}
