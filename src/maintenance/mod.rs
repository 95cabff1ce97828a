//! The role `maintenance` of `serve`: what a database needs that runs for years.
//!
//! ```text
//! months       creates the monthly partitions of the archive and the queue in advance
//! retention    removes what is older than BILLING_SYNC_RETENTION
//! redaction    removes personal data (crate::redaction)
//! store        the SQL of the retention
//! ```
//!
//! Each is also right if several processes do it at the same time. `outbox prune` calls the retention by hand.

mod months;
pub mod retention;
mod store;

use std::collections::BTreeSet;
use std::time::Duration;

use time::Date;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::retention::Done;
use crate::base::retry::RetryPolicy;
use crate::config::retention::RetentionConfig;
use crate::database::{Connection, Pool, without_values};
use crate::metrics::retention::RetentionMetrics;
use crate::outbox::size;
use crate::redaction;

/// Interval of the rounds. A month is missed only if they fail for three months.
const INTERVAL: Duration = Duration::from_hours(1);

/// Retry policy after a failure, which is most often a lock that another session holds.
const RETRY: RetryPolicy = RetryPolicy { max_attempts: u32::MAX, initial: Duration::from_secs(5), max: INTERVAL };

/// The maintenance of a process.
pub struct Maintenance {
    /// The database.
    pub pool: Pool,
    /// What is kept, and for how long.
    pub config: RetentionConfig,
    /// The counters of the retention.
    pub metrics: RetentionMetrics,
}

impl Maintenance {
    /// Runs a round now and every hour, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        // a month that is kept is logged when it is found, not every hour
        let mut reported = BTreeSet::new();
        let mut failures = 0;
        loop {
            let wait = match shutdown.run_until_cancelled(self.round(&mut reported)).await {
                None => return,
                Some(true) => {
                    failures = 0;
                    INTERVAL
                }
                Some(false) => {
                    failures += 1;
                    RETRY.unlimited(failures, 0.0)
                }
            };
            if shutdown.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Whether all of a round succeeded. A failure of one part does not stop the others.
    async fn round(&self, reported: &mut BTreeSet<Date>) -> bool {
        let mut conn = match self.pool.acquire().await {
            Ok(conn) => conn,
            Err(error) => {
                tracing::warn!(error = without_values(&error), "maintenance has no connection; retrying");
                return false;
            }
        };
        let months = months::create(&mut conn).await;
        if let Err(error) = &months {
            // nothing is lost: the default partitions hold the events meanwhile
            tracing::warn!(%error, "could not create the monthly partitions; retrying");
        }
        if let Err(error) = size::measure(&mut conn).await {
            let error = without_values(&error);
            tracing::warn!(
                error,
                "could not measure the size of the schema; `status` does not show its growth meanwhile"
            );
        }
        let removed = self.remove(&mut conn, reported).await;
        if let Err(error) = &removed {
            self.metrics.failed();
            let error = without_values(error);
            tracing::warn!(error, "could not remove what is older than BILLING_SYNC_RETENTION; retrying");
        }
        let redacted = self.redact(&mut conn).await;
        if let Err(error) = &redacted {
            self.metrics.failed();
            tracing::warn!(error = without_values(error), "could not remove personal data; retrying");
        }
        months.is_ok() && removed.is_ok() && redacted.is_ok()
    }

    /// Removes personal data from new events of redacted customers, and from all events that are old enough.
    async fn redact(&self, conn: &mut Connection) -> Result<(), sqlx::Error> {
        let later = redaction::later_events(conn).await.map(|rows| self.metrics.redacted(rows));
        let old = match self.config.redact_after {
            Some(age) => redaction::older_than(conn, age).await.map(|rows| self.metrics.redacted(rows)),
            None => Ok(()),
        };
        later.and(old)
    }

    /// A round of the retention.
    async fn remove(&self, conn: &mut Connection, reported: &mut BTreeSet<Date>) -> Result<(), sqlx::Error> {
        let mut left = BTreeSet::new();
        let (mut events, mut rows) = (0, 0);
        let note = |done: Done| match done {
            Done::Dropped(parent, month) => {
                self.metrics.dropped(parent.as_str());
                tracing::info!(table = parent.as_str(), month = retention::name(month), "dropped an expired month");
            }
            Done::Kept(month) => {
                left.insert(month.month);
                if reported.insert(month.month) {
                    tracing::warn!(
                        month = retention::name(month.month),
                        pending = month.has_pending,
                        dead = month.has_dead,
                        "an expired month is kept, because it has pending or dead events"
                    );
                }
            }
            Done::Busy(_, month) => {
                left.insert(month);
            }
            Done::DeletedEvents(count) => {
                events += count;
                self.metrics.deleted("outbox", count);
            }
            Done::DeletedRows(history, count) => {
                rows += count;
                self.metrics.deleted(history.as_str(), count);
            }
        };
        let plan = retention::plan(conn, self.config.retention).await?;
        retention::remove(conn, &plan, note).await?;
        self.metrics.overdue(left.len());
        if events + rows > 0 {
            tracing::info!(events, rows, "deleted expired rows");
        }
        Ok(())
    }
}
