//! The SQL of the mirror's rows.
//!
//! Callers hold the locks of the objects that they write.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::stripe::json;

/// A row of `billing.stripe_objects`.
#[derive(Clone, PartialEq, Eq)]
pub struct MirrorRow {
    /// The object.
    pub key: ObjectKey,
    /// The customer that it belongs to, is, or belonged to.
    pub customer_id: Option<String>,
    /// Its newest content; `None` if only its absence or deletion is known.
    pub content: Option<Content>,
    /// The objects that the content references, as `type/id`.
    pub refs: Vec<String>,
    /// The fields that only reads carry.
    pub expansion: Option<Expansion>,
    /// Time of the last change that was not a read: an older expansion may be stale.
    pub expansion_stale_after: Option<OffsetDateTime>,
    /// When it was deleted.
    pub deleted_at: Option<OffsetDateTime>,
    /// When an object whose id merchants choose was last created, or seen again by a read.
    pub recreated_at: Option<OffsetDateTime>,
    /// Version of the latest read that returned 404.
    pub not_found_at: Option<OffsetDateTime>,
}

/// The rows of the objects that one transaction merges.
pub(super) type Mirror = BTreeMap<ObjectKey, MirrorRow>;

/// The newest content of an object, and its source.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Creation time of the event, or version of the read; of a nested object that of its carrier.
    pub version: OffsetDateTime,
    /// Its source.
    pub origin: ContentSource,
    /// The event, `read`, or the write.
    pub event_id: String,
    /// The object's JSON.
    pub json: String,
    /// Whether it depends on the second before `version`.
    pub depends_on_previous_second: bool,
}

/// The fields that only reads carry, from one read.
#[derive(Clone, PartialEq, Eq)]
pub struct Expansion {
    /// Version of the read.
    pub version: OffsetDateTime,
    /// A JSON object.
    pub json: String,
}

/// Source of a content. At equal versions, the later in this list wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentSource {
    /// Nested in another object that shows it as of another time or in another scope. Kept only until the object itself
    /// is seen.
    Copy,
    /// Nested in another object that shows its current state.
    Nested,
    /// A read of Stripe's API.
    Read,
    /// The answer to a write of ours.
    Write,
    /// An event of the object itself.
    Event,
}

impl ContentSource {
    const ALL: [Self; 5] = [Self::Copy, Self::Nested, Self::Read, Self::Write, Self::Event];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Nested => "embedded",
            Self::Read => "read",
            Self::Write => "write",
            Self::Event => "event",
        }
    }

    /// The CHECK of the column allows no other word.
    fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|origin| origin.as_str() == word).unwrap_or(Self::Event)
    }
}

impl MirrorRow {
    /// The row of an object of which nothing is known.
    pub fn new(key: ObjectKey) -> Self {
        Self {
            key,
            customer_id: None,
            content: None,
            refs: Vec::new(),
            expansion: None,
            expansion_stale_after: None,
            deleted_at: None,
            recreated_at: None,
            not_found_at: None,
        }
    }

    /// When it was deleted, unless it was recreated since.
    pub fn gone_at(&self) -> Option<OffsetDateTime> {
        self.deleted_at.filter(|deleted| self.recreated_at.is_none_or(|revived| revived <= *deleted))
    }

    /// The content, unless it is only a copy.
    pub fn seen(&self) -> Option<&Content> {
        self.content.as_ref().filter(|content| content.origin != ContentSource::Copy)
    }

    /// The latest read that returned 404, unless newer content was seen.
    pub fn not_found_at(&self) -> Option<OffsetDateTime> {
        let seen = self.seen().map(|content| content.version);
        self.not_found_at.filter(|missing| seen.is_none_or(|seen| seen < *missing))
    }
}

/// Keys as parallel arrays for `unnest`.
pub(super) fn columns<'a>(keys: impl Iterator<Item = &'a ObjectKey>) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        columns.0.push(key.account.clone());
        columns.1.push(key.object_type.clone());
        columns.2.push(key.object_id.clone());
    }
    columns
}

/// The array index of an ordinality, which counts from 1.
pub(super) fn index(ordinality: i64) -> usize {
    usize::try_from(ordinality - 1).unwrap_or_default()
}

/// The existing rows of `keys`.
///
/// # Errors
/// Database errors.
pub async fn load(
    conn: &mut Connection,
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
               o.depends_on_previous_second, o.refs, o.expansion, o.expansion_version, o.expansion_stale_after,
               o.deleted_at, o.recreated_at, o.not_found_at
        FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (account, object_type, object_id)
        CROSS JOIN LATERAL (
            SELECT * FROM billing.stripe_objects AS o
            WHERE o.account = asked.account AND o.object_type = asked.object_type AND o.object_id = asked.object_id
            OFFSET 0
        ) AS o",
        &accounts,
        &types,
        &ids
    )
    .fetch_all(conn)
    .await
    .map(|rows| rows.into_iter().map(MirrorRow::from).collect())
}

/// Those of `keys` whose content is no older than `since`.
///
/// # Errors
/// Database errors.
pub async fn known_since(
    conn: &mut Connection,
    keys: &BTreeSet<ObjectKey>,
    since: OffsetDateTime,
) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (accounts, types, ids) = columns(keys.iter());
    let rows = sqlx::query!(
        "-- mirror.known_since
        SELECT o.account, o.object_type, o.object_id
        FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (account, object_type, object_id)
        CROSS JOIN LATERAL (
            SELECT * FROM billing.stripe_objects AS o
            WHERE o.account = asked.account AND o.object_type = asked.object_type AND o.object_id = asked.object_id
            OFFSET 0
        ) AS o
        WHERE o.version >= $4 AND o.origin <> 'copy'",
        &accounts,
        &types,
        &ids,
        since
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, &row.object_type, &row.object_id)).collect())
}

