//! What running work waits for. The code that waits registers the reason, and the progress display of a command shows
//! it.
//!
//! Clones share one register. In `serve` nothing reads it. Used by the API client, and by the work of commands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Reason of a wait for Stripe, after it has answered 429.
pub const RATE_LIMIT: &str = "Stripe's rate limit";

/// Reason of a wait for rows that another session has locked.
pub const LOCKED_ROWS: &str = "rows that another session has locked";

/// A register of the waits in progress.
#[derive(Debug, Clone, Default)]
pub struct Waits(Arc<Mutex<Register>>);

#[derive(Debug, Default)]
struct Register {
    next_id: u64,
    waits: BTreeMap<u64, Registered>,
    /// When a wait ended last.
    ended: Option<Instant>,
}

#[derive(Debug)]
struct Registered {
    reason: Cow<'static, str>,
    since: Instant,
    until: Option<Instant>,
}

/// A registered wait. Dropping it ends the wait.
#[must_use = "dropping it ends the wait"]
#[derive(Debug)]
pub struct Waiting {
    waits: Waits,
    id: u64,
}

/// A wait as seen at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What is waited for: completes "waiting for".
    pub reason: Cow<'static, str>,
    /// How long the wait has lasted.
    pub waited: Duration,
    /// Time until its end, if that is known.
    pub left: Option<Duration>,
}

impl Waits {
    /// Registers a wait. `length`: how long it lasts, if that is known.
    pub fn begin(&self, reason: impl Into<Cow<'static, str>>, length: Option<Duration>) -> Waiting {
        let since = Instant::now();
        let until = length.and_then(|length| since.checked_add(length));
        let mut register = self.register();
        let id = register.next_id;
        register.next_id += 1;
        register.waits.insert(id, Registered { reason: reason.into(), since, until });
        Waiting { waits: self.clone(), id }
    }

    /// Sleeps, and registers that as a wait.
    pub async fn sleep(&self, reason: impl Into<Cow<'static, str>>, length: Duration) {
        let _waiting = self.begin(reason, Some(length));
        tokio::time::sleep(length).await;
    }

    /// Does `work`, and registers that as a wait without a known end.
    pub async fn during<T>(&self, reason: impl Into<Cow<'static, str>>, work: impl Future<Output = T>) -> T {
        let _waiting = self.begin(reason, None);
        work.await
    }

    /// The wait to show: the one with the latest known end, because Stripe or a retry policy imposed it; otherwise the
    /// oldest without a known end. A wait whose end has passed is left out.
    pub fn current(&self) -> Option<Wait> {
        let now = Instant::now();
        let register = self.register();
        let known = register.waits.values().filter(|wait| wait.until > Some(now)).max_by_key(|wait| wait.until);
        let wait = known.or_else(|| register.waits.values().find(|wait| wait.until.is_none()))?;
        Some(Wait {
            reason: wait.reason.clone(),
            waited: now.saturating_duration_since(wait.since),
            left: wait.until.map(|until| until.saturating_duration_since(now)),
        })
    }

    /// Time since a wait ended last; `None` if none has.
    pub fn ended_ago(&self) -> Option<Duration> {
        self.register().ended.map(|ended| ended.elapsed())
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut register = self.waits.register();
        register.waits.remove(&self.id);
        register.ended = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(waits: &Waits) -> Option<String> {
        waits.current().map(|wait| wait.reason.into_owned())
    }

    #[test]
    fn the_wait_with_the_latest_known_end_is_shown() {
        let waits = Waits::default();
        assert_eq!((waits.current(), waits.ended_ago()), (None, None));
        let _oldest = waits.begin("an answer", None);
        let _younger = waits.begin("another answer", None);
        assert_eq!(reason(&waits).as_deref(), Some("an answer"));
        let short = waits.begin("a short pause", Some(Duration::from_secs(5)));
        let long = waits.begin("a long pause", Some(Duration::from_mins(5)));
        assert_eq!(reason(&waits).as_deref(), Some("a long pause"));
        assert!(waits.current().unwrap().left.unwrap() > Duration::from_secs(290));
        drop(long);
        assert_eq!(reason(&waits).as_deref(), Some("a short pause"));
        assert!(waits.ended_ago().is_some());
        drop(short);
        let _over = waits.begin("a pause that is over", Some(Duration::ZERO));
        assert_eq!(reason(&waits).as_deref(), Some("an answer"));
    }

    #[tokio::test]
    async fn work_that_is_dropped_waits_no_more() {
        let waits = Waits::default();
        let sleeping = waits.sleep("a pause", Duration::MAX);
        assert!(tokio::time::timeout(Duration::from_millis(1), sleeping).await.is_err());
        assert_eq!(waits.current(), None);
        assert_eq!(waits.during("nothing", async { waits.current().map(|wait| wait.left) }).await, Some(None));
        assert_eq!(waits.current(), None);
    }
}
