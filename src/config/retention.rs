//! How long data is kept. Read by `serve` and by `outbox prune`.

use std::time::Duration;

use super::parse;
use super::settings;
use super::source::Source;

const DAY: Duration = Duration::from_hours(24);

/// Shortest retention. Stripe lists the events of 30 days, and each must still be stored when it is compared.
const SHORTEST: Duration = DAY.saturating_mul(35);
/// Longest retention, which keeps everything.
const LONGEST: Duration = DAY.saturating_mul(36_500);

/// Settings of the retention.
#[derive(Debug, Clone)]
pub struct RetentionConfig {
    /// `BILLING_SYNC_RETENTION`, default 90 days: for how long events and the histories of rows and reads are kept.
    pub retention: Duration,
}

impl RetentionConfig {
    /// Reads the settings.
    pub fn read(source: &mut Source) -> Option<Self> {
        Some(Self { retention: source.value(&settings::RETENTION, parse::duration(SHORTEST, LONGEST))? })
    }
}
