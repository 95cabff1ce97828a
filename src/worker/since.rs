//! Where a worker's search for pending events begins.
//!
//! An index keeps the entry of a settled event until no snapshot sees its old row. While another session holds a
//! snapshot (a dump, a long report), a search from the beginning passes every event settled since: a million after ten
//! minutes, in each batch. So a worker starts at the oldest pending event that it last found.
//!
//! It searches forward from there once a second. It searches from the beginning so rarely that even a slow search takes
//! a small part of its time.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

/// Minimum time between two searches.
const PAUSE: Duration = Duration::from_secs(1);

/// Searches of each kind take at most one part in this many of a worker's time.
const SHARE: u32 = 30;

/// Where a search for pending events begins, and when to update that.
#[derive(Debug, Clone, Copy)]
pub(super) struct SearchStart {
    at: OffsetDateTime,
    search_forward_at: Instant,
    look_from_the_beginning: Instant,
}

impl SearchStart {
    /// Not known yet: the beginning.
    pub(super) fn unknown(now: Instant) -> Self {
        Self { at: OffsetDateTime::UNIX_EPOCH, search_forward_at: now, look_from_the_beginning: now }
    }

    /// No fresh pending event is due before this time, except events that became visible late.
    pub(super) fn at(self) -> OffsetDateTime {
        self.at
    }

    /// The time from which to search for the oldest pending event now; `None` if no search is due.
    pub(super) fn search_from(self, now: Instant) -> Option<OffsetDateTime> {
        if self.look_from_the_beginning <= now {
            return Some(OffsetDateTime::UNIX_EPOCH);
        }
        (self.search_forward_at <= now).then_some(self.at)
    }

    /// Records that a search `from` a time, begun at `began` and ended `now`, found the oldest pending event due `at`.
    pub(super) fn found(&mut self, at: OffsetDateTime, from: OffsetDateTime, began: Instant, now: Instant) {
        let pause = PAUSE.max((now - began) * SHARE);
        self.at = at;
        if from == OffsetDateTime::UNIX_EPOCH {
            (self.search_forward_at, self.look_from_the_beginning) = (now + PAUSE, now + pause);
        } else {
            self.search_forward_at = now + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_searches_from_the_beginning_are_rare() {
        let (beginning, began) = (OffsetDateTime::UNIX_EPOCH, Instant::now());
        let oldest = beginning + Duration::from_hours(1);
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut since = SearchStart::unknown(began);
        assert_eq!((since.at(), since.search_from(began)), (beginning, Some(beginning)));
        since.found(oldest, beginning, began, after(2));
        assert_eq!((since.at(), since.search_from(after(2))), (oldest, None));
        for second in 3..62 {
            assert_eq!(since.search_from(after(second)), Some(oldest), "after {second} s");
            since.found(oldest, oldest, after(second), after(second));
            assert_eq!(since.search_from(after(second)), None, "after {second} s");
        }
        // thirty times the two seconds later
        assert_eq!(since.search_from(after(62)), Some(beginning));
    }
}
