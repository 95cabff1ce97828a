//! The open loop: events are due at times that the answers have no influence on.
//!
//! A latency counts from the time at which its event was due. A loop that waits for an answer before it sends the next event
//! would leave out those that should have been sent meanwhile, which is called coordinated omission.

use std::thread;
use std::time::{Duration, Instant};

use super::load::{Events, Outcome, Target, drive};

/// Event `n` is due at `began + due[n]`, whatever became of those before it. A latency counts from that time: where all
/// connections wait for answers, the request waits for one of them, and its waiting counts.
pub(crate) fn open_loop(
    target: &Target,
    events: &Events,
    connections: usize,
    due: &[Duration],
    began: Instant,
) -> Outcome {
    drive(target, events, connections, began, |index| {
        let due = began + *due.get(index)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        Some(due)
    })
}

/// Times at which requests are due: `rate` a second on average, at random and independent of each other, as
/// `pgbench --rate` makes them.
pub(crate) fn schedule(rate: f64, time: Duration) -> Vec<Duration> {
    let mut dice = fastrand::Rng::with_seed(1);
    let mut at = 0.0;
    std::iter::from_fn(|| {
        at -= (1.0 - dice.f64()).ln() / rate;
        (at < time.as_secs_f64()).then(|| Duration::from_secs_f64(at))
    })
    .collect()
}
