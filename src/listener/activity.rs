//! The requests that one connection has in flight, and whether one of them is authenticated.
//!
//! The connection's slot is kept only while an authenticated request is in flight. After any other answer the
//! connection closes. hyper closes an idle HTTP/1.1 connection itself. It has no such limit for HTTP/2, so this module
//! measures idle time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::capacity::Share;

/// State of one connection's requests.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    in_flight: watch::Sender<usize>,
    /// Cancelled by the first answer to a request that was not authenticated.
    close: CancellationToken,
    standing: Mutex<Standing>,
}

/// Decides whether the connection may keep its slot.
#[derive(Debug)]
struct Standing {
    slot: Share,
    /// Authenticated requests in flight.
    authenticated: usize,
    /// Whether the last answer was to an authenticated request, and no request has arrived since.
    is_trusted: bool,
}

/// One request in flight. It ends when this value is dropped.
#[derive(Debug)]
pub struct InFlight {
    activity: Activity,
    is_further: bool,
    /// Cancelled when another connection takes this connection's slot.
    end: CancellationToken,
    is_authenticated: AtomicBool,
    /// Slot of a request beyond the connection's first.
    slot: Mutex<Option<Share>>,
}

impl InFlight {
    /// Marks the request as authenticated: from now on no other request can take its slots.
    pub fn authenticated(&self) {
        if self.is_authenticated.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(slot) = lock(&self.slot).as_ref() {
            slot.keep();
        }
        let mut standing = self.activity.standing();
        standing.authenticated += 1;
        standing.slot.keep();
    }

    /// Whether another request was in flight when this one arrived. A method, so that the calling task owns the whole
    /// value until the task ends.
    pub(super) fn is_further(&self) -> bool {
        self.is_further
    }

    /// Cancelled when another connection takes this connection's slot.
    pub(super) fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// The number of the connection's slot.
    pub(super) fn number(&self) -> u64 {
        self.activity.standing().slot.number()
    }

    /// Stores the slot of a request beyond the connection's first.
    pub(super) fn set_slot(&self, slot: Share) {
        *lock(&self.slot) = Some(slot);
    }

    /// Records the answer. Returns whether the connection closes after it.
    pub(super) fn answered(&self) -> bool {
        let closes = !self.is_authenticated.load(Ordering::Relaxed);
        if closes {
            self.activity.0.close.cancel();
        }
        closes
    }
}

impl Activity {
    /// Activity of a new connection with this slot.
    pub(super) fn new(slot: Share) -> Self {
        let standing = Mutex::new(Standing { slot, authenticated: 0, is_trusted: false });
        Self(Arc::new(Inner { in_flight: watch::Sender::new(0), close: CancellationToken::new(), standing }))
    }

    /// Records the start of a request.
    pub(super) fn begin(&self) -> InFlight {
        let mut before = 0;
        self.0.in_flight.send_modify(|count| {
            before = *count;
            *count += 1;
        });
        let mut standing = self.standing();
        if std::mem::take(&mut standing.is_trusted) {
            standing.slot.renew();
        }
        let end = standing.slot.end().clone();
        drop(standing);
        let is_authenticated = AtomicBool::new(false);
        InFlight { activity: self.clone(), is_further: before > 0, end, is_authenticated, slot: Mutex::new(None) }
    }

    /// Returns once no request has been in flight for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        let mut count = self.0.in_flight.subscribe();
        loop {
            let waited = count.wait_for(|count| *count == 0).await.is_ok();
            if !waited || timeout(limit, count.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Returns when the connection must close.
    pub(super) async fn closes(&self) {
        self.0.close.cancelled().await;
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        lock(&self.0.standing)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if *self.is_authenticated.get_mut() {
            let mut standing = self.activity.standing();
            standing.authenticated -= 1;
            if standing.authenticated == 0 {
                standing.is_trusted = true;
                standing.slot.renew();
            }
        }
        self.activity.0.in_flight.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::listener::capacity::Capacity;

    async fn activity(slots: &Capacity) -> (Activity, CancellationToken) {
        let slot = slots.take(1, None).await;
        let end = slot.end().clone();
        (Activity::new(slot), end)
    }

    #[tokio::test]
    async fn a_connection_is_idle_only_after_its_last_request_has_ended() {
        let limit = Duration::from_millis(60);
        let (activity, _) = activity(&Capacity::new(1, Duration::ZERO)).await;
        let begin = Instant::now();
        let first = activity.begin();
        let second = activity.begin();
        assert_eq!((first.is_further(), second.is_further()), (false, true));
        let ends = async {
            sleep(Duration::from_millis(100)).await;
            drop((first, second));
            sleep(Duration::from_millis(30)).await;
            drop(activity.begin());
        };
        tokio::join!(activity.idle(limit), ends);
        assert!(begin.elapsed() >= Duration::from_millis(190), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn a_slot_is_kept_exactly_while_an_authenticated_request_is_in_flight() {
        let slots = Capacity::new(2, Duration::ZERO);
        let (first, first_ends) = activity(&slots).await;
        let (_second, second_ends) = activity(&slots).await;
        let (one, other) = (first.begin(), first.begin());
        one.authenticated();
        one.authenticated();
        other.authenticated();
        drop(one);
        let third = slots.take(1, None).await;
        assert_eq!((first_ends.is_cancelled(), second_ends.is_cancelled()), (false, true));
        assert!(!other.answered());
        drop(other);
        let _fourth = slots.take(1, None).await;
        assert_eq!((first_ends.is_cancelled(), third.end().is_cancelled()), (false, true), "it is the youngest");
        let _fifth = slots.take(1, None).await;
        assert!(first_ends.is_cancelled());
    }

    #[tokio::test]
    async fn each_authenticated_request_keeps_its_slot() {
        let slots = Capacity::new(2, Duration::ZERO);
        let (activity, _) = activity(&slots).await;
        let (_first, further) = (activity.begin(), activity.begin());
        let slot = slots.take(1, Some(further.number())).await;
        let ends = slot.end().clone();
        further.set_slot(slot);
        further.authenticated();
        assert!(timeout(Duration::from_millis(50), slots.take(1, None)).await.is_err());
        assert!(!ends.is_cancelled());
    }

    #[tokio::test]
    async fn the_next_request_after_authentication_renews_the_slot_once() {
        let slots = Capacity::new(2, Duration::ZERO);
        let (first, first_ends) = activity(&slots).await;
        first.begin().authenticated();
        let (_second, second_ends) = activity(&slots).await;
        let _request = first.begin();
        let third = slots.take(1, None).await;
        assert_eq!((first_ends.is_cancelled(), second_ends.is_cancelled()), (false, true));
        let request = first.begin();
        let _fourth = slots.take(1, None).await;
        assert_eq!((first_ends.is_cancelled(), third.end().is_cancelled()), (true, false));
        assert!(request.answered());
        first.closes().await;
    }
}
