//! Merges what events say into the mirror, so that the order of their arrival has no say.
//!
//! Called by the worker inside its transaction, after the locks. An object whose newest second has one event
//! costs no more than a comparison; only where events share a second is the archive read.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::history::{Answer, Head, History};
use super::rows::{self, Content, MirrorRow, Origin};
use super::snapshot::Snapshot;
use super::state::State;
use super::walk::Stage;
use crate::domain::object::ObjectKey;
use crate::stripe::json::Json;
use crate::stripe::reference::customer_of;

/// What an event of an object's own says about it.
#[derive(Debug)]
pub struct Arrival {
    /// The object.
    pub key: ObjectKey,
    /// Its state at the event.
    pub snapshot: Snapshot,
}

/// An object that travelled inside another object's event.
pub struct Embedded {
    /// The object.
    pub key: ObjectKey,
    /// The event that carried it.
    pub event_id: String,
    /// When.
    pub created: OffsetDateTime,
    /// Its JSON.
    pub json: String,
}

/// What a merge did.
#[derive(Debug, Default)]
pub struct Merged {
    /// The objects whose row in the mirror changed.
    pub changed: BTreeSet<ObjectKey>,
    /// The events that are the newest word on their object now, and the deletions that took effect.
    pub applied: BTreeSet<String>,
    /// How many times an order could not be told.
    pub doubts: u64,
}

/// Merges `arrivals` and `embedded` into the mirror. The caller holds the locks of all their objects.
///
/// # Errors
/// Those of the database.
pub async fn merge(
    conn: &mut PgConnection,
    arrivals: Vec<Arrival>,
    embedded: Vec<Embedded>,
) -> Result<Merged, sqlx::Error> {
    let keys: BTreeSet<ObjectKey> =
        arrivals.iter().map(|one| &one.key).chain(embedded.iter().map(|one| &one.key)).cloned().collect();
    let mut mirror: BTreeMap<ObjectKey, MirrorRow> =
        rows::load(conn, keys.iter()).await?.into_iter().map(|row| (row.key.clone(), row)).collect();
    let mut merged = Merged::default();
    for one in &embedded {
        merge_embedded(&mut mirror, one, &mut merged);
    }
    for one in &arrivals {
        merge_deletion(&mut mirror, one, &mut merged);
    }
    let heads = heads(conn, &mirror, arrivals).await?;
    for (key, head) in heads {
        merge_head(&mut mirror, &key, head, &mut merged);
    }
    let changed: Vec<MirrorRow> = merged.changed.iter().filter_map(|key| mirror.remove(key)).collect();
    if !changed.is_empty() {
        rows::save(conn, &changed).await?;
    }
    Ok(merged)
}

/// The row of an object, as new where there is none.
fn entry<'a>(mirror: &'a mut BTreeMap<ObjectKey, MirrorRow>, key: &ObjectKey) -> &'a mut MirrorRow {
    mirror.entry(key.clone()).or_insert_with(|| MirrorRow {
        key: key.clone(),
        customer_id: None,
        content: None,
        deleted_at: None,
    })
}

/// The newest embedded content wins; in one second the greater text does, on every machine alike.
fn merge_embedded(mirror: &mut BTreeMap<ObjectKey, MirrorRow>, one: &Embedded, merged: &mut Merged) {
    let row = entry(mirror, &one.key);
    if let Some(current) = &row.content {
        if current.version == one.created && current.json != one.json {
            merged.doubts += 1;
        }
        if (current.version, &current.json) >= (one.created, &one.json) {
            return;
        }
    }
    row.content = Some(Content {
        version: one.created,
        origin: Origin::Embedded,
        event_id: one.event_id.clone(),
        json: one.json.clone(),
        circuit: false,
    });
    merged.changed.insert(one.key.clone());
}

/// Deletion is a time beside the content, never instead of it: older content still fills in under it.
///
/// `customer.subscription.deleted` makes none: it is an update to `canceled`.
fn merge_deletion(mirror: &mut BTreeMap<ObjectKey, MirrorRow>, one: &Arrival, merged: &mut Merged) {
    if one.key.object_type != "customer" || one.snapshot.stage != Stage::Deleted {
        return;
    }
    merged.applied.insert(one.snapshot.event_id.clone());
    let row = entry(mirror, &one.key);
    if row.deleted_at < Some(one.snapshot.created) {
        row.deleted_at = Some(one.snapshot.created);
        row.customer_id = Some(one.key.object_id.clone());
        merged.changed.insert(one.key.clone());
    }
}

