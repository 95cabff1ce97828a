//! The SQL of the mirror: its rows, and the archived events of a second.
//!
//! Callers hold the locks of the objects.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::snapshot::Snapshot;
use crate::domain::object::ObjectKey;
use crate::stripe::json::Json;

/// A row of `billing.stripe_objects`.
#[derive(Clone, PartialEq, Eq)]
pub struct MirrorRow {
    /// The object.
    pub key: ObjectKey,
    /// The customer that it belongs to, or is.
    pub customer_id: Option<String>,
    /// Its newest content; `None` while only its deletion is known.
    pub content: Option<Content>,
    /// When it was deleted.
    pub deleted_at: Option<OffsetDateTime>,
}

/// The newest content of an object, and where it comes from.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Creation time of the event.
    pub version: OffsetDateTime,
    /// How it came.
    pub origin: Origin,
    /// The event.
    pub event_id: String,
    /// The object's JSON.
    pub json: String,
    /// It depends on the second before `version`.
    pub circuit: bool,
}

/// How a content came to the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Inside another object's event.
    Embedded,
    /// By an event of its own.
    Event,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Event => "event",
        }
    }
}

/// The parallel arrays in which keys travel to `unnest`.
fn columns<'a>(keys: impl Iterator<Item = &'a ObjectKey>) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        columns.0.push(key.account.clone());
        columns.1.push(key.object_type.clone());
        columns.2.push(key.object_id.clone());
    }
    columns
}

/// The rows of `keys`, those that exist.
///
/// # Errors
/// Those of the database.
pub async fn load(
    conn: &mut PgConnection,
    keys: impl Iterator<Item = &ObjectKey>,
) -> Result<Vec<MirrorRow>, sqlx::Error> {
    let (accounts, types, ids) = columns(keys);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as!(
        RawRow,
        "-- mirror.load
        SELECT o.account, o.object_type, o.object_id, o.customer_id, o.version, o.origin, o.event_id, o.content,
               o.circuit, o.deleted_at
        FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (account, object_type, object_id)
        JOIN billing.stripe_objects AS o USING (account, object_type, object_id)",
        &accounts,
        &types,
        &ids
    )
    .fetch_all(conn)
    .await
    .map(|rows| rows.into_iter().map(MirrorRow::from).collect())
}

/// The subscriptions of `customers`, which are keys of customers.
///
/// # Errors
/// Those of the database.
pub async fn subscriptions_of(
    conn: &mut PgConnection,
    customers: impl Iterator<Item = &ObjectKey>,
) -> Result<Vec<MirrorRow>, sqlx::Error> {
    let (accounts, _, ids) = columns(customers);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as!(
        RawRow,
        "-- mirror.subscriptions_of
        SELECT o.account, o.object_type, o.object_id, o.customer_id, o.version, o.origin, o.event_id, o.content,
               o.circuit, o.deleted_at
        FROM unnest($1::text[], $2::text[]) AS asked (account, customer_id)
        JOIN billing.stripe_objects AS o USING (account, customer_id)
        WHERE o.object_type = 'subscription'",
        &accounts,
        &ids
    )
    .fetch_all(conn)
    .await
    .map(|rows| rows.into_iter().map(MirrorRow::from).collect())
}

/// The customers that the subscriptions among `keys` belong to, as far as the mirror knows.
///
/// # Errors
/// Those of the database.
pub async fn owners(conn: &mut PgConnection, keys: &BTreeSet<ObjectKey>) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    let (accounts, types, ids) = columns(keys.iter().filter(|key| key.object_type == "subscription"));
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = sqlx::query!(
        r#"-- mirror.owners
        SELECT o.account, o.customer_id AS "customer_id!"
        FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (account, object_type, object_id)
        JOIN billing.stripe_objects AS o USING (account, object_type, object_id)
        WHERE o.customer_id IS NOT NULL"#,
        &accounts,
        &types,
        &ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, "customer", &row.customer_id)).collect())
}

