//! The process clock: the only code that reads this machine's time, and its measured difference to another clock.
//!
//! Used only for signature tolerance and durations. Every time that is written to a table comes from PostgreSQL
//! (`clock_timestamp()`), and pure code takes `now` as an argument.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;

/// Now, by this machine's clock, in UTC.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::from(SystemTime::now())
}

/// An older measurement is not used: this machine's clock may have been corrected since.
const MAX_AGE: Duration = Duration::from_hours(1);

/// Another machine's clock, relative to this one, as last measured. Clones share the measurement.
#[derive(Debug, Clone, Default)]
pub struct RemoteClock(Arc<Mutex<Option<(Instant, time::Duration)>>>);

impl RemoteClock {
    /// Records the other clock's current time.
    pub fn record(&self, other: OffsetDateTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), other - now()));
    }

    /// How far the other clock was ahead of this machine's clock within the last hour. Negative: it was behind.
    pub fn ahead(&self) -> Option<time::Duration> {
        let measured = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.filter(|(at, _)| at.elapsed() < MAX_AGE).map(|(_, ahead)| ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_clock_is_ahead_or_behind() {
        let stripe = RemoteClock::default();
        assert_eq!(stripe.ahead(), None);
        stripe.clone().record(now() - time::Duration::hours(2));
        let behind = stripe.ahead().expect("it was measured just now");
        assert!((behind + time::Duration::hours(2)).abs() < time::Duration::minutes(1), "{behind}");
    }
}
