//! The own account's id: an event that contains it is stored without an account, like the events that contain none.
//!
//! The id comes from a setting, or from the API key. Earlier events that were ignored because of their account are then
//! processed.

use super::claim::{Claimed, columns};
use crate::database::Connection;

/// Stores the id of the own account, and queues events again that were ignored because it was unknown.
///
/// # Errors
/// Database errors.
pub async fn note(conn: &mut Connection, id: &str) -> Result<(), sqlx::Error> {
    let is_new = sqlx::query!(
        "-- outbox.add_own_account
        INSERT INTO billing.own_accounts (account_id) VALUES ($1) ON CONFLICT DO NOTHING",
        id
    )
    .execute(&mut *conn)
    .await?
    .rows_affected()
        > 0;
    if !is_new {
        return Ok(());
    }
    let healed = sqlx::query!(
        "-- outbox.requeue_own_account
        UPDATE billing.outbox SET account = '', state = 'pending', outcome = NULL, reason = NULL, finished_at = NULL,
            run_at = clock_timestamp()
        WHERE account = $1 AND (state = 'pending' OR (reason = 'account_not_synced' AND EXISTS (
            -- a redacted event cannot be processed
            SELECT FROM billing.events AS e
            WHERE e.event_id = outbox.event_id AND e.created = outbox.created AND e.payload IS NOT NULL)))",
        id
    )
    .execute(conn)
    .await?
    .rows_affected();
    if healed > 0 {
        tracing::info!(
            events = healed,
            "queued the ignored events of the own account again, because its id is known now"
        );
    }
    Ok(())
}

/// Removes the account from claimed events that contain the own account's id. `configured`: the id from the setting.
///
/// # Errors
/// Database errors.
pub async fn resolve(
    conn: &mut Connection,
    configured: Option<&str>,
    events: &mut [Claimed],
) -> Result<(), sqlx::Error> {
    if events.iter().all(|event| event.account.is_empty()) {
        return Ok(());
    }
    let mut own = sqlx::query_scalar!("-- outbox.own_accounts\nSELECT account_id FROM billing.own_accounts")
        .fetch_all(&mut *conn)
        .await?;
    if let Some(id) = configured.filter(|id| own.iter().all(|known| known != id)) {
        note(conn, id).await?;
        own.push(id.to_owned());
    }
    let ours = events.iter_mut().filter(|event| own.contains(&event.account));
    let ours: Vec<_> = ours
        .map(|event| {
            event.account.clear();
            event.key.clone()
        })
        .collect();
    if ours.is_empty() {
        return Ok(());
    }
    let (event_ids, created_ats) = columns(&ours);
    sqlx::query!(
        "-- outbox.resolve_own_account
        UPDATE billing.outbox AS o SET account = ''
        FROM unnest($1::text[], $2::timestamptz[]) AS own (event_id, created)
        WHERE o.event_id = own.event_id AND o.created = own.created",
        &event_ids,
        &created_ats
    )
    .execute(conn)
    .await?;
    Ok(())
}
