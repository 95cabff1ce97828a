//! Maintenance of the archive: creates monthly partitions in advance, moves rows from the default partitions to new
//! monthly ones, and measures the size of the schema. The role `maintenance` of `serve`.

use std::time::Duration;

use sqlx::postgres::types::Oid;
use sqlx::{PgConnection, PgPool};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::partitions::{self, Parent, Pass};
use super::size;
use crate::base::retry::RetryPolicy;
use crate::database::without_values;

/// Number of months after the current one that have partitions. Later rows are stored in the default partitions.
const MONTHS_AHEAD: i32 = 3;

/// Interval of creation; a month is missed only if this fails for three months.
const INTERVAL: Duration = Duration::from_hours(6);

/// Retry policy after a failure, which is most often a lock that another session holds.
const RETRY: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, initial: Duration::from_secs(5), max: Duration::from_hours(1) };

/// Pause before a step is retried that another session blocked.
const PAUSE: Duration = Duration::from_secs(1);

/// Maximum checks whether an old transaction still blocks a finished copy, before the attempt fails.
const MAX_LOOKS: u32 = 60;

/// Why monthly partitions could not be created.
#[derive(Debug, thiserror::Error)]
enum MaintenanceError {
    #[error("{}", without_values(.0))]
    Database(#[from] sqlx::Error),
    #[error(
        "billing.{0}_default is copied, but a transaction that began before is still open; \
         see backend_xmin in pg_stat_activity"
    )]
    OldTransaction(&'static str),
}

/// Creates missing monthly partitions and measures the size regularly, until `shutdown`.
pub async fn run(pool: PgPool, shutdown: CancellationToken) {
    let mut failures = 0;
    loop {
        let wait = match shutdown.run_until_cancelled(maintain(&pool)).await {
            None => return,
            Some(Ok(())) => {
                failures = 0;
                INTERVAL
            }
            Some(Err(error)) => {
                failures += 1;
                let wait = RETRY.unlimited(failures, 0.0);
                // nothing is lost: the default partitions hold the events meanwhile
                tracing::warn!(%error, retry_seconds = wait.as_secs(), "could not create the monthly partitions");
                wait
            }
        };
        if shutdown.run_until_cancelled(sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Creates partitions of one table after the other, in separate transactions: locking both tables could deadlock. Then
/// measures the size.
async fn maintain(pool: &PgPool) -> Result<(), MaintenanceError> {
    let mut conn = pool.acquire().await?;
    for parent in Parent::ALL {
        let mut made = partitions::create(&mut conn, parent, MONTHS_AHEAD).await?;
        if let Some(split) = partitions::unfinished_split(&mut conn, parent).await? {
            tracing::info!(table = parent.as_str(), "splitting the default partition by month");
            made += finish(&mut conn, parent, split).await?;
        }
        if made > 0 {
            tracing::info!(table = parent.as_str(), months = made, "created monthly partitions");
        }
    }
    if let Err(error) = size::measure(&mut conn).await {
        // the next pass measures again
        tracing::warn!(%error, "could not measure the size of the schema; `status` does not show its growth meanwhile");
    }
    Ok(())
}

/// Copies until the copy is complete, and replaces the default partition by it.
async fn finish(conn: &mut PgConnection, parent: Parent, split: Oid) -> Result<i32, MaintenanceError> {
    loop {
        let mut pass = Pass::new(parent, split);
        while pass.step(conn).await? {}
        if pass.skipped == 0 {
            break;
        }
        sleep(PAUSE).await;
    }
    let copied_before = partitions::next_transaction_id(conn).await?;
    for _ in 0..MAX_LOOKS {
        if let Some(made) = partitions::finish_split(conn, parent, split, &copied_before).await? {
            return Ok(made);
        }
        sleep(PAUSE).await;
    }
    Err(MaintenanceError::OldTransaction(parent.as_str()))
}
