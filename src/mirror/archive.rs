//! Reads the archive for the mirror: the events of an object, one second at a time.
//!
//! Callers hold the locks of the objects.

use time::OffsetDateTime;

use super::snapshot::Snapshot;
use super::store::{columns, index};
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::stripe::json::{self, Document};
use crate::stripe::secrets::without_client_secrets;

/// For each `(key, until)` in `requests`, the archived events of one second: the latest second, at or before `until`,
/// that has any. The number is the index in `requests`.
///
/// Only merged events count, not dead or discarded ones. A second with a redacted event is not known: as if the archive
/// ended there.
///
/// # Errors
/// Database errors.
pub(super) async fn earlier_second(
    conn: &mut Connection,
    requests: &[(&ObjectKey, OffsetDateTime)],
) -> Result<Vec<(usize, Snapshot)>, sqlx::Error> {
    let (accounts, types, ids) = columns(requests.iter().map(|(key, _)| *key));
    let until: Vec<OffsetDateTime> = requests.iter().map(|(_, until)| *until).collect();
    let rows = sqlx::query!(
        r#"-- mirror.earlier_second
        SELECT asked.place AS "place!", o.event_id, o.created, o.type AS event_type, o.payload AS "payload!"
        FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) WITH ORDINALITY
            AS asked (account, object_type, object_id, until, place)
        CROSS JOIN LATERAL (
            SELECT max(older.created) AS second
            FROM billing.outbox AS older
            WHERE older.object_id = asked.object_id AND older.created <= asked.until
                AND older.account = asked.account AND older.object_type = asked.object_type
                AND older.format = 'snapshot' AND older.outcome IN ('applied', 'superseded')
        ) AS newest
        CROSS JOIN LATERAL (
            SELECT o.event_id, o.created, o.type, e.payload, bool_or(e.payload IS NULL) OVER () AS is_redacted
            FROM billing.outbox AS o
            JOIN billing.events AS e ON e.event_id = o.event_id AND e.created = o.created
            WHERE o.object_id = asked.object_id AND o.created = newest.second
                AND o.account = asked.account AND o.object_type = asked.object_type
                AND o.format = 'snapshot' AND o.outcome IN ('applied', 'superseded')
        ) AS o
        WHERE NOT o.is_redacted"#,
        &accounts,
        &types,
        &ids,
        &until
    )
    .fetch_all(conn)
    .await?;
    let read = rows.into_iter().filter_map(|row| {
        let event = Document::parse(without_client_secrets(json::decode(&row.payload))).ok()?;
        let snapshot = Snapshot::read(&row.event_id, row.created, &row.event_type, event.root())?;
        Some((index(row.place), snapshot))
    });
    Ok(read.collect())
}
