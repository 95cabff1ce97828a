//! The gap: events that were never compared and that Stripe no longer lists. It remains until a backfill closes it.

use time::OffsetDateTime;

use crate::base::text::to_the_second;

/// Times between which events were never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Start, by Stripe's clock.
    pub since: OffsetDateTime,
    /// End, by Stripe's clock.
    pub until: OffsetDateTime,
}

impl Gap {
    /// The gap between two times; `None` if one is missing.
    pub(super) fn of(since: Option<OffsetDateTime>, until: Option<OffsetDateTime>) -> Option<Self> {
        Some(Self { since: since?, until: until? })
    }

    /// Describes the gap and its fix.
    pub fn describe(&self) -> String {
        format!(
            "events created from {} to {} were never compared, and Stripe no longer lists them (30 days only); \
             `billing-sync backfill` reads the objects themselves",
            to_the_second(self.since),
            to_the_second(self.until)
        )
    }

    /// Logs the gap as an error.
    pub(super) fn log(&self, account: &str) {
        tracing::error!(account, "there is a gap: {}", self.describe());
    }
}
