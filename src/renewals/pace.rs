//! How many subscriptions go into one transaction: as many as are renewed in a fraction of a second.
//!
//! PURE. Locks are held for the whole of a transaction, and the product waits for them; a subscription that lacks twelve
//! months costs many times what one does that lacks one.

use std::time::Duration;

const FIRST: u32 = 500;
const MOST: u32 = 5000;

/// What a transaction is to take, well below the second that it may.
const AIM: Duration = Duration::from_millis(300);

/// The size of the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace(u32);

impl Pace {
    /// A small one, of which nothing is known yet.
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// Subscriptions at most.
    pub(super) fn size(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }

    /// After `count` subscriptions took so long: at most twice as many, or as few as it takes.
    pub(super) fn took(&mut self, count: usize, time: Duration) {
        let (count, micros) = (u128::try_from(count).unwrap_or_default(), time.as_micros().max(1));
        let fitting = u32::try_from(count * AIM.as_micros() / micros).unwrap_or(u32::MAX);
        // one that was not full says little about a full one
        let upper = if count >= u128::from(self.0) { self.0.saturating_mul(2) } else { self.0 };
        self.0 = fitting.min(upper).clamp(1, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_batch_is_followed_by_a_small_one() {
        let mut pace = Pace::new();
        pace.took(500, Duration::from_secs(3));
        assert_eq!(pace.size(), 50);
        pace.took(1, Duration::from_mins(50));
        assert_eq!(pace.size(), 1);
    }

    #[test]
    fn a_full_fast_batch_at_most_doubles_it_up_to_the_most() {
        let mut pace = Pace::new();
        pace.took(500, Duration::from_millis(1));
        assert_eq!(pace.size(), 1000);
        for _ in 0..10 {
            let full = usize::try_from(pace.size()).unwrap();
            pace.took(full, Duration::from_millis(1));
        }
        assert_eq!(pace.size(), 5000);
    }

    #[test]
    fn a_batch_that_was_not_full_does_not_raise_it() {
        let mut pace = Pace::new();
        pace.took(3, Duration::from_micros(1));
        assert_eq!(pace.size(), 500);
    }
}
