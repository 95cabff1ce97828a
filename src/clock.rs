//! The process clock: the one place that reads the time of this machine, and what it knows of another one's.
//!
//! Used for signature tolerance and for durations only. Whatever is written to a table takes its time from
//! PostgreSQL (`clock_timestamp()`), and pure code takes `now` as an argument.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;

/// Now, by this machine's clock, in UTC.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::from(SystemTime::now())
}

/// What was heard longer ago says nothing: this machine's clock may have been put right since.
const FRESH: Duration = Duration::from_hours(1);

/// Another clock, as it was last heard. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Option<(Instant, time::Duration)>>>);

impl Heard {
    /// Notes what the other clock says just now.
    pub fn says(&self, other: OffsetDateTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), other - now()));
    }

    /// How far it was ahead of this machine's clock within the last hour, below zero behind it.
    pub fn ahead(&self) -> Option<time::Duration> {
        let heard = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.filter(|(at, _)| at.elapsed() < FRESH).map(|(_, ahead)| ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_heard_is_ahead_or_behind() {
        let stripe = Heard::default();
        assert_eq!(stripe.ahead(), None);
        stripe.clone().says(now() - time::Duration::hours(2));
        let behind = stripe.ahead().expect("it was heard just now");
        assert!((behind + time::Duration::hours(2)).abs() < time::Duration::minutes(1), "{behind}");
    }
}
