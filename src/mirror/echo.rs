//! Handles nested copies of shared objects that equal the mirror's content.
//!
//! Every subscription contains its prices in full, so the events of all customers would wait for each other at the lock
//! of one price. A copy equal to the known content changes only the version of the row. So its object is locked in
//! share mode, which any number of workers can hold and in which none can change the content. The version is written at
//! the very end of the transaction, so that the row is locked only briefly.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::incoming::{Incoming, Nested};
use super::related::is_shared;
use super::store::{self, ContentSource, MirrorRow, columns};
use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// The copies of one object, all equal to the mirror's content.
pub struct Echo {
    /// The object.
    pub key: ObjectKey,
    /// The latest time at which a copy showed this content, with its event; `None` if there were only older copies.
    shown: Option<(OffsetDateTime, String)>,
    content: String,
}

/// Removes from `incoming` the copies of shared objects that equal the mirror's content, except objects that are locked
/// anyway. They are not locked yet: [`confirm`] checks that the content is still the same.
///
/// # Errors
/// Database errors.
pub async fn take_out(
    conn: &mut Connection,
    incoming: &mut Incoming,
    is_locked: impl Fn(&ObjectKey) -> bool,
) -> Result<Vec<Echo>, sqlx::Error> {
    let own: BTreeSet<&ObjectKey> =
        incoming.arrivals.iter().map(|one| &one.key).chain(incoming.reads.iter().map(|one| &one.key)).collect();
    let mut copies: BTreeMap<&ObjectKey, Vec<&Nested>> = BTreeMap::new();
    let may_be = |key: &ObjectKey| is_shared(key) && !own.contains(key) && !is_locked(key);
    for one in incoming.nested.iter().filter(|one| may_be(&one.key)) {
        copies.entry(&one.key).or_default().push(one);
    }
    let known = store::load(conn, copies.keys().copied()).await?;
    let echoes: Vec<Echo> = known.iter().filter_map(|row| echo(row, &copies[&row.key])).collect();
    let keys: BTreeSet<&ObjectKey> = echoes.iter().map(|echo| &echo.key).collect();
    incoming.nested.retain(|one| !keys.contains(&one.key));
    Ok(echoes)
}

/// The echo of an object that was seen itself, or nested in its current state; `None` if a copy differs.
fn echo(row: &MirrorRow, copies: &[&Nested]) -> Option<Echo> {
    let known = row.seen().filter(|known| copies.iter().all(|one| one.json == known.json))?;
    let current = copies.iter().filter(|one| one.is_current && one.version > known.version);
    let newest = current.max_by(|one, other| (one.version, &one.event_id).cmp(&(other.version, &other.event_id)));
    let shown = newest.map(|one| (one.version, one.event_id.clone()));
    Some(Echo { key: row.key.clone(), shown, content: known.json.clone() })
}

/// Updates the versions to those of the copies. Returns false if a content has changed: then the transaction must not
/// commit. The caller holds the objects in share mode.
///
/// # Errors
/// Database errors.
pub async fn confirm(conn: &mut Connection, echoes: &[Echo]) -> Result<bool, sqlx::Error> {
    if echoes.is_empty() {
        return Ok(true);
    }
    let (accounts, types, ids) = columns(echoes.iter().map(|echo| &echo.key));
    let contents: Vec<Vec<u8>> = echoes.iter().map(|echo| echo.content.clone().into_bytes()).collect();
    let (versions, events): (Vec<_>, Vec<_>) = echoes.iter().map(|echo| echo.shown.clone().unzip()).unzip();
    let known = sqlx::query_scalar!(
        r#"-- mirror.confirm_echoes
        WITH said AS MATERIALIZED (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[], $6::text[])
                AS said (account, object_type, object_id, content, version, event_id)
        ), older AS MATERIALIZED (
            -- in key order, so that sessions cannot deadlock
            SELECT o.account, o.object_type, o.object_id, said.version, said.event_id
            FROM said
            CROSS JOIN LATERAL (
                SELECT * FROM billing.stripe_objects AS o
                WHERE o.account = said.account AND o.object_type = said.object_type AND o.object_id = said.object_id
                    AND o.content = said.content AND o.version < said.version
                FOR NO KEY UPDATE
            ) AS o
        ), moved AS (
            UPDATE billing.stripe_objects AS o
            SET version = older.version, event_id = older.event_id, origin = $7, depends_on_previous_second = false,
                changed_at = clock_timestamp()
            FROM older
            WHERE o.account = older.account AND o.object_type = older.object_type AND o.object_id = older.object_id
        )
        SELECT count(*) AS "count!"
        FROM said
        CROSS JOIN LATERAL (
            SELECT FROM billing.stripe_objects AS o
            WHERE o.account = said.account AND o.object_type = said.object_type AND o.object_id = said.object_id
                AND o.content = said.content
            OFFSET 0
        ) AS o"#,
        &accounts,
        &types,
        &ids,
        &contents,
        &versions as &[Option<OffsetDateTime>],
        &events as &[Option<String>],
        ContentSource::Nested.as_str(),
    )
    .fetch_one(conn)
    .await?;
    Ok(usize::try_from(known) == Ok(echoes.len()))
}
