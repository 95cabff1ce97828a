//! Decides which request is sent next. Requests wait here for the budget, for a slot, and for earlier requests.
//!
//! Interactive requests pass first, and have two slots to themselves. Reads of normal urgency pass in order of arrival
//! when none of those waits. A confirm passes when neither waits, and holds no slot while it waits. A waiting request
//! holds only guards, and takes from the budget at the very end, so dropping it releases its place. Nothing polls. Called
//! by [`super::http`] and [`super::send_write`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::Urgency;
use super::rate_limit::Budget;

/// The budget, the slots and the queues of one client.
#[derive(Debug)]
pub(super) struct Limiter {
    budget: Mutex<Budget>,
    started: Instant,
    slots: Arc<Semaphore>,
    interactive_slots: Arc<Semaphore>,
    /// Maximum pause that a request waits for.
    max_wait: Duration,
    /// Held by the next request; tokio's mutex is fair.
    interactives: tokio::sync::Mutex<()>,
    normals: tokio::sync::Mutex<()>,
    confirms: tokio::sync::Mutex<()>,
    /// Number of waiting interactive requests.
    interactive_waiting: watch::Sender<usize>,
    /// Number of all waiting requests except confirms.
    waiting: watch::Sender<usize>,
}

/// Slots of interactive requests.
const INTERACTIVE_SLOTS: usize = 2;

/// When the budget allows the next request.
enum Turn {
    Now,
    In(Duration),
    Paused(Duration),
}

impl Limiter {
    /// Allows `rate` requests a second, and `slots` in flight.
    pub(super) fn new(rate: u32, slots: usize, max_wait: Duration) -> Self {
        Self {
            budget: Mutex::new(Budget::new(rate)),
            started: Instant::now(),
            slots: Arc::new(Semaphore::new(slots.clamp(1, Semaphore::MAX_PERMITS))),
            interactive_slots: Arc::new(Semaphore::new(INTERACTIVE_SLOTS)),
            max_wait,
            interactives: tokio::sync::Mutex::default(),
            normals: tokio::sync::Mutex::default(),
            confirms: tokio::sync::Mutex::default(),
            interactive_waiting: watch::Sender::new(0),
            waiting: watch::Sender::new(0),
        }
    }

    /// Waits until one request may be sent; the permit is its slot. `Err`: the remaining time of a pause requested by
    /// Stripe that is longer than the limit.
    pub(super) async fn acquire(&self, urgency: Urgency) -> Result<OwnedSemaphorePermit, Duration> {
        match urgency {
            Urgency::Interactive => self.interactive().await,
            Urgency::Normal => self.normal().await,
            Urgency::Confirm => self.confirm().await,
        }
    }

    /// Stops all requests for this time.
    pub(super) fn pause(&self, pause: Duration) {
        let until = self.started.elapsed() + pause;
        self.budget().pause(until);
    }

    async fn interactive(&self) -> Result<OwnedSemaphorePermit, Duration> {
        let _waiting = (Waiting::of(&self.interactive_waiting), Waiting::of(&self.waiting));
        let _next = self.interactives.lock().await;
        let slot = slot(&self.interactive_slots).await;
        loop {
            match self.turn(Urgency::Interactive, true) {
                Turn::Now => return Ok(slot),
                Turn::In(wait) => tokio::time::sleep(wait).await,
                Turn::Paused(left) => return Err(left),
            }
        }
    }

    async fn normal(&self) -> Result<OwnedSemaphorePermit, Duration> {
        let _waiting = Waiting::of(&self.waiting);
        let _next = self.normals.lock().await;
        let slot = slot(&self.slots).await;
        let mut urgent = self.interactive_waiting.subscribe();
        loop {
            // this cannot fail: the sender is in `self`
            let _ = urgent.wait_for(|waiting| *waiting == 0).await;
            match self.turn(Urgency::Normal, true) {
                Turn::Now => return Ok(slot),
                Turn::In(wait) => tokio::time::sleep(wait).await,
                Turn::Paused(left) => return Err(left),
            }
        }
    }

