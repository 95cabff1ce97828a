//! Locks that serialise all work on an object.
//!
//! All keys of a batch are locked at once, in name order: missing rows are inserted first, then all rows are locked. So
//! workers with the same objects in opposite order cannot deadlock. No statement both locks and reads data, because its
//! snapshot would be older than its lock.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// The name under which an object is locked.
///
/// A plan and a price of one id make one row, so they share a lock.
fn lock_name(key: &ObjectKey) -> String {
    let kind = if key.object_type == "plan" { "price" } else { &key.object_type };
    format!("{}/{kind}/{}", key.account, key.object_id)
}

/// Locks all `keys` until the transaction ends; those in `shared` in share mode, in which others can hold them and none
/// can change them.
///
/// # Errors
/// Those of the database. A deadlock or lock timeout among them is not caused by the events.
pub async fn acquire(
    conn: &mut Connection,
    keys: &BTreeSet<ObjectKey>,
    shared: &BTreeSet<ObjectKey>,
) -> Result<(), sqlx::Error> {
    let mut modes: BTreeMap<String, bool> = shared.iter().map(|key| (lock_name(key), false)).collect();
    modes.extend(keys.iter().map(|key| (lock_name(key), true)));
    let (names, exclusive): (Vec<String>, Vec<bool>) = modes.into_iter().unzip();
    sqlx::query!(
        "-- locks.ensure
        INSERT INTO billing.locks (key)
        SELECT name FROM unnest($1::text[]) AS name ORDER BY name COLLATE \"C\"
        ON CONFLICT DO NOTHING",
        &names
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- locks.acquire
        SELECT held.key, shared.key AS shared_key
        FROM unnest($1::text[], $2::boolean[]) AS asked (name, exclusive)
        LEFT JOIN LATERAL (SELECT l.key FROM billing.locks AS l WHERE l.key = name AND exclusive FOR UPDATE) AS held ON true
        LEFT JOIN LATERAL (SELECT l.key FROM billing.locks AS l WHERE l.key = name AND NOT exclusive FOR SHARE) AS shared
            ON true",
        &names,
        &exclusive
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}
