//! One batch of renewals in one transaction. Called by the scheduler and by the command `renew`.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

use super::batch_size::AdaptiveBatchSize;
use super::set_aside;
use super::store;
use crate::database::Connection;
use crate::domain::renewal::Renewed;

/// READ COMMITTED, because the deciding data is read after the locks. A batch is sized to take a fraction of a second.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// The same for one subscription of a batch that timed out. It takes milliseconds, or is set aside; its retries get
/// more time and delay nothing else.
const BEGIN_ONE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '2s';
    SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// Maximum time for renewing subscriptions individually; the rest is in the next batch. Short enough for a shutdown to
/// wait.
const INDIVIDUAL_TIME: Duration = Duration::from_secs(10);

/// Result of one batch.
#[derive(Debug)]
pub struct Batch {
    /// Number of subscriptions claimed.
    pub subscriptions: usize,
    /// Whether the batch timed out, so that its subscriptions were renewed individually.
    pub timed_out: bool,
    /// The renewals. Empty if only marks were processed; should such a batch leave something due, it is not repeated at
    /// once.
    pub done: Vec<Renewed>,
    took: Duration,
}

impl Batch {
    /// Adjusts the size of the next batch.
    pub fn set(&self, batch_size: &mut AdaptiveBatchSize) {
        if self.timed_out {
            batch_size.timed_out(self.subscriptions);
        } else {
            batch_size.took(self.subscriptions, self.took);
        }
    }
}

/// Renews what is due until `until` (now if `None`), at most as many subscriptions as `batch_size` allows. If that
/// times out, they are renewed individually, and each that times out by itself is set aside.
///
/// # Errors
/// Errors of the database that no subscription caused.
pub async fn renew(
    conn: &mut Connection,
    until: Option<OffsetDateTime>,
    batch_size: AdaptiveBatchSize,
) -> Result<Batch, sqlx::Error> {
    let began = Instant::now();
    let mut tx = conn.begin_with(BEGIN).await?;
    let ids = store::claim(&mut tx, until, batch_size.size()).await?;
    let renewed = if ids.is_empty() { Ok(Vec::new()) } else { store::renew_limits(&mut tx, &ids, until).await };
    let (subscriptions, took) = (ids.len(), began.elapsed());
    match renewed {
        Ok(done) => {
            tx.commit().await?;
            Ok(Batch { subscriptions, timed_out: false, done, took })
        }
        Err(error) if set_aside::is_timeout(&error) => {
            tx.rollback().await?;
            tracing::warn!(subscriptions, "a batch of renewals timed out; its subscriptions are renewed individually");
            let done = renew_individually(conn, &ids, until).await?;
            Ok(Batch { subscriptions, timed_out: true, done, took })
        }
        Err(error) => Err(error),
    }
}

async fn renew_individually(
    conn: &mut Connection,
    ids: &[Uuid],
    until: Option<OffsetDateTime>,
) -> Result<Vec<Renewed>, sqlx::Error> {
    let (began, mut done) = (Instant::now(), Vec::new());
    for id in ids {
        if began.elapsed() > INDIVIDUAL_TIME {
            break;
        }
        let mut tx = conn.begin_with(BEGIN_ONE).await?;
        if !store::claim_one(&mut tx, *id).await? {
            continue;
        }
        match store::renew_limits(&mut tx, &[*id], until).await {
            Ok(renewed) => {
                tx.commit().await?;
                done.extend(renewed);
            }
            Err(error) if set_aside::is_timeout(&error) => {
                tx.rollback().await?;
                set_aside::put(conn, *id, error).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
