//! How often the stored events are compared with Stripe's list. Read by `serve`.

use std::time::Duration;

use super::parse;
use super::settings;
use super::source::Source;

/// Settings of the comparison.
#[derive(Debug, Clone)]
pub struct ReconcileConfig {
    /// `BILLING_SYNC_RECONCILE_INTERVAL`, default 5m: from the end of one comparison to the start of the next.
    pub interval: Duration,
}

impl ReconcileConfig {
    /// Reads the interval.
    pub fn read(source: &mut Source) -> Option<Self> {
        // two of them lie within the hour after which `doctor` and the alert say that it is late
        let bounds = parse::duration(Duration::from_secs(1), Duration::from_mins(30));
        Some(Self { interval: source.value(&settings::RECONCILE_INTERVAL, bounds)? })
    }
}
