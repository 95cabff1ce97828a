//! How long data is kept. Read by `serve` and by `outbox prune`.

use std::time::Duration;

use super::parse;
use super::settings;
use super::source::Source;

const DAY: Duration = Duration::from_hours(24);

/// Shortest retention, and shortest time until a redaction. Stripe lists the events of 30 days: each must still be stored
/// when it is compared, and the order of a late one is found from the other events of its second.
const SHORTEST: Duration = DAY.saturating_mul(35);
/// Longest retention, which keeps everything.
const LONGEST: Duration = DAY.saturating_mul(36_500);

/// Settings of the retention.
#[derive(Debug, Clone)]
pub struct RetentionConfig {
    /// `BILLING_SYNC_RETENTION`, default 90 days: for how long events and the histories of rows and reads are kept.
    pub retention: Duration,
    /// `BILLING_SYNC_REDACT_AFTER`, default never: when personal data is removed from events and from the history of rows.
    pub redact_after: Option<Duration>,
}

impl RetentionConfig {
    /// Whether nothing is ever removed.
    pub fn keeps_everything(&self) -> bool {
        self.retention >= LONGEST
    }

    /// Reads the settings.
    pub fn read(source: &mut Source) -> Option<Self> {
        let retention = source.value(&settings::RETENTION, parse::duration(SHORTEST, LONGEST));
        let redact_after = source.optional(&settings::REDACT_AFTER, parse::duration(SHORTEST, LONGEST));
        Some(Self { retention: retention?, redact_after: redact_after? })
    }
}
