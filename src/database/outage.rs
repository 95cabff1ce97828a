//! Logs when the database cannot be used, and when it can be used again.
//!
//! Each part of a process logs its own failures and retries. An operator also wants to know when an outage is over, in
//! one line for the process. Run by [`crate::service`].

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::pool::Pool;
use super::reason::unreachable_reason;

/// Interval of the check.
const INTERVAL: Duration = Duration::from_secs(1);

/// Failed checks in a row after which an outage is logged. One may fail because the pool is busy.
const FAILURES: u32 = 2;

/// Checks the connection until `shutdown`, and logs the beginning and the end of each outage.
pub async fn watch(pool: Pool, shutdown: CancellationToken) {
    shutdown.run_until_cancelled(keep_watching(&pool)).await;
}

async fn keep_watching(pool: &Pool) {
    let mut outage = Outage { answered_at: Instant::now(), failures: 0 };
    loop {
        // without a timeout of its own: a cancelled check would keep the connection until the server answers
        match pool.acquire().await {
            Ok(_) => {
                if let Some(lasted) = outage.answered(Instant::now()) {
                    tracing::info!(
                        outage_seconds = lasted.as_secs(),
                        "the database answers again after {} s",
                        lasted.as_secs()
                    );
                }
            }
            Err(error) => {
                if outage.failed() {
                    let error = unreachable_reason(pool, &error).await;
                    tracing::error!(error, "the database cannot be used; all parts retry until it answers");
                }
            }
        }
        sleep(INTERVAL).await;
    }
}

/// The failed checks since the last successful one.
#[derive(Debug)]
struct Outage {
    /// The last successful check.
    answered_at: Instant,
    failures: u32,
}

impl Outage {
    /// Notes a successful check. Returns the duration of the outage that it ends.
    fn answered(&mut self, now: Instant) -> Option<Duration> {
        let lasted = (self.failures >= FAILURES).then(|| now.duration_since(self.answered_at));
        self.failures = 0;
        self.answered_at = now;
        lasted
    }

    /// Notes a failed check. Returns whether an outage begins.
    fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures == FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_one_beginning_and_one_end() {
        let start = Instant::now();
        let mut outage = Outage { answered_at: start, failures: 0 };
        assert_eq!(outage.answered(start), None);
        assert_eq!([outage.failed(), outage.failed(), outage.failed()], [false, true, false]);
        assert_eq!(outage.answered(start + Duration::from_secs(42)), Some(Duration::from_secs(42)));
        assert_eq!(outage.answered(start + Duration::from_secs(43)), None);
        assert_eq!([outage.failed(), outage.failed()], [false, true]);
        assert_eq!(outage.answered(start + Duration::from_secs(50)), Some(Duration::from_secs(7)));
        assert!(!outage.failed());
        assert_eq!(outage.answered(start + Duration::from_secs(52)), None, "one failed check is no outage");
    }
}
