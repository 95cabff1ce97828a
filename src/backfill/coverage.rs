//! Progress of a run: an estimate for display, because Stripe's lists do not report their length.

use std::collections::BTreeMap;

use super::list::List;
use super::range::Range;
use crate::base::clock;

/// Share of the lists that is read, measured by creation time.
pub(super) struct ListCoverage {
    floor: i64,
    now: i64,
    /// Seconds of creation time not read yet, by list.
    left: BTreeMap<List, i64>,
    lists: usize,
}

impl ListCoverage {
    pub(super) fn new<'a>(ranges: impl Iterator<Item = &'a Range>, floor: i64, accounts: usize) -> Self {
        let now = clock::now().unix_timestamp();
        let mut coverage = Self { floor, now, left: BTreeMap::new(), lists: List::ALL.len() * accounts };
        for range in ranges {
            *coverage.left.entry(range.list).or_default() += range.left(floor, now);
        }
        coverage
    }

    /// Recomputes one list. Pages in flight count as read, which is accurate enough for an estimate.
    pub(super) fn update<'a>(&mut self, list: List, ranges: impl Iterator<Item = &'a Range>) {
        let left = ranges.filter(|range| range.list == list).map(|range| range.left(self.floor, self.now)).sum();
        self.left.insert(list, left);
    }

    pub(super) fn fraction(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an estimate in per cent")]
        let part = |seconds: i64| seconds as f64;
        let all = part(self.now - self.floor) * part(i64::try_from(self.lists).unwrap_or(1));
        let left: i64 = self.left.values().sum();
        (1.0 - part(left) / all.max(1.0)).clamp(0.0, 1.0)
    }
}
