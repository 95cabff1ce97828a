//! Number of subscriptions in one transaction: as many as are renewed in a fraction of a second.
//!
//! PURE. Locks are held until the transaction ends, and the product waits for them. A subscription that is twelve
//! periods behind costs many times as much as one that is one period behind.

use std::time::Duration;

const FIRST: u32 = 500;
const MOST: u32 = 5000;

/// Target duration of a transaction, well below the one second that is acceptable.
const AIM: Duration = Duration::from_millis(300);

/// The size of the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveBatchSize {
    size: u32,
    /// Whether the last batch was full, so that there is more.
    behind: bool,
}

impl Default for AdaptiveBatchSize {
    /// A small batch, because its duration is unknown.
    fn default() -> Self {
        Self { size: FIRST, behind: false }
    }
}

impl AdaptiveBatchSize {
    /// Maximum number of subscriptions.
    pub fn size(self) -> i32 {
        i32::try_from(self.size).unwrap_or(i32::MAX)
    }

    /// Whether more is due than fits into one transaction.
    pub fn is_behind(self) -> bool {
        self.behind
    }

    /// Adjusts the size after a batch of `count` subscriptions timed out: half of `count`, or half of the size if
    /// `count` is unknown.
    pub fn timed_out(&mut self, count: usize) {
        let tried = u32::try_from(count).ok().filter(|count| *count > 0).unwrap_or(self.size);
        self.size = (self.size.min(tried) / 2).max(1);
    }

    /// Adjusts the size after `count` subscriptions took `time`: at most doubles it, or reduces it as far as needed.
    pub fn took(&mut self, count: usize, time: Duration) {
        let (count, micros) = (u128::try_from(count).unwrap_or_default(), time.as_micros().max(1));
        if count == 0 {
            self.behind = false;
            return;
        }
        let fitting = u32::try_from(count * AIM.as_micros() / micros).unwrap_or(u32::MAX);
        // a batch that was not full says little about a full one
        self.behind = count >= u128::from(self.size);
        let upper = if self.behind { self.size.saturating_mul(2) } else { self.size };
        self.size = fitting.min(upper).clamp(1, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_batch_is_followed_by_a_small_one() {
        let mut batch_size = AdaptiveBatchSize::default();
        batch_size.took(500, Duration::from_secs(3));
        assert_eq!(batch_size.size(), 50);
        batch_size.took(1, Duration::from_mins(50));
        assert_eq!(batch_size.size(), 1);
    }

    #[test]
    fn a_full_fast_batch_at_most_doubles_the_size() {
        let mut batch_size = AdaptiveBatchSize::default();
        batch_size.took(500, Duration::from_millis(1));
        assert_eq!(batch_size.size(), 1000);
        for _ in 0..10 {
            let full = usize::try_from(batch_size.size()).unwrap();
            batch_size.took(full, Duration::from_millis(1));
        }
        assert_eq!(batch_size.size(), 5000);
    }

    #[test]
    fn a_timeout_halves_the_size_down_to_one() {
        let mut batch_size = AdaptiveBatchSize::default();
        batch_size.timed_out(0);
        assert_eq!(batch_size.size(), 250);
        batch_size.timed_out(6);
        assert_eq!(batch_size.size(), 3);
        batch_size.timed_out(500);
        batch_size.timed_out(1);
        assert_eq!(batch_size.size(), 1);
    }

    #[test]
    fn a_partial_batch_does_not_raise_the_size() {
        let mut batch_size = AdaptiveBatchSize::default();
        batch_size.took(3, Duration::from_micros(1));
        assert_eq!(batch_size.size(), 500);
    }
}
