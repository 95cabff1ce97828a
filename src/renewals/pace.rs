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
pub struct Pace {
    size: u32,
    /// The last batch was full: there is more.
    behind: bool,
}

impl Default for Pace {
    /// A small one, of which nothing is known yet.
    fn default() -> Self {
        Self { size: FIRST, behind: false }
    }
}

impl Pace {
    /// Subscriptions at most.
    pub fn size(self) -> i32 {
        i32::try_from(self.size).unwrap_or(i32::MAX)
    }

    /// Whether there is more to do than fits into one transaction.
    pub fn is_behind(self) -> bool {
        self.behind
    }

    /// After as many subscriptions took longer than a statement may: half of them, or of the size where that is not known.
    pub fn timed_out(&mut self, count: usize) {
        let tried = u32::try_from(count).ok().filter(|count| *count > 0).unwrap_or(self.size);
        self.size = (self.size.min(tried) / 2).max(1);
    }

    /// After `count` subscriptions took so long: at most twice as many, or as few as it takes.
    pub fn took(&mut self, count: usize, time: Duration) {
        let (count, micros) = (u128::try_from(count).unwrap_or_default(), time.as_micros().max(1));
        if count == 0 {
            self.behind = false;
            return;
        }
        let fitting = u32::try_from(count * AIM.as_micros() / micros).unwrap_or(u32::MAX);
        // one that was not full says little about a full one
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
        let mut pace = Pace::default();
        pace.took(500, Duration::from_secs(3));
        assert_eq!(pace.size(), 50);
        pace.took(1, Duration::from_mins(50));
        assert_eq!(pace.size(), 1);
    }

    #[test]
    fn a_full_fast_batch_at_most_doubles_it_up_to_the_most() {
        let mut pace = Pace::default();
        pace.took(500, Duration::from_millis(1));
        assert_eq!(pace.size(), 1000);
        for _ in 0..10 {
            let full = usize::try_from(pace.size()).unwrap();
            pace.took(full, Duration::from_millis(1));
        }
        assert_eq!(pace.size(), 5000);
    }

    #[test]
    fn one_that_exceeds_its_time_limit_is_followed_by_half_of_it_down_to_one() {
        let mut pace = Pace::default();
        pace.timed_out(0);
        assert_eq!(pace.size(), 250);
        pace.timed_out(6);
        assert_eq!(pace.size(), 3);
        pace.timed_out(500);
        pace.timed_out(1);
        assert_eq!(pace.size(), 1);
    }

    #[test]
    fn a_batch_that_was_not_full_does_not_raise_it() {
        let mut pace = Pace::default();
        pace.took(3, Duration::from_micros(1));
        assert_eq!(pace.size(), 500);
    }
}
