//! The process clock: the one place that reads the time of this machine.
//!
//! Used for signature tolerance and for durations only. Whatever is written to a table takes its time from
//! PostgreSQL (`clock_timestamp()`), and pure code takes `now` as an argument.

use std::time::SystemTime;

use time::OffsetDateTime;

/// Now, by this machine's clock, in UTC.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::from(SystemTime::now())
}
