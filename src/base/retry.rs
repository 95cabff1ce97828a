//! The delay before the next attempt after a failure, and when to give up. Called by the worker and the client.
//!
//! PURE: the jitter is an argument. The curve comes from the `backoff` crate. Only this file uses that crate, because
//! it is no longer maintained: replacing it means replacing one function.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// Number of attempts and delays between them.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Number of attempts before giving up.
    pub max_attempts: u32,
    /// Delay after the first failed attempt.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl RetryPolicy {
    /// Delay after failed attempt `number` (from 1); `None` after the last.
    ///
    /// The curve doubles from `initial` up to `max`. `jitter` in `[0, 1)` subtracts up to half of the delay, so that
    /// events that failed together are not retried together, and `max` is never exceeded.
    pub fn delay(&self, number: u32, jitter: f64) -> Option<Duration> {
        (number < self.max_attempts).then(|| self.unlimited(number, jitter))
    }

    /// Like [`Self::delay`], but without a last attempt: `max_attempts` is ignored.
    pub fn unlimited(&self, number: u32, jitter: f64) -> Duration {
        self.curve(number).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// Delay after failed attempt `number` (from 1), anywhere between zero and the curve ("full jitter"): for requests
    /// to a server that refused many callers at once. `None` after the last attempt.
    pub fn full_jitter(&self, number: u32, jitter: f64) -> Option<Duration> {
        (number < self.max_attempts).then(|| self.curve(number).mul_f64(1.0 - jitter.clamp(0.0, 1.0)))
    }

    /// The crate's curve without its randomness. The crate multiplies step by step and stops at `max`.
    fn curve(&self, number: u32) -> Duration {
        let mut backoff = ExponentialBackoff {
            initial_interval: self.initial.min(self.max),
            current_interval: self.initial.min(self.max),
            multiplier: 2.0,
            randomization_factor: 0.0,
            max_interval: self.max,
            // by default the crate gives up after 15 minutes
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        // 2^64 of anything is beyond every `max`
        (0..number.min(64)).filter_map(|_| backoff.next_backoff()).last().unwrap_or(self.initial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy { max_attempts: 12, initial: Duration::from_secs(5), max: Duration::from_hours(1) };

    #[test]
    fn the_delay_doubles_up_to_the_maximum() {
        let seconds = |number| POLICY.delay(number, 0.0).unwrap().as_secs();
        assert_eq!([1, 2, 3, 4].map(seconds), [5, 10, 20, 40]);
        assert_eq!(seconds(11), 3600);
    }

    #[test]
    fn jitter_subtracts_at_most_half() {
        assert_eq!(POLICY.delay(1, 0.5), Some(Duration::from_millis(3750)));
        assert!(POLICY.delay(11, 0.999).unwrap() >= Duration::from_mins(30));
    }

    #[test]
    fn full_jitter_is_between_zero_and_the_curve() {
        assert_eq!(POLICY.full_jitter(2, 0.0), Some(Duration::from_secs(10)));
        assert_eq!(POLICY.full_jitter(2, 0.75), Some(Duration::from_millis(2500)));
        assert_eq!((POLICY.full_jitter(2, 1.0), POLICY.full_jitter(12, 0.5)), (Some(Duration::ZERO), None));
    }

    #[test]
    fn the_last_attempt_has_no_delay() {
        assert!(POLICY.delay(11, 0.0).is_some());
        assert_eq!(POLICY.delay(12, 0.0), None);
        assert_eq!(POLICY.delay(u32::MAX, 0.0), None);
        assert_eq!(POLICY.unlimited(u32::MAX, 0.0), Duration::from_hours(1));
    }
}