/// Inserts `rows`, or overwrites existing ones.
///
/// # Errors
/// Database errors.
pub async fn save(conn: &mut Connection, rows: &[MirrorRow]) -> Result<(), sqlx::Error> {
    let (accounts, types, ids) = columns(rows.iter().map(|row| &row.key));
    let contents: Vec<Option<&Content>> = rows.iter().map(|row| row.content.as_ref()).collect();
    let expansions: Vec<Option<&Expansion>> = rows.iter().map(|row| row.expansion.as_ref()).collect();
    let bytes = |text: &String| text.clone().into_bytes();
    sqlx::query!(
        "-- mirror.save
        INSERT INTO billing.stripe_objects AS o
            (account, object_type, object_id, customer_id, version, origin, event_id, content,
             depends_on_previous_second, refs, expansion, expansion_version, deleted_at, recreated_at, not_found_at,
                expansion_stale_after)
        SELECT account, object_type, object_id, customer_id, version, origin, event_id, content, depends_on_previous_second,
            string_to_array(refs, chr(31)), expansion, expansion_version, deleted_at, recreated_at, not_found_at,
            expansion_stale_after
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[],
            $8::bytea[], $9::boolean[], $10::text[], $11::bytea[], $12::timestamptz[], $13::timestamptz[],
            $14::timestamptz[], $15::timestamptz[], $16::timestamptz[])
            AS row (account, object_type, object_id, customer_id, version, origin, event_id, content,
                depends_on_previous_second, refs, expansion, expansion_version, deleted_at, recreated_at, not_found_at,
                expansion_stale_after)
        ON CONFLICT (account, object_type, object_id) DO UPDATE SET
            customer_id = excluded.customer_id, version = excluded.version, origin = excluded.origin,
            event_id = excluded.event_id, content = excluded.content,
            depends_on_previous_second = excluded.depends_on_previous_second,
            refs = excluded.refs, expansion = excluded.expansion, expansion_version = excluded.expansion_version,
            deleted_at = excluded.deleted_at, recreated_at = excluded.recreated_at, not_found_at = excluded.not_found_at,
            expansion_stale_after = excluded.expansion_stale_after,
            changed_at = clock_timestamp()",
        &accounts,
        &types,
        &ids,
        &column(rows, |row| row.customer_id.clone()) as &[Option<String>],
        &column(&contents, |content| content.map(|one| one.version)) as &[Option<OffsetDateTime>],
        &column(&contents, |content| content.map(|one| one.origin.as_str().to_owned())) as &[Option<String>],
        &column(&contents, |content| content.map(|one| one.event_id.clone())) as &[Option<String>],
        &column(&contents, |content| content.map(|one| bytes(&one.json))) as &[Option<Vec<u8>>],
        &column(&contents, |content| content.is_some_and(|one| one.depends_on_previous_second)),
        &column(rows, |row| row.refs.join("\u{1f}")),
        &column(&expansions, |expansion| expansion.map(|one| bytes(&one.json))) as &[Option<Vec<u8>>],
        &column(&expansions, |expansion| expansion.map(|one| one.version)) as &[Option<OffsetDateTime>],
        &column(rows, |row| row.deleted_at) as &[Option<OffsetDateTime>],
        &column(rows, |row| row.recreated_at) as &[Option<OffsetDateTime>],
        &column(rows, |row| row.not_found_at) as &[Option<OffsetDateTime>],
        &column(rows, |row| row.expansion_stale_after) as &[Option<OffsetDateTime>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn column<'a, T, U>(rows: &'a [T], value: impl Fn(&'a T) -> U) -> Vec<U> {
    rows.iter().map(value).collect()
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
    depends_on_previous_second: bool,
    refs: Vec<String>,
    expansion: Option<Vec<u8>>,
    expansion_version: Option<OffsetDateTime>,
    expansion_stale_after: Option<OffsetDateTime>,
    deleted_at: Option<OffsetDateTime>,
    recreated_at: Option<OffsetDateTime>,
    not_found_at: Option<OffsetDateTime>,
}

impl From<RawRow> for MirrorRow {
    fn from(row: RawRow) -> Self {
        let text = |bytes: Vec<u8>| json::decode(&bytes).into_owned();
        // a CHECK guarantees that these columns are set together
        let parts = row.version.zip(row.event_id).zip(row.content);
        let content = parts.map(|((version, event_id), content)| Content {
            version,
            origin: ContentSource::of(row.origin.as_deref().unwrap_or_default()),
            event_id,
            json: text(content),
            depends_on_previous_second: row.depends_on_previous_second,
        });
        let expansion = row.expansion_version.zip(row.expansion);
        Self {
            key: ObjectKey { account: row.account, object_type: row.object_type, object_id: row.object_id },
            customer_id: row.customer_id,
            content,
            refs: row.refs,
            expansion: expansion.map(|(version, json)| Expansion { version, json: text(json) }),
            expansion_stale_after: row.expansion_stale_after,
            deleted_at: row.deleted_at,
            recreated_at: row.recreated_at,
            not_found_at: row.not_found_at,
        }
    }
}
