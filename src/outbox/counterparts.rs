//! Counterparts: a thin event and a snapshot event of the same change, if an account sends both.

use std::collections::HashSet;

use super::claim::{Claimed, columns};
use crate::database::Connection;
use crate::domain::event::{Envelope, EventKey};

/// A thin event and the type of its counterpart.
pub struct ThinEvent<'a> {
    /// The thin event.
    pub event: &'a Claimed,
    /// The type of the snapshot event about the same change; `None` if thin events are finer than snapshots.
    pub snapshot_type: Option<&'a str>,
}

/// Returns the thin events that have a merged snapshot event of the same change: of the same object, the same second,
/// and the counterpart's type if it is known. Pending, dead and ignored snapshots do not count, because they have
/// changed nothing.
///
/// # Errors
/// Database errors.
pub async fn merged(conn: &mut Connection, thin_events: &[ThinEvent<'_>]) -> Result<HashSet<EventKey>, sqlx::Error> {
    if thin_events.is_empty() {
        return Ok(HashSet::new());
    }
    let (event_ids, created_ats) = columns(thin_events.iter().map(|thin| &thin.event.key));
    let accounts: Vec<String> = thin_events.iter().map(|thin| thin.event.account.clone()).collect();
    let object_ids: Vec<Option<String>> = thin_events.iter().map(|thin| thin.event.object_id.clone()).collect();
    let types: Vec<Option<String>> = thin_events.iter().map(|thin| thin.snapshot_type.map(str::to_owned)).collect();
    let rows = sqlx::query!(
        r#"-- outbox.merged_snapshots
        SELECT thin.event_id AS "event_id!", thin.created AS "created!"
        FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[])
            AS thin (event_id, created, account, object_id, snapshot_type)
        WHERE EXISTS (
            SELECT FROM billing.outbox AS o
            -- a snapshot has whole seconds, a thin event the exact time
            WHERE o.object_id = thin.object_id AND o.created = date_trunc('second', thin.created, 'UTC')
                AND o.account = thin.account AND o.format = 'snapshot' AND o.outcome IN ('applied', 'superseded')
                AND (thin.snapshot_type IS NULL OR o.type = thin.snapshot_type))"#,
        &event_ids,
        &created_ats,
        &accounts,
        &object_ids as &[Option<String>],
        &types as &[Option<String>]
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| EventKey { event_id: row.event_id, created: row.created }).collect())
}

/// Returns the thin events that have a counterpart among `snapshots`, which the calling transaction merges and has not
/// settled yet.
pub fn among(thin_events: &[ThinEvent<'_>], snapshots: &[&Claimed]) -> HashSet<EventKey> {
    let change = |event: &Claimed| (event.account.clone(), event.object_id.clone(), event.key.created.unix_timestamp());
    let is_counterpart = |thin: &ThinEvent<'_>, snapshot: &Claimed| {
        change(snapshot) == change(thin.event) && thin.snapshot_type.is_none_or(|of| of == snapshot.event_type)
    };
    let has_one = |thin: &&ThinEvent<'_>| snapshots.iter().any(|snapshot| is_counterpart(thin, snapshot));
    thin_events.iter().filter(has_one).map(|thin| thin.event.key.clone()).collect()
}

/// Returns the snapshot events that have a stored thin event of the same object in the same second.
///
/// # Errors
/// Database errors.
pub async fn with_thin(conn: &mut Connection, snapshots: &[&Envelope]) -> Result<HashSet<EventKey>, sqlx::Error> {
    if snapshots.is_empty() {
        return Ok(HashSet::new());
    }
    let (event_ids, created_ats) = columns(snapshots.iter().map(|event| &event.key));
    let accounts: Vec<String> = snapshots.iter().map(|event| event.account.clone()).collect();
    let object_ids: Vec<Option<String>> = snapshots.iter().map(|event| event.object_id.clone()).collect();
    let rows = sqlx::query!(
        r#"-- outbox.thin_counterparts
        SELECT snapshot.event_id AS "event_id!", snapshot.created AS "created!"
        FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[])
            AS snapshot (event_id, created, account, object_id)
        WHERE EXISTS (
            SELECT FROM billing.outbox AS o
            WHERE o.object_id = snapshot.object_id
                AND o.created >= snapshot.created AND o.created < snapshot.created + interval '1 s'
                AND o.account = snapshot.account AND o.format = 'thin')"#,
        &event_ids,
        &created_ats,
        &accounts,
        &object_ids as &[Option<String>]
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| EventKey { event_id: row.event_id, created: row.created }).collect())
}