/// The head of each object that has arrivals at or after it, or whose head hangs on what came before.
async fn heads(
    conn: &mut PgConnection,
    mirror: &BTreeMap<ObjectKey, MirrorRow>,
    arrivals: Vec<Arrival>,
) -> Result<Vec<(ObjectKey, Head)>, sqlx::Error> {
    let mut open = histories(mirror, arrivals);
    let mut heads = Vec::new();
    loop {
        let mut asking = Vec::new();
        for (key, history) in open {
            match history.head() {
                Answer::Head(head) => heads.push((key, *head)),
                Answer::Nothing => {}
                Answer::Needs(until) => asking.push((key, history, until)),
            }
        }
        if asking.is_empty() {
            return Ok(heads);
        }
        open = read_back(conn, mirror, asking).await?;
    }
}

/// What the batch alone tells of each object. Everything after the mirror's version is in the batch, since
/// whatever was merged before is at or before it.
fn histories(mirror: &BTreeMap<ObjectKey, MirrorRow>, arrivals: Vec<Arrival>) -> BTreeMap<ObjectKey, History> {
    let mut histories: BTreeMap<ObjectKey, History> = BTreeMap::new();
    let mut newest: BTreeMap<ObjectKey, OffsetDateTime> = BTreeMap::new();
    for Arrival { key, snapshot } in arrivals {
        let content = mirror.get(&key).and_then(|row| row.content.as_ref());
        let latest = newest.entry(key.clone()).or_insert(snapshot.created);
        *latest = (*latest).max(snapshot.created);
        let history = histories.entry(key).or_insert_with(|| History::complete_after(content.map(|one| one.version)));
        history.add(snapshot);
    }
    // an event that is merely older than the head is no doubt and changes nothing
    histories.retain(|key, _| {
        let content = mirror.get(key).and_then(|row| row.content.as_ref());
        content.is_none_or(|one| one.circuit || newest[key] >= one.version)
    });
    histories
}

/// Adds one more second of the archive to each history that asks for it.
async fn read_back(
    conn: &mut PgConnection,
    mirror: &BTreeMap<ObjectKey, MirrorRow>,
    asking: Vec<(ObjectKey, History, OffsetDateTime)>,
) -> Result<BTreeMap<ObjectKey, History>, sqlx::Error> {
    let asked: Vec<_> = asking.iter().map(|(key, _, until)| (key, *until)).collect();
    let mut found: BTreeMap<usize, Vec<Snapshot>> = BTreeMap::new();
    for (place, snapshot) in rows::earlier_second(conn, &asked).await? {
        found.entry(place).or_default().push(snapshot);
    }
    let mut histories = BTreeMap::new();
    for (place, (key, mut history, _)) in asking.into_iter().enumerate() {
        let second = found.remove(&place).unwrap_or_default();
        // one tick before that second, so that the second itself counts as known
        let reached = second.first().map(|one| one.created - time::Duration::MICROSECOND);
        for one in second {
            history.add(one);
        }
        history.now_complete_after(reached);
        if let (None, Some(content)) = (reached, mirror.get(&key).and_then(|row| row.content.as_ref())) {
            // the archive ends here; the mirror may remember a state that retention has removed from it
            if let Ok(json) = Json::parse(&content.json) {
                history.remember(content.version, State::of(json));
            }
        }
        histories.insert(key, history);
    }
    Ok(histories)
}

/// Puts a head into its row.
fn merge_head(mirror: &mut BTreeMap<ObjectKey, MirrorRow>, key: &ObjectKey, head: Head, merged: &mut Merged) {
    merged.doubts += u64::from(head.doubt);
    let Some(json) = head.snapshot.content else { return };
    merged.applied.insert(head.snapshot.event_id.clone());
    let row = entry(mirror, key);
    let content = Content {
        version: head.snapshot.created,
        origin: Origin::Event,
        event_id: head.snapshot.event_id,
        json,
        circuit: head.circuit,
    };
    if row.content.as_ref() != Some(&content) {
        row.customer_id = Json::parse(&content.json).ok().and_then(customer_of);
        row.content = Some(content);
        merged.changed.insert(key.clone());
    }
}
