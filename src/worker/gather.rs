//! How long events gather before a running worker takes a batch.
//!
//! A batch of a few events costs a worker and the database nearly as much as one of hundreds, and while events keep coming
//! the receiver needs that time. So a batch begins some time after a small one at the earliest.

use std::time::{Duration, Instant};

/// From the beginning of a small batch to that of the next one.
const GATHER: Duration = Duration::from_millis(30);

/// What the last batch says of the next one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Gather {
    began_small: Option<Instant>,
}

impl Gather {
    /// After a batch of so many events, of `limit` at most, that began then.
    pub(super) fn after(began: Instant, events: usize, limit: usize) -> Self {
        // one that is half full shows a backlog, and after none at all the next event need not wait
        Self { began_small: (1..=limit / 2).contains(&events).then_some(began) }
    }

    /// How long to wait yet.
    pub(super) fn rest(self, now: Instant) -> Duration {
        self.began_small.map_or(Duration::ZERO, |began| (began + GATHER).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_small_batch_is_waited_after() {
        let began = Instant::now();
        for (events, waits) in [(0, false), (1, true), (250, true), (251, false), (500, false)] {
            let gather = Gather::after(began, events, 500);
            let expected = if waits { GATHER } else { Duration::ZERO };
            assert_eq!(gather.rest(began), expected, "after {events} events");
            assert_eq!(gather.rest(began + GATHER), Duration::ZERO, "after {events} events");
        }
        assert_eq!(Gather::after(began, 1, 500).rest(began + GATHER / 4), 3 * GATHER / 4);
        assert_eq!(Gather::default().rest(began), Duration::ZERO, "the first one");
        assert_eq!(Gather::after(began, 1, 1).rest(began), Duration::ZERO, "each batch is full");
    }
}
