//! How many requests an HTTP/2 connection has in flight, and whether it has been idle for too long. hyper closes an idle
//! HTTP/1.1 connection by itself; for HTTP/2 it has no such limit.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// The number of requests in flight on one connection.
#[derive(Debug, Clone)]
pub(super) struct Activity(watch::Sender<usize>);

/// One request in flight; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Activity,
    is_further: bool,
}

impl InFlight {
    /// Whether another request was in flight when this one came. A method, so that a task that asks owns the whole value
    /// until its end.
    pub(super) fn is_further(&self) -> bool {
        self.is_further
    }
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Notes that a request has begun.
    pub(super) fn begin(&self) -> InFlight {
        let mut before = 0;
        self.0.send_modify(|count| {
            before = *count;
            *count += 1;
        });
        InFlight { activity: self.clone(), is_further: before > 0 }
    }

    /// Returns once no request has been in flight for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        let mut count = self.0.subscribe();
        loop {
            let waited = count.wait_for(|count| *count == 0).await.is_ok();
            if !waited || timeout(limit, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_only_after_its_last_request_has_ended() {
        let (limit, activity) = (Duration::from_millis(60), Activity::new());
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
}