    async fn confirm(&self) -> Result<OwnedSemaphorePermit, Duration> {
        let _next = self.confirms.lock().await;
        let mut waiting = self.waiting.subscribe();
        loop {
            // this cannot fail: the sender is in `self`
            let _ = waiting.wait_for(|waiting| *waiting == 0).await;
            match self.turn(Urgency::Confirm, false) {
                Turn::Now => {}
                Turn::In(wait) => {
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Turn::Paused(left) => return Err(left),
            }
            let slot = slot(&self.slots).await;
            // while this one waited for the slot, a more urgent request may have arrived or used up the budget
            if *self.waiting.borrow() == 0 && matches!(self.turn(Urgency::Confirm, true), Turn::Now) {
                return Ok(slot);
            }
        }
    }

    /// When the budget allows a request. With `take` and [`Turn::Now`], takes the request from the budget.
    fn turn(&self, urgency: Urgency, take: bool) -> Turn {
        let now = self.started.elapsed();
        let mut budget = self.budget();
        let paused = budget.paused_for(now);
        if paused > self.max_wait {
            return Turn::Paused(paused);
        }
        let wait = if take { budget.take(now, urgency).err().unwrap_or_default() } else { budget.wait(now, urgency) };
        if wait.is_zero() { Turn::Now } else { Turn::In(wait) }
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn slot(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed")
}

/// Counts a waiting request until it is dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn of(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|waiting| *waiting += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// Whether the future is ready at once.
    fn is_ready<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn limiter(rate: u32, slots: usize) -> Limiter {
        Limiter::new(rate, slots, Duration::from_secs(5))
    }

    #[tokio::test]
    async fn a_request_beyond_the_burst_waits_for_the_budget() {
        let limiter = limiter(40, 100);
        let begin = Instant::now();
        for _ in 0..42 {
            drop(limiter.acquire(Urgency::Normal).await.unwrap());
        }
        assert!(begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn slots_limit_the_requests_in_flight() {
        let limiter = limiter(1000, 2);
        let first = limiter.acquire(Urgency::Normal).await.unwrap();
        let _second = limiter.acquire(Urgency::Normal).await.unwrap();
        let mut third = pin!(limiter.acquire(Urgency::Normal));
        assert!(!is_ready(third.as_mut()));
        drop(first);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn an_interactive_request_passes_all_others() {
        let limiter = limiter(1, 1);
        let held = limiter.acquire(Urgency::Normal).await.unwrap();
        // the budget of this second is used up
        let mut interactive = pin!(limiter.acquire(Urgency::Interactive));
        assert!(!is_ready(interactive.as_mut()), "it waits for the budget");
        drop(held);
        let mut normal = pin!(limiter.acquire(Urgency::Normal));
        assert!(!is_ready(normal.as_mut()));
        let first = interactive.await.unwrap();
        assert!(!is_ready(normal.as_mut()), "its budget went to the interactive request");
        drop(first);
        assert!(normal.await.is_ok());
    }

    #[tokio::test]
    async fn an_interactive_request_needs_no_slot_of_others() {
        let limiter = limiter(1000, 1);
        let _held = limiter.acquire(Urgency::Normal).await.unwrap();
        let (_one, _two) = (
            limiter.acquire(Urgency::Interactive).await.unwrap(),
            limiter.acquire(Urgency::Interactive).await.unwrap(),
        );
        assert!(!is_ready(pin!(limiter.acquire(Urgency::Interactive))));
    }

    #[tokio::test]
    async fn a_dropped_waiter_releases_its_place() {
        let limiter = limiter(1000, 1);
        let held = limiter.acquire(Urgency::Normal).await.unwrap();
        {
            let (mut one, mut other) = (pin!(limiter.acquire(Urgency::Normal)), pin!(limiter.acquire(Urgency::Normal)));
            assert!(!is_ready(one.as_mut()) && !is_ready(other.as_mut()));
        }
        drop(held);
        assert_eq!(*limiter.waiting.borrow(), 0);
        assert!(limiter.acquire(Urgency::Confirm).await.is_ok());
    }

    #[tokio::test]
    async fn later_normal_reads_pass_a_waiting_confirm() {
        let limiter = limiter(1000, 1);
        let held = limiter.acquire(Urgency::Normal).await.unwrap();
        let mut confirm = pin!(limiter.acquire(Urgency::Confirm));
        assert!(!is_ready(confirm.as_mut()));
        let mut normal = pin!(limiter.acquire(Urgency::Normal));
        assert!(!is_ready(normal.as_mut()));
        drop(held);
        // the confirm gets the slot first, because it was first in the queue
        assert!(!is_ready(confirm.as_mut()));
        let passed = normal.await.unwrap();
        assert!(!is_ready(confirm.as_mut()));
        drop(passed);
        assert!(confirm.await.is_ok());
    }

    #[tokio::test]
    async fn a_waiting_confirm_holds_no_slot() {
        let limiter = limiter(4, 1);
        drop(limiter.acquire(Urgency::Confirm).await.unwrap());
        let mut confirm = pin!(limiter.acquire(Urgency::Confirm));
        assert!(!is_ready(confirm.as_mut()));
        assert!(is_ready(pin!(limiter.acquire(Urgency::Normal))));
    }

    #[tokio::test]
    async fn a_long_pause_is_returned_to_the_caller() {
        let limiter = limiter(1000, 1);
        limiter.pause(Duration::from_mins(1));
        for urgency in [Urgency::Normal, Urgency::Confirm] {
            let left = limiter.acquire(urgency).await.unwrap_err();
            assert!(left > Duration::from_secs(50) && left <= Duration::from_mins(1), "{left:?}");
        }
    }

    #[tokio::test]
    async fn a_short_pause_is_waited_for() {
        let limiter = limiter(1000, 1);
        let begin = Instant::now();
        limiter.pause(Duration::from_millis(20));
        assert!(limiter.acquire(Urgency::Normal).await.is_ok());
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }
}
