//! Settings of the comparisons with Stripe: of events with its list, and of samples of rows. Read by `serve`.

use std::time::Duration;

use super::parse;
use super::settings;
use super::source::Source;

/// Settings of the comparisons.
#[derive(Debug, Clone)]
pub struct ReconcileConfig {
    /// `BILLING_SYNC_RECONCILE_INTERVAL`, default 5m: from the end of one comparison to the start of the next.
    pub interval: Duration,
    /// `BILLING_SYNC_VERIFY_SAMPLE`, default 20: customers that are compared with Stripe every hour; 0: none.
    pub verify_sample: u32,
}

impl ReconcileConfig {
    /// Reads both settings.
    pub fn read(source: &mut Source) -> Option<Self> {
        // at most half of the hour after which `doctor` and the alert report that it is late
        let bounds = parse::duration(Duration::from_secs(1), Duration::from_mins(30));
        let interval = source.value(&settings::RECONCILE_INTERVAL, bounds);
        let verify_sample = source.value(&settings::VERIFY_SAMPLE, parse::whole(0, 10_000));
        Some(Self { interval: interval?, verify_sample: verify_sample? })
    }
}
