//! Removes what is older than `BILLING_SYNC_RETENTION`: whole months of the archive and the queue, then old rows of the
//! histories, some thousand at a time.
//!
//! A month with a pending or dead event stays. The rows that products read are derived from the mirror and the facts, which
//! stay, so a rebuild gives the same rows as before. `docs/operations.md` says what is no longer possible without what
//! was removed.

use std::time::Duration;

use sqlx::error::DatabaseError;
use time::macros::format_description;
use time::{Date, OffsetDateTime};
use tokio::time::sleep;

pub use super::store::{History, Month};

use super::store;
use crate::database::Connection;
use crate::outbox::partitions::Parent;

/// Pause between two deletions, so that the disk also serves others.
const PAUSE: Duration = Duration::from_millis(50);

/// A step of the retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Dropped a month of a table.
    Dropped(Parent, Date),
    /// Left a month, because it has pending or dead events.
    Kept(Month),
    /// Left a month, because other sessions used the table. The next round tries again.
    Busy(Parent, Date),
    /// Deleted events whose months have no partition of their own.
    DeletedEvents(u64),
    /// Deleted rows of a history.
    DeletedRows(History, u64),
}

/// What the retention removes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is older is removed; `None` if nothing is.
    pub cutoff: Option<OffsetDateTime>,
    /// The months before it.
    pub months: Vec<Month>,
}

/// A month as `2026-11`.
pub fn name(month: Date) -> String {
    month.format(format_description!("[year]-[month]")).unwrap_or_default()
}

/// What a retention of this duration removes now.
///
/// # Errors
/// Database errors.
pub async fn plan(conn: &mut Connection, retention: Duration) -> Result<Plan, sqlx::Error> {
    let cutoff = store::cutoff(conn, retention).await?;
    let months = match cutoff {
        Some(cutoff) => store::months(conn, cutoff).await?,
        None => Vec::new(),
    };
    Ok(Plan { cutoff, months })
}

/// Drops the months of a plan, deletes old rows, and reports each step.
///
/// # Errors
/// Database errors; what was removed until then stays removed.
pub async fn remove(conn: &mut Connection, plan: &Plan, mut report: impl FnMut(Done)) -> Result<(), sqlx::Error> {
    let Some(cutoff) = plan.cutoff else { return Ok(()) };
    for month in &plan.months {
        drop_month(conn, month, &mut report).await?;
    }
    delete(conn, cutoff, &mut report).await
}

/// Drops a month of the queue first: without its row there, an event is not read, and a repeated delivery of it is still
/// found in the archive.
async fn drop_month(conn: &mut Connection, month: &Month, report: &mut impl FnMut(Done)) -> Result<(), sqlx::Error> {
    if month.is_kept() {
        report(Done::Kept(month.clone()));
        return Ok(());
    }
    for parent in [Parent::Outbox, Parent::Events] {
        match store::drop_month(conn, parent, month.month).await {
            Ok(true) => report(Done::Dropped(parent, month.month)),
            Ok(false) => {}
            Err(error) if is_busy(&error) => {
                report(Done::Busy(parent, month.month));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether another session held the lock.
fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).as_deref() == Some("55P03")
}

async fn delete(
    conn: &mut Connection,
    cutoff: OffsetDateTime,
    report: &mut impl FnMut(Done),
) -> Result<(), sqlx::Error> {
    loop {
        let deleted = store::delete_events(conn, cutoff).await?;
        if deleted == 0 {
            break;
        }
        report(Done::DeletedEvents(deleted));
        sleep(PAUSE).await;
    }
    for history in History::ALL {
        loop {
            let deleted = store::delete_history(conn, history, cutoff).await?;
            if deleted == 0 {
                break;
            }
            report(Done::DeletedRows(history, deleted));
            sleep(PAUSE).await;
        }
    }
    Ok(())
}
