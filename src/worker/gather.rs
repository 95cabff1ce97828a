//! How long a running worker lets events gather before it takes a batch.
//!
//! A batch of a few events costs the worker and the database nearly as much as one of hundreds, and under load the
//! receiver needs that time. So after a small batch the next one begins after a minimum interval.

use std::time::{Duration, Instant};

/// Minimum time from the start of a small batch to the start of the next one.
const GATHER: Duration = Duration::from_millis(30);

/// When the next batch may begin, by the size of the last one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Gather {
    began_small: Option<Instant>,
}

impl Gather {
    /// The state after a batch of `events` events, of at most `limit`, that began at `began`.
    pub(super) fn after(began: Instant, events: usize, limit: usize) -> Self {
        // a batch that is more than half full shows a backlog; after an empty one the next event need not wait
        Self { began_small: (1..=limit / 2).contains(&events).then_some(began) }
    }

    /// Remaining time to wait.
    pub(super) fn remaining(self, now: Instant) -> Duration {
        self.began_small.map_or(Duration::ZERO, |began| (began + GATHER).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_small_batch_delays_the_next() {
        let began = Instant::now();
        for (events, waits) in [(0, false), (1, true), (250, true), (251, false), (500, false)] {
            let gather = Gather::after(began, events, 500);
            let expected = if waits { GATHER } else { Duration::ZERO };
            assert_eq!(gather.remaining(began), expected, "after {events} events");
            assert_eq!(gather.remaining(began + GATHER), Duration::ZERO, "after {events} events");
        }
        assert_eq!(Gather::after(began, 1, 500).remaining(began + GATHER / 4), 3 * GATHER / 4);
        assert_eq!(Gather::default().remaining(began), Duration::ZERO, "the first one");
        assert_eq!(Gather::after(began, 1, 1).remaining(began), Duration::ZERO, "each batch is full");
    }
}
