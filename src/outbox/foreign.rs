//! Events that were ignored because of a setting: once the setting changes, they are processed.
//!
//! The settings are `BILLING_SYNC_LIVEMODE` and `BILLING_SYNC_ACCOUNTS`; [`super::own`] handles the id of the own
//! account, and [`super::processes`] finds processes that run with different ones.

use std::collections::BTreeSet;

use crate::database::Connection;

/// Maximum number of events that one statement puts back.
const AT_ONCE: i64 = 2000;

/// Queues events again that were ignored because of their mode or account and match these settings now, unless they were
/// redacted. At most some thousand; returns the number.
///
/// # Errors
/// Database errors.
pub async fn put_back(conn: &mut Connection, livemode: bool, accounts: &BTreeSet<String>) -> Result<u64, sqlx::Error> {
    let of_mode = sqlx::query(
        "-- outbox.put_back_mode
        UPDATE billing.outbox AS o SET state = 'pending', outcome = NULL, reason = NULL, finished_at = NULL, attempts = 0,
            run_at = clock_timestamp()
        FROM (
            SELECT event_id, created FROM billing.outbox
            WHERE reason = 'livemode_mismatch' AND livemode = $1
                AND EXISTS (SELECT FROM billing.events AS e
                    WHERE e.event_id = outbox.event_id AND e.created = outbox.created AND e.payload IS NOT NULL)
            LIMIT $2 FOR UPDATE SKIP LOCKED
        ) AS ours
        WHERE o.event_id = ours.event_id AND o.created = ours.created",
    );
    let of_mode = of_mode.bind(livemode).bind(AT_ONCE).execute(&mut *conn).await?.rows_affected();
    if accounts.is_empty() {
        return Ok(of_mode);
    }
    let of_accounts = sqlx::query(
        "-- outbox.put_back_accounts
        UPDATE billing.outbox AS o SET state = 'pending', outcome = NULL, reason = NULL, finished_at = NULL, attempts = 0,
            run_at = clock_timestamp()
        FROM (
            SELECT event_id, created FROM billing.outbox
            WHERE reason = 'account_not_synced' AND account = ANY($1)
                AND EXISTS (SELECT FROM billing.events AS e
                    WHERE e.event_id = outbox.event_id AND e.created = outbox.created AND e.payload IS NOT NULL)
            LIMIT $2 FOR UPDATE SKIP LOCKED
        ) AS ours
        WHERE o.event_id = ours.event_id AND o.created = ours.created",
    );
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let of_accounts = of_accounts.bind(accounts).bind(AT_ONCE).execute(conn).await?.rows_affected();
    Ok(of_mode + of_accounts)
}
