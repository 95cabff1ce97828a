//! Creates the monthly partitions of the archive and the queue in advance, and moves rows from the default partitions to
//! new monthly ones.

use std::time::Duration;

use sqlx::postgres::types::Oid;
use tokio::time::sleep;

use crate::database::{Connection, without_values};
use crate::outbox::partitions::{self, Parent, Pass};

/// Number of months after the current one that have partitions. Later rows are stored in the default partitions.
const MONTHS_AHEAD: i32 = 3;

/// Pause before a step is retried that another session blocked.
const PAUSE: Duration = Duration::from_secs(1);

/// Maximum checks whether an old transaction still blocks a finished copy, before the attempt fails.
const MAX_LOOKS: u32 = 60;

/// Why monthly partitions could not be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum MonthsError {
    #[error("{}", without_values(.0))]
    Database(#[from] sqlx::Error),
    #[error(
        "billing.{0}_default is copied, but a transaction that began before is still open; \
         see backend_xmin in pg_stat_activity"
    )]
    OldTransaction(&'static str),
}

/// Creates partitions of one table after the other, in separate transactions: locking both tables could deadlock.
pub(super) async fn create(conn: &mut Connection) -> Result<(), MonthsError> {
    for parent in Parent::ALL {
        let mut made = partitions::create(conn, parent, MONTHS_AHEAD).await?;
        if let Some(split) = partitions::unfinished_split(conn, parent).await? {
            tracing::info!(table = parent.as_str(), "splitting the default partition by month");
            made += finish(conn, parent, split).await?;
        }
        if made > 0 {
            tracing::info!(table = parent.as_str(), months = made, "created monthly partitions");
        }
    }
    Ok(())
}

/// Copies until the copy is complete, and replaces the default partition by it.
async fn finish(conn: &mut Connection, parent: Parent, split: Oid) -> Result<i32, MonthsError> {
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
    Err(MonthsError::OldTransaction(parent.as_str()))
}
