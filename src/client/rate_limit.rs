//! Limits requests per second: the budget shared by the whole process, and the share of confirms.
//!
//! PURE: the time is an argument, measured from the creation of the budget. Each bucket is stored as the time at which
//! it would be full again (the "generic cell rate algorithm"), so nothing is refilled. Called by the limiter, which
//! does the waiting.

use std::time::Duration;

use super::Urgency;

/// Confirms get one request in this many.
const CONFIRM_SHARE: u32 = 4;

/// Allows one request per `interval`, and a burst after idle time.
#[derive(Debug)]
struct Bucket {
    interval: Duration,
    /// Maximum time that `full_at` may be ahead for a request to pass: one interval less than the burst.
    tolerance: Duration,
    full_at: Duration,
}

impl Bucket {
    fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, tolerance: interval * burst.saturating_sub(1), full_at: Duration::ZERO }
    }

    fn wait(&self, now: Duration) -> Duration {
        self.full_at.saturating_sub(self.tolerance).saturating_sub(now)
    }

    fn take(&mut self, now: Duration) {
        self.full_at = self.full_at.max(now) + self.interval;
    }
}

/// The budget of one key.
#[derive(Debug)]
pub(super) struct Budget {
    all: Bucket,
    confirms: Bucket,
    paused_until: Duration,
}

impl Budget {
    /// Allows `rate` requests a second (at least one), and as many at once after an idle second.
    pub(super) fn new(rate: u32) -> Self {
        let rate = rate.max(1);
        // rounded up, because a shorter interval would add up to extra requests
        let interval = Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(rate)));
        Self {
            all: Bucket::new(interval, rate),
            confirms: Bucket::new(interval * CONFIRM_SHARE, rate / CONFIRM_SHARE),
            paused_until: Duration::ZERO,
        }
    }

    /// Time until a request may be sent; zero: now.
    pub(super) fn wait(&self, now: Duration, urgency: Urgency) -> Duration {
        let all = self.all.wait(now);
        match urgency {
            Urgency::Interactive | Urgency::Normal => all,
            Urgency::Confirm => all.max(self.confirms.wait(now)),
        }
    }

    /// Takes one request from the budget, or returns the time until one is available.
    pub(super) fn take(&mut self, now: Duration, urgency: Urgency) -> Result<(), Duration> {
        let wait = self.wait(now, urgency);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.all.take(now);
        if urgency == Urgency::Confirm {
            self.confirms.take(now);
        }
        Ok(())
    }

    /// Stops all requests before `until`. After it there is no burst, because Stripe has just reported too many
    /// requests.
    pub(super) fn pause(&mut self, until: Duration) {
        self.paused_until = self.paused_until.max(until);
        self.all.full_at = self.all.full_at.max(until + self.all.tolerance);
    }

    /// Remaining time of a pause.
    pub(super) fn paused_for(&self, now: Duration) -> Duration {
        self.paused_until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn granted(budget: &mut Budget, now: Duration, urgency: Urgency) -> usize {
        std::iter::from_fn(|| budget.take(now, urgency).ok()).take(1000).count()
    }

    #[test]
    fn a_full_bucket_allows_one_second_of_requests() {
        let mut budget = Budget::new(20);
        assert_eq!(granted(&mut budget, Duration::ZERO, Urgency::Normal), 20);
        assert_eq!(budget.take(Duration::ZERO, Urgency::Normal), Err(SECOND / 20));
        assert_eq!(granted(&mut budget, SECOND, Urgency::Normal), 20);
    }

    #[test]
    fn a_confirm_uses_both_buckets_up_to_its_share() {
        let mut budget = Budget::new(20);
        assert_eq!(granted(&mut budget, Duration::ZERO, Urgency::Confirm), 5);
        assert_eq!(budget.wait(Duration::ZERO, Urgency::Confirm), SECOND / 5);
        assert_eq!(granted(&mut budget, Duration::ZERO, Urgency::Normal), 15);
    }

    #[test]
    fn the_smallest_budget_still_allows_confirms() {
        let mut budget = Budget::new(1);
        assert_eq!(granted(&mut budget, Duration::ZERO, Urgency::Confirm), 1);
        assert_eq!(budget.wait(Duration::ZERO, Urgency::Confirm), 4 * SECOND);
    }

    #[test]
    fn a_pause_blocks_all_requests_and_prevents_a_burst() {
        let mut budget = Budget::new(10);
        budget.pause(3 * SECOND);
        budget.pause(SECOND);
        assert_eq!(budget.take(SECOND, Urgency::Normal), Err(2 * SECOND));
        assert_eq!(budget.paused_for(SECOND), 2 * SECOND);
        assert_eq!(granted(&mut budget, 3 * SECOND, Urgency::Normal), 1);
        assert_eq!(granted(&mut budget, 4 * SECOND, Urgency::Normal), 10);
    }

    proptest! {
        /// For any sequence of requests: no window of any length has more than the rate and one burst, nor confirms
        /// more than a quarter of both.
        #[test]
        fn no_window_exceeds_rate_and_burst(
            rate in 1_u32..50,
            steps in prop::collection::vec((0_u64..400, any::<bool>(), prop::option::weighted(0.02, 0_u64..2000)), 1..300),
        ) {
            let mut budget = Budget::new(rate);
            let (mut all, mut confirms) = (Vec::new(), Vec::new());
            let mut now = Duration::ZERO;
            for (step, is_confirm, pause) in steps {
                now += Duration::from_millis(step / 4);
                if let Some(pause) = pause {
                    budget.pause(now + Duration::from_millis(pause));
                }
                let urgency = if is_confirm { Urgency::Confirm } else { Urgency::Normal };
                let paused = budget.paused_for(now) > Duration::ZERO;
                if budget.take(now, urgency).is_ok() {
                    prop_assert!(!paused);
                    all.push(now);
                    if is_confirm { confirms.push(now) }
                }
            }
            let quarter_burst = (rate / 4).max(1);
            for (grants, rate, burst) in
                [(&all, f64::from(rate), rate), (&confirms, f64::from(rate) / 4.0, quarter_burst)]
            {
                for (first, from) in grants.iter().enumerate() {
                    for (last, to) in grants.iter().enumerate().skip(first) {
                        let window = to.saturating_sub(*from);
                        let most = rate * window.as_secs_f64() + f64::from(burst);
                        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
                        let found = (last - first + 1) as f64;
                        prop_assert!(found <= most + 1e-6, "{found} in {window:?}, at most {most}");
                    }
                }
            }
        }

        /// A wait is exact: the request passes after it, and not a nanosecond before.
        #[test]
        fn after_the_wait_the_request_passes(rate in 1_u32..200, taken in 0_usize..400, is_confirm: bool) {
            let mut budget = Budget::new(rate);
            let urgency = if is_confirm { Urgency::Confirm } else { Urgency::Normal };
            let mut now = Duration::ZERO;
            for _ in 0..taken {
                if let Err(wait) = budget.take(now, urgency) {
                    prop_assert!(budget.take((now + wait).saturating_sub(Duration::from_nanos(1)), urgency).is_err());
                    now += wait;
                    prop_assert!(budget.take(now, urgency).is_ok());
                }
            }
        }
    }
}
