//! Our own account by its id: an event that names it is ours, and is stored without an account like all that name none.
//!
//! The id becomes known by a setting, or with the API key. Events that came before and were ignored as foreign are
//! processed then.

use sqlx::PgConnection;

use super::claim::{Claimed, columns};

/// Notes the id of our own account, and puts events back into the queue that were ignored because it was unknown.
///
/// # Errors
/// Those of the database.
pub async fn note(conn: &mut PgConnection, id: &str) -> Result<(), sqlx::Error> {
    let is_new = sqlx::query!(
        "-- outbox.note_own_account
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
        "-- outbox.heal_own_account
        UPDATE billing.outbox SET account = '', state = 'pending', outcome = NULL, reason = NULL, finished_at = NULL,
            run_at = clock_timestamp()
        WHERE account = $1 AND (state = 'pending' OR reason = 'foreign_account')",
        id
    )
    .execute(conn)
    .await?
    .rows_affected();
    if healed > 0 {
        tracing::info!(events = healed, "events that name our own account are processed now that its id is known");
    }
    Ok(())
}

/// Stores claimed events of our own account, which they name by its id, without an account. `configured`: the id that a
/// setting gives.
///
/// # Errors
/// Those of the database.
pub async fn resolve(
    conn: &mut PgConnection,
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
    let (event_ids, createds) = columns(&ours);
    sqlx::query!(
        "-- outbox.resolve_own_account
        UPDATE billing.outbox AS o SET account = ''
        FROM unnest($1::text[], $2::timestamptz[]) AS own (event_id, created)
        WHERE o.event_id = own.event_id AND o.created = own.created",
        &event_ids,
        &createds
    )
    .execute(conn)
    .await?;
    Ok(())
}
