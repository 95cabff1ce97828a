//! Events that were ignored because of a setting: once the setting changes, they are processed.
//!
//! The settings are `BILLING_SYNC_LIVEMODE` and `BILLING_SYNC_ACCOUNTS`; [`super::own`] handles the id of the own
//! account. Also finds running processes with different settings, because each ignores events that the other one
//! processes.

use std::collections::BTreeSet;

use uuid::Uuid;

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

/// A process with the role worker, and its settings.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Process {
    /// Process id and address.
    pub name: String,
    /// `BILLING_SYNC_LIVEMODE`.
    pub livemode: bool,
    /// `BILLING_SYNC_ACCOUNTS`.
    pub accounts: Vec<String>,
}

/// Writes a heartbeat of the process `id`, and returns the other running processes with different settings. A process
/// without a heartbeat since the first one of `id` is excluded: it may have ended before, in a restart with new
/// settings.
///
/// # Errors
/// Database errors.
pub async fn heartbeat(
    conn: &mut Connection,
    id: Uuid,
    livemode: bool,
    accounts: &BTreeSet<String>,
) -> Result<Vec<Process>, sqlx::Error> {
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    sqlx::query(
        "-- outbox.heartbeat
        INSERT INTO billing.worker_processes AS p (process_id, name, livemode, accounts)
        VALUES ($1, concat('process ', $2, ' at ', coalesce(host(inet_client_addr()), 'the machine of the database')), $3, $4)
        ON CONFLICT (process_id) DO UPDATE SET heartbeat_at = clock_timestamp()",
    )
    .bind(id)
    .bind(std::process::id().to_string())
    .bind(livemode)
    .bind(accounts)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- outbox.forget_processes
        DELETE FROM billing.worker_processes WHERE heartbeat_at < clock_timestamp() - interval '1 day'",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_as(
        "-- outbox.contradicting
        SELECT other.name, other.livemode, other.accounts
        FROM billing.worker_processes AS mine
        JOIN billing.worker_processes AS other
            ON (other.livemode, other.accounts) IS DISTINCT FROM (mine.livemode, mine.accounts)
        WHERE mine.process_id = $1 AND other.heartbeat_at > mine.started_at
            AND other.heartbeat_at > clock_timestamp() - interval '30 s'
        ORDER BY other.name",
    )
    .bind(id)
    .fetch_all(conn)
    .await
}

/// Returns the processes with a heartbeat in the last half minute if their settings differ, otherwise none.
///
/// # Errors
/// Database errors.
pub async fn contradicting(conn: &mut Connection) -> Result<Vec<Process>, sqlx::Error> {
    let active: Vec<Process> = sqlx::query_as(
        "-- outbox.active_processes
        SELECT name, livemode, accounts FROM billing.worker_processes
        WHERE heartbeat_at > clock_timestamp() - interval '30 s' ORDER BY name",
    )
    .fetch_all(conn)
    .await?;
    let settings: BTreeSet<_> = active.iter().map(|process| (process.livemode, &process.accounts)).collect();
    Ok(if settings.len() > 1 { active } else { Vec::new() })
}