/// Writes `rows` over whatever is there.
///
/// # Errors
/// Those of the database.
pub async fn save(conn: &mut PgConnection, rows: &[MirrorRow]) -> Result<(), sqlx::Error> {
    let (accounts, types, ids) = columns(rows.iter().map(|row| &row.key));
    let contents: Vec<Option<&Content>> = rows.iter().map(|row| row.content.as_ref()).collect();
    sqlx::query!(
        "-- mirror.save
        INSERT INTO billing.stripe_objects AS o
            (account, object_type, object_id, customer_id, version, origin, event_id, content, circuit, deleted_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[],
            $7::text[], $8::bytea[], $9::boolean[], $10::timestamptz[])
        ON CONFLICT (account, object_type, object_id) DO UPDATE SET
            customer_id = excluded.customer_id, version = excluded.version, origin = excluded.origin,
            event_id = excluded.event_id, content = excluded.content, circuit = excluded.circuit,
            deleted_at = excluded.deleted_at, changed_at = clock_timestamp()",
        &accounts,
        &types,
        &ids,
        &rows.iter().map(|row| row.customer_id.clone()).collect::<Vec<_>>() as &[Option<String>],
        &contents.iter().map(|content| content.map(|one| one.version)).collect::<Vec<_>>()
            as &[Option<OffsetDateTime>],
        &contents.iter().map(|content| content.map(|one| one.origin.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &contents.iter().map(|content| content.map(|one| one.event_id.clone())).collect::<Vec<_>>()
            as &[Option<String>],
        &contents.iter().map(|content| content.map(|one| one.json.clone().into_bytes())).collect::<Vec<_>>()
            as &[Option<Vec<u8>>],
        &contents.iter().map(|content| content.is_some_and(|one| one.circuit)).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.deleted_at).collect::<Vec<_>>() as &[Option<OffsetDateTime>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The archived events of one second of an object, for each `(key, at or before)` that is asked: the newest
/// second that has any. The number says which question an event answers.
///
/// Only events that were merged count: one that is dead or was given up has no say.
///
/// # Errors
/// Those of the database.
pub async fn earlier_second(
    conn: &mut PgConnection,
    asked: &[(&ObjectKey, OffsetDateTime)],
) -> Result<Vec<(usize, Snapshot)>, sqlx::Error> {
    let (accounts, types, ids) = columns(asked.iter().map(|(key, _)| *key));
    let until: Vec<OffsetDateTime> = asked.iter().map(|(_, until)| *until).collect();
    let rows = sqlx::query!(
        r#"-- mirror.earlier_second
        SELECT asked.place AS "place!", o.event_id, o.created, o.type AS event_type, e.payload
        FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) WITH ORDINALITY
            AS asked (account, object_type, object_id, until, place)
        CROSS JOIN LATERAL (
            SELECT max(older.created) AS second
            FROM billing.outbox AS older
            WHERE older.object_id = asked.object_id AND older.created <= asked.until
                AND older.account = asked.account AND older.object_type = asked.object_type
                AND older.format = 'snapshot' AND older.outcome IN ('applied', 'superseded')
        ) AS newest
        JOIN billing.outbox AS o ON o.object_id = asked.object_id AND o.created = newest.second
            AND o.account = asked.account AND o.object_type = asked.object_type
            AND o.format = 'snapshot' AND o.outcome IN ('applied', 'superseded')
        JOIN billing.events AS e ON e.event_id = o.event_id AND e.created = o.created"#,
        &accounts,
        &types,
        &ids,
        &until
    )
    .fetch_all(conn)
    .await?;
    let read = rows.into_iter().filter_map(|row| {
        let payload = String::from_utf8_lossy(&row.payload);
        let data = Json::parse(&payload).ok()?.get("data");
        let snapshot = Snapshot::read(&row.event_id, row.created, &row.event_type, data)?;
        Some((usize::try_from(row.place).ok()? - 1, snapshot))
    });
    Ok(read.collect())
}

/// A row as it comes from the database.
struct RawRow {
    account: String,
    object_type: String,
    object_id: String,
    customer_id: Option<String>,
    version: Option<OffsetDateTime>,
    origin: Option<String>,
    event_id: Option<String>,
    content: Option<Vec<u8>>,
    circuit: bool,
    deleted_at: Option<OffsetDateTime>,
}

impl From<RawRow> for MirrorRow {
    fn from(row: RawRow) -> Self {
        // a CHECK says that these four are there together
        let parts = row.version.zip(row.event_id).zip(row.content);
        let content = parts.map(|((version, event_id), content)| Content {
            version,
            origin: if row.origin.as_deref() == Some("embedded") { Origin::Embedded } else { Origin::Event },
            event_id,
            json: String::from_utf8_lossy(&content).into_owned(),
            circuit: row.circuit,
        });
        let key = ObjectKey { account: row.account, object_type: row.object_type, object_id: row.object_id };
        Self { key, customer_id: row.customer_id, content, deleted_at: row.deleted_at }
    }
}
