//! Upkeep of the archive: makes the months ahead, and moves rows out of the default partitions when their month is
//! made. The role upkeep of `serve`.

use std::time::Duration;

use sqlx::postgres::types::Oid;
use sqlx::{PgConnection, PgPool};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::partitions::{self, Parent, Pass};
use crate::retry::RetryPolicy;

/// How many months exist ahead of the present one. What comes later goes to the default partitions.
const MONTHS_AHEAD: i32 = 3;

/// A month is missed only if this fails for three months.
const INTERVAL: Duration = Duration::from_hours(6);

/// The pauses after a failure: most often a lock that another session holds.
const RETRY: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, initial: Duration::from_secs(5), max: Duration::from_hours(1) };

/// Pause before what another session held up is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks at a transaction that holds up a finished copy, before the attempt ends as failed.
const MAX_LOOKS: u32 = 60;

/// Why months could not be made this time.
#[derive(Debug, thiserror::Error)]
enum UpkeepError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(
        "billing.{0}_default is copied, and a transaction that began before is still open; \
         see backend_xmin in pg_stat_activity"
    )]
    OldTransaction(&'static str),
}

/// Makes missing months now and then, until `shutdown`.
pub async fn run(pool: PgPool, shutdown: CancellationToken) {
    let mut failures = 0;
    loop {
        let wait = match shutdown.run_until_cancelled(create_partitions(&pool)).await {
            None => return,
            Some(Ok(())) => {
                failures = 0;
                INTERVAL
            }
            Some(Err(error)) => {
                failures += 1;
                let wait = RETRY.endless(failures, 0.0);
                // nothing is lost: the default partitions hold the events meanwhile
                tracing::warn!(%error, retry_seconds = wait.as_secs(), "could not make the monthly partitions");
                wait
            }
        };
        if shutdown.run_until_cancelled(sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// One table after the other, each in transactions of its own: holding a lock of both would invite deadlocks.
async fn create_partitions(pool: &PgPool) -> Result<(), UpkeepError> {
    let mut conn = pool.acquire().await?;
    for parent in Parent::ALL {
        let mut made = partitions::create(&mut conn, parent, MONTHS_AHEAD).await?;
        if let Some(split) = partitions::unfinished_split(&mut conn, parent).await? {
            tracing::info!(table = parent.as_str(), "splitting the default partition by month");
            made += finish(&mut conn, parent, split).await?;
        }
        if made > 0 {
            tracing::info!(table = parent.as_str(), months = made, "made monthly partitions");
        }
    }
    Ok(())
}

/// Copies until nothing is missing in the copy, and puts it in place.
async fn finish(conn: &mut PgConnection, parent: Parent, split: Oid) -> Result<i32, UpkeepError> {
    loop {
        let mut pass = Pass::new(parent, split);
        while pass.step(conn).await? {}
        if pass.skipped == 0 {
            break;
        }
        sleep(PAUSE).await;
    }
    let copied_before = partitions::now_in_transactions(conn).await?;
    for _ in 0..MAX_LOOKS {
        if let Some(made) = partitions::finish_split(conn, parent, split, &copied_before).await? {
            return Ok(made);
        }
        sleep(PAUSE).await;
    }
    Err(UpkeepError::OldTransaction(parent.as_str()))
}
