//! Twins: a thin event and a snapshot event of the same change, where an account sends both.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::claim::{Claimed, columns};
use crate::domain::event::{Envelope, EventKey};

/// Which of these thin events have a snapshot event about the same object in the same second.
///
/// # Errors
/// Those of the database.
pub async fn of(conn: &mut PgConnection, notices: &[&Claimed]) -> Result<HashSet<EventKey>, sqlx::Error> {
    if notices.is_empty() {
        return Ok(HashSet::new());
    }
    let (event_ids, createds) = columns(notices.iter().map(|event| &event.key));
    let accounts: Vec<String> = notices.iter().map(|event| event.account.clone()).collect();
    let object_ids: Vec<Option<String>> = notices.iter().map(|event| event.object_id.clone()).collect();
    let rows = sqlx::query!(
        r#"-- outbox.snapshot_twins
        SELECT thin.event_id AS "event_id!", thin.created AS "created!"
        FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[])
            AS thin (event_id, created, account, object_id)
        WHERE EXISTS (
            SELECT FROM billing.outbox AS o
            -- a snapshot has whole seconds, a thin event the exact time
            WHERE o.object_id = thin.object_id AND o.created = date_trunc('second', thin.created, 'UTC')
                AND o.account = thin.account AND o.format = 'snapshot')"#,
        &event_ids,
        &createds,
        &accounts,
        &object_ids as &[Option<String>]
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| EventKey { event_id: row.event_id, created: row.created }).collect())
}

/// Which of these snapshot events have a stored thin event about the same object in the same second.
///
/// # Errors
/// Those of the database.
pub async fn thin(conn: &mut PgConnection, snapshots: &[&Envelope]) -> Result<HashSet<EventKey>, sqlx::Error> {
    if snapshots.is_empty() {
        return Ok(HashSet::new());
    }
    let (event_ids, createds) = columns(snapshots.iter().map(|event| &event.key));
    let accounts: Vec<String> = snapshots.iter().map(|event| event.account.clone()).collect();
    let object_ids: Vec<Option<String>> = snapshots.iter().map(|event| event.object_id.clone()).collect();
    let rows = sqlx::query!(
        r#"-- outbox.thin_twins
        SELECT snapshot.event_id AS "event_id!", snapshot.created AS "created!"
        FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[])
            AS snapshot (event_id, created, account, object_id)
        WHERE EXISTS (
            SELECT FROM billing.outbox AS o
            WHERE o.object_id = snapshot.object_id
                AND o.created >= snapshot.created AND o.created < snapshot.created + interval '1 s'
                AND o.account = snapshot.account AND o.format = 'thin')"#,
        &event_ids,
        &createds,
        &accounts,
        &object_ids as &[Option<String>]
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| EventKey { event_id: row.event_id, created: row.created }).collect())
}
