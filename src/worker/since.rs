//! From when on a worker looks for pending events.
//!
//! An index keeps the entry of a settled event until no snapshot sees its old row any more. While another session holds a
//! snapshot, as a dump or a long report does, a search from the beginning passes every event that was settled since: after
//! ten minutes a million, for each batch. So a worker begins where the oldest pending event was when it last looked for that.
//!
//! It looks on from there once a second, and from the beginning so rarely that even a slow look takes a small part of its time.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks of each kind take at most one part in so many of a worker's time.
const SHARE: u32 = 30;

/// Where a search for pending events begins, and when to look again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    at: OffsetDateTime,
    look_on: Instant,
    look_from_the_beginning: Instant,
}

impl Since {
    /// Not known yet: at the beginning.
    pub(super) fn unknown(now: Instant) -> Self {
        Self { at: OffsetDateTime::UNIX_EPOCH, look_on: now, look_from_the_beginning: now }
    }

    /// No fresh event that is pending was due before, but for those that became visible late.
    pub(super) fn at(self) -> OffsetDateTime {
        self.at
    }

    /// From when on to look for the oldest pending event now; `None` where it is not time yet.
    pub(super) fn to_look_from(self, now: Instant) -> Option<OffsetDateTime> {
        if self.look_from_the_beginning <= now {
            return Some(OffsetDateTime::UNIX_EPOCH);
        }
        (self.look_on <= now).then_some(self.at)
    }

    /// The oldest pending event was due `at`, by a look `from` that began then and has ended now.
    pub(super) fn found(&mut self, at: OffsetDateTime, from: OffsetDateTime, began: Instant, now: Instant) {
        let pause = PAUSE.max((now - began) * SHARE);
        self.at = at;
        if from == OffsetDateTime::UNIX_EPOCH {
            (self.look_on, self.look_from_the_beginning) = (now + PAUSE, now + pause);
        } else {
            self.look_on = now + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_look_from_the_beginning_comes_rarely_and_those_from_where_it_was_each_second() {
        let (beginning, began) = (OffsetDateTime::UNIX_EPOCH, Instant::now());
        let oldest = beginning + Duration::from_hours(1);
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut since = Since::unknown(began);
        assert_eq!((since.at(), since.to_look_from(began)), (beginning, Some(beginning)));
        since.found(oldest, beginning, began, after(2));
        assert_eq!((since.at(), since.to_look_from(after(2))), (oldest, None));
        for second in 3..62 {
            assert_eq!(since.to_look_from(after(second)), Some(oldest), "after {second} s");
            since.found(oldest, oldest, after(second), after(second));
            assert_eq!(since.to_look_from(after(second)), None, "after {second} s");
        }
        // thirty times the two seconds later
        assert_eq!(since.to_look_from(after(62)), Some(beginning));
    }
}
