//! The open loop: answers do not influence the times at which events are due.
//!
//! A latency is measured from the time at which its event was due. A loop that waits for an answer before sending the
//! next event would omit the events that should have been sent meanwhile ("coordinated omission").

use std::thread;
use std::time::{Duration, Instant};

use super::load::{Events, Outcome, Target, drive};

/// Latencies of the first second are not counted: the process prepares its statements and opens its second connection
/// then, and `pgbench` opens all of its connections before it begins.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);

/// Sends event `n` at `began + due[n]`, regardless of earlier events. A latency is measured from that time: if all
/// connections are waiting for answers, the request waits for one of them, and this wait is included.
pub(crate) fn open_loop(
    target: &Target,
    events: &Events,
    connections: usize,
    due: &[Duration],
    began: Instant,
) -> Outcome {
    drive(target, events, connections, [began, began + WARM_UP], |index| {
        let due = began + *due.get(index)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        Some(due)
    })
}

/// Times at which requests are due: `rate` a second on average, random and independent of each other, as with `pgbench
/// --rate`.
pub(crate) fn schedule(rate: f64, time: Duration) -> Vec<Duration> {
    let mut dice = fastrand::Rng::with_seed(1);
    let mut at = 0.0;
    std::iter::from_fn(|| {
        at -= (1.0 - dice.f64()).ln() / rate;
        (at < time.as_secs_f64()).then(|| Duration::from_secs_f64(at))
    })
    .collect()
}
