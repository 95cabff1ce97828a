//! How much of a run is done: a guess for whoever waits, since lists do not say how long they are.

use std::collections::BTreeMap;

use super::List;
use super::range::Range;
use crate::clock;

/// How much of the lists is read, by creation time.
pub(super) struct Covered {
    floor: i64,
    now: i64,
    /// Seconds that are left, of each list.
    left: BTreeMap<List, i64>,
    lists: usize,
}

impl Covered {
    pub(super) fn new<'a>(ranges: impl Iterator<Item = &'a Range>, floor: i64, accounts: usize) -> Self {
        let now = clock::now().unix_timestamp();
        let mut covered = Self { floor, now, left: BTreeMap::new(), lists: List::ALL.len() * accounts };
        for range in ranges {
            *covered.left.entry(range.list).or_default() += range.left(floor, now);
        }
        covered
    }

    /// Counts one list again. Pages at work count as read: it is a guess anyway.
    pub(super) fn update<'a>(&mut self, list: List, ranges: impl Iterator<Item = &'a Range>) {
        let left = ranges.filter(|range| range.list == list).map(|range| range.left(self.floor, self.now)).sum();
        self.left.insert(list, left);
    }

    pub(super) fn share(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a guess in per cent")]
        let part = |seconds: i64| seconds as f64;
        let all = part(self.now - self.floor) * part(i64::try_from(self.lists).unwrap_or(1));
        let left: i64 = self.left.values().sum();
        (1.0 - part(left) / all.max(1.0)).clamp(0.0, 1.0)
    }
}
