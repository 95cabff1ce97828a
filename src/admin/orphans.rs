//! Pages of orphans for `doctor --orphans`. Reads only; the view `billing.orphans` defines what an orphan is.
//!
//! There may be as many as customers, so a cursor returns them: a list of one snapshot, with one page in memory at a
//! time.

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::database::Connection;

/// A row of `billing.orphans`: only ids, no personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Which kind of row misses what: a word of [`crate::domain::orphan::Kind`].
    pub kind: String,
    /// Connected account; empty for the key's own account.
    pub account: String,
    /// The customer.
    pub stripe_customer_id: String,
    /// The subscription; `None` for a contact.
    pub stripe_subscription_id: Option<String>,
    /// workspace, price or customer.
    pub missing_type: String,
    /// The Stripe id of the missing object, if known.
    pub missing_id: Option<String>,
    /// Whether a fetch of the missing object is queued: queued, `not_found` or `not_queued`; `None` without an id.
    pub read_state: Option<String>,
}

/// Opens the cursor, which lasts until the caller's transaction ends.
///
/// # Errors
/// Database errors.
pub async fn open(conn: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- admin.open_orphans
        DECLARE orphans NO SCROLL CURSOR FOR
        SELECT kind, account, stripe_customer_id, stripe_subscription_id, missing_type, missing_id, read_state
        FROM billing.orphans
        ORDER BY kind, account, stripe_customer_id, stripe_subscription_id",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The next page; it is empty at the end.
///
/// # Errors
/// Database errors.
pub async fn next(conn: &mut Connection) -> Result<Vec<Orphan>, sqlx::Error> {
    sqlx::query("-- admin.next_orphans\nFETCH 500 FROM orphans")
        .try_map(|row: PgRow| {
            Ok(Orphan {
                kind: row.try_get("kind")?,
                account: row.try_get("account")?,
                stripe_customer_id: row.try_get("stripe_customer_id")?,
                stripe_subscription_id: row.try_get("stripe_subscription_id")?,
                missing_type: row.try_get("missing_type")?,
                missing_id: row.try_get("missing_id")?,
                read_state: row.try_get("read_state")?,
            })
        })
        .fetch_all(conn)
        .await
}
