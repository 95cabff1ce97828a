//! One batch of renewals in one transaction. Called by the scheduler and by the command `renew`.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::ledger;
use super::pace::Pace;
use super::set_aside;
use crate::domain::renewal::Renewed;

/// READ COMMITTED, because what decides is read after the locks. A batch is sized to take a fraction of a second.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// The same for one subscription of a batch that took too long. It takes milliseconds, or is set aside, where it gets more
/// time without anything waiting for it.
const BEGIN_ONE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '2s';
    SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// For so long subscriptions are renewed one by one; the others are in the next batch. Short enough for a shutdown to wait.
const ONE_BY_ONE: Duration = Duration::from_secs(10);

/// What one batch did.
#[derive(Debug)]
pub struct Batch {
    /// Subscriptions that it claimed.
    pub subscriptions: usize,
    /// It took longer than a transaction may, so they were renewed one by one.
    pub timed_out: bool,
    /// Empty where it only looked at what had changed: should such a one leave anything due, it is not tried again at once.
    pub done: Vec<Renewed>,
    took: Duration,
}

impl Batch {
    /// Says by this batch how large the next one is.
    pub fn set(&self, pace: &mut Pace) {
        if self.timed_out {
            pace.timed_out(self.subscriptions);
        } else {
            pace.took(self.subscriptions, self.took);
        }
    }
}

/// Renews what is due until that time (now, where there is none), at most as many as `pace` says. Where that takes too long
/// they are renewed one by one, and each that takes too long by itself is set aside.
///
/// # Errors
/// Those of the database that are no fault of a subscription.
pub async fn renew(conn: &mut PgConnection, until: Option<OffsetDateTime>, pace: Pace) -> Result<Batch, sqlx::Error> {
    let began = Instant::now();
    let mut tx = conn.begin_with(BEGIN).await?;
    let ids = ledger::claim(&mut tx, until, pace.size()).await?;
    let brought_up = if ids.is_empty() { Ok(Vec::new()) } else { ledger::bring_up(&mut tx, &ids, until).await };
    let (subscriptions, took) = (ids.len(), began.elapsed());
    match brought_up {
        Ok(done) => {
            tx.commit().await?;
            Ok(Batch { subscriptions, timed_out: false, done, took })
        }
        Err(error) if set_aside::is_timeout(&error) => {
            tx.rollback().await?;
            tracing::warn!(subscriptions, "renewals took longer than a transaction may: they are tried one by one");
            let done = one_by_one(conn, &ids, until).await?;
            Ok(Batch { subscriptions, timed_out: true, done, took })
        }
        Err(error) => Err(error),
    }
}

async fn one_by_one(
    conn: &mut PgConnection,
    ids: &[Uuid],
    until: Option<OffsetDateTime>,
) -> Result<Vec<Renewed>, sqlx::Error> {
    let (began, mut done) = (Instant::now(), Vec::new());
    for id in ids {
        if began.elapsed() > ONE_BY_ONE {
            break;
        }
        let mut tx = conn.begin_with(BEGIN_ONE).await?;
        if !ledger::claim_one(&mut tx, *id).await? {
            continue;
        }
        match ledger::bring_up(&mut tx, &[*id], until).await {
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
