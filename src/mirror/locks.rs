//! The locks that serialise everything done about an object.
//!
//! All keys of a batch are taken at once and in one order, first the missing rows inserted and then all rows
//! locked: two workers with the same objects in opposite order wait for each other and never in a circle. No
//! statement locks and reads data at once, because its snapshot would be older than its lock.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::domain::object::ObjectKey;

/// The name under which an object is locked.
///
/// A plan and a price of one id make one row, so they share a lock.
fn lock_name(key: &ObjectKey) -> String {
    let kind = if key.object_type == "plan" { "price" } else { &key.object_type };
    format!("{}/{kind}/{}", key.account, key.object_id)
}

/// Locks all `keys` until the transaction ends.
///
/// # Errors
/// Those of the database; a deadlock or lock timeout among them is no fault of the events.
pub async fn acquire(conn: &mut PgConnection, keys: &BTreeSet<ObjectKey>) -> Result<(), sqlx::Error> {
    let names: Vec<String> = keys.iter().map(lock_name).collect::<BTreeSet<_>>().into_iter().collect();
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
        SELECT held.key
        FROM unnest($1::text[]) AS name
        CROSS JOIN LATERAL (SELECT l.key FROM billing.locks AS l WHERE l.key = name FOR UPDATE) AS held",
        &names
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}
