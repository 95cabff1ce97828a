//! Redaction: removes personal data before the retention does. For one customer by `billing-sync redact`; for all by age,
//! if `BILLING_SYNC_REDACT_AFTER` is set.
//!
//! The payloads of events become null, and the values of personal columns in `row_changes` are replaced. The rows in the
//! outbox stay, so a repeated delivery is still recognised. The objects of a customer are rewritten by
//! [`crate::mirror::redacted`], and the rows are computed again from them. `store` has the SQL.

mod store;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;

pub use self::store::{Archive, Customer};

use self::store::Step;
use crate::database::Connection;
use crate::domain::object::{ObjectKey, row_id};
use crate::mirror::redacted;
use crate::outbox::admin::{self, Discard};

/// Pause between two steps, so that the disk also serves others.
const PAUSE: Duration = Duration::from_millis(50);

/// The record of a discard by a redaction.
const DISCARD: Discard<'_> = Discard { by: "billing-sync redact", reason: "personal data was removed" };

/// A customer is marked as redacted: whatever is stored of it from now on contains no personal data. Returns whether
/// anything of it is stored.
///
/// # Errors
/// Database errors.
pub async fn mark(conn: &mut Connection, customer: &ObjectKey) -> Result<Option<Customer>, sqlx::Error> {
    let Some(found) = store::find(conn, customer).await? else { return Ok(None) };
    store::mark(conn, customer).await?;
    Ok(Some(found))
}

/// Number of pending events of a customer and of its changes at Stripe in progress. While there are any, the order of
/// pending events may depend on the content of others, so nothing should be redacted.
///
/// # Errors
/// Database errors.
pub async fn in_progress(conn: &mut Connection, customer: &ObjectKey) -> Result<i64, sqlx::Error> {
    store::left(conn, customer, &[]).await
}

/// Removes personal data from the stored objects of a marked customer. Returns the objects; their rows must be computed
/// again.
///
/// # Errors
/// Database errors.
pub async fn objects(conn: &mut Connection, customer: &ObjectKey) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    redacted::rewrite(conn, customer).await
}

/// Removes personal data from the archive, the history of the rows, and the ledger of changes at Stripe.
///
/// # Errors
/// Database errors.
pub async fn archive(
    conn: &mut Connection,
    customer: &ObjectKey,
    objects: &BTreeSet<ObjectKey>,
) -> Result<Archive, sqlx::Error> {
    let ids: Vec<String> = objects.iter().map(|key| key.object_id.clone()).collect();
    let rows: Vec<_> = objects.iter().map(|key| row_id(&key.account, &key.object_id)).collect();
    let dead = store::dead(conn, customer, &ids).await?;
    let discarded = admin::discard(conn, &dead, DISCARD).await?;
    let events = store::events(conn, customer, &ids).await?;
    let changes = store::changes(conn, &rows).await?;
    store::ledger(conn, customer, &ids).await?;
    let left = store::left(conn, customer, &ids).await?;
    Ok(Archive { discarded, events, changes, left })
}

/// Redacts events of marked customers that were processed since the last call. Returns their number.
///
/// # Errors
/// Database errors; what was done until then stays done.
pub async fn later_events(conn: &mut Connection) -> Result<u64, sqlx::Error> {
    to_the_end(conn, Part::LaterEvents).await
}

/// Redacts events, and changes of rows, that were processed this long ago. Returns their number.
///
/// # Errors
/// Database errors; what was done until then stays done.
pub async fn older_than(conn: &mut Connection, age: Duration) -> Result<u64, sqlx::Error> {
    Ok(to_the_end(conn, Part::OldEvents(age)).await? + to_the_end(conn, Part::OldChanges(age)).await?)
}

/// What is redacted step by step.
#[derive(Clone, Copy)]
enum Part {
    LaterEvents,
    OldEvents(Duration),
    OldChanges(Duration),
}

/// Repeats the step of a part until it finds nothing. Returns the number of redacted rows.
async fn to_the_end(conn: &mut Connection, part: Part) -> Result<u64, sqlx::Error> {
    let mut redacted = 0;
    loop {
        let Step { seen, redacted: rows } = match part {
            Part::LaterEvents => store::later_events(conn).await?,
            Part::OldEvents(age) => store::old_events(conn, age).await?,
            Part::OldChanges(age) => store::old_changes(conn, age).await?,
        };
        redacted += rows.unsigned_abs();
        if seen == 0 {
            return Ok(redacted);
        }
        sleep(PAUSE).await;
    }
}
