//! Merges what events and reads say into the mirror, so that the order of their arrival has no say.
//!
//! Called by the worker inside its transaction, after the locks. An object whose newest second has one event
//! costs no more than a comparison; only where events share a second is the archive read.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::related::is_shared;
use super::rows::{self, Content, Expansion, MirrorRow, Origin};
use super::snapshot::Snapshot;
use super::walk::Stage;
use super::{heads, related};
use crate::domain::object::ObjectKey;
use crate::stripe::json::Document;
use crate::stripe::reference::{self, customer_of};
use crate::stripe::views::price::PriceView;

/// What an event of an object's own says about it.
#[derive(Debug)]
pub struct Arrival {
    /// The object.
    pub key: ObjectKey,
    /// Its state at the event.
    pub snapshot: Snapshot,
}

/// An object inside another one.
pub struct Nested {
    /// The object.
    pub key: ObjectKey,
    /// The event that carried it, or `read`.
    pub event_id: String,
    /// When that was.
    pub version: OffsetDateTime,
    /// It shows the state at that time; otherwise it is a copy, which only fills in for an object that was never seen.
    pub is_current: bool,
    /// Its JSON.
    pub json: String,
}

/// What a read of Stripe's API says about an object.
pub struct Read {
    /// The object.
    pub key: ObjectKey,
    /// When the read began, less the margin.
    pub version: OffsetDateTime,
    /// What came back.
    pub found: Found,
    /// What only reads carry, as a JSON object.
    pub expansion: Option<String>,
}

/// What a read came back with.
pub enum Found {
    /// The object's JSON.
    Content(String),
    /// The stub that is left of a deleted object.
    Stub,
    /// Nothing: 404.
    Nothing,
}

/// All that is merged in one transaction.
#[derive(Default)]
pub struct Incoming {
    /// Events.
    pub arrivals: Vec<Arrival>,
    /// The objects inside those of events and reads.
    pub nested: Vec<Nested>,
    /// Reads.
    pub reads: Vec<Read>,
}

impl Incoming {
    /// Every object that is merged.
    pub fn keys(&self) -> BTreeSet<ObjectKey> {
        let arrivals = self.arrivals.iter().map(|one| &one.key);
        arrivals
            .chain(self.nested.iter().map(|one| &one.key))
            .chain(self.reads.iter().map(|one| &one.key))
            .cloned()
            .collect()
    }
}

/// What a merge did.
#[derive(Debug, Default)]
pub struct Merged {
    /// The objects whose row in the mirror changed.
    pub changed: BTreeSet<ObjectKey>,
    /// The customers that those belonged to before, and belong to now.
    pub customers: BTreeSet<ObjectKey>,
    /// The events that are the newest word on their object now, and the deletions that took effect.
    pub applied: BTreeSet<String>,
    /// The objects whose read is the newest word on them now.
    pub read: BTreeSet<ObjectKey>,
    /// The objects whose read was not late enough to show what changed in what only reads carry.
    pub read_too_early: BTreeSet<ObjectKey>,
    /// The objects of which an order could not be told, and in which second.
    pub doubts: BTreeMap<ObjectKey, OffsetDateTime>,
}

pub(super) type Mirror = BTreeMap<ObjectKey, MirrorRow>;

/// Merges `incoming` into the mirror. The caller holds the locks of all its objects.
///
/// # Errors
/// Those of the database.
pub async fn merge(conn: &mut PgConnection, incoming: Incoming) -> Result<Merged, sqlx::Error> {
    let keys = incoming.keys();
    let before: Mirror = rows::load(conn, keys.iter()).await?.into_iter().map(|row| (row.key.clone(), row)).collect();
    let mut mirror = before.clone();
    let mut merged = Merged::default();
    for one in incoming.nested {
        merge_nested(&mut mirror, one, &mut merged);
    }
    for one in incoming.reads {
        merge_read(&mut mirror, one, &mut merged);
    }
    for one in &incoming.arrivals {
        merge_stage(&mut mirror, one, &mut merged);
    }
    for (key, head) in heads::of(conn, &mirror, incoming.arrivals).await? {
        merge_head(&mut mirror, &key, head, &mut merged);
    }
    let changed: Vec<MirrorRow> = mirror.into_values().filter(|row| before.get(&row.key) != Some(row)).collect();
    for row in &changed {
        let owners = [before.get(&row.key).and_then(|row| row.customer_id.as_ref()), row.customer_id.as_ref()];
        let owners = owners.into_iter().flatten();
        merged.customers.extend(owners.map(|id| ObjectKey::new(&row.key.account, "customer", id)));
        merged.changed.insert(row.key.clone());
    }
    if !changed.is_empty() {
        rows::save(conn, &changed).await?;
    }
    Ok(merged)
}

/// The row of an object, as new where there is none.
fn entry<'a>(mirror: &'a mut Mirror, key: &ObjectKey) -> &'a mut MirrorRow {
    mirror.entry(key.clone()).or_insert_with(|| MirrorRow::new(key.clone()))
}

/// The newest content wins. At one version an event beats a read, which beats a nested object, and of two nested ones the
/// greater text stands, the same on every machine. A copy gives way to everything else, whatever its version. Returns
/// whether it was taken.
fn take(row: &mut MirrorRow, content: Content) -> bool {
    let order = |content: &Content| (remade_at(content), content.version, content.origin);
    if let Some(current) = &row.content
        && (order(current), &current.json) >= (order(&content), &content.json)
    {
        return false;
    }
    if content.origin == Origin::Embedded && differs(row, &content) {
        age_expansion(row, content.version);
    }
    set_content(row, content);
    true
}

/// Orders copies among each other, and before all other content: an id that a merchant chose can come back, and then the
/// carrier may show the object that had the id before. `None` for a copy is less than any time.
fn remade_at(content: &Content) -> (bool, Option<i64>) {
    let is_copy = content.origin == Origin::Copy;
    let created = || Document::parse_or_null(&content.json).root().get("created").integer();
    (!is_copy, if is_copy { created() } else { None })
}

/// Puts a content into its row, with all that follows from it.
fn set_content(row: &mut MirrorRow, content: Content) {
    let document = Document::parse_or_null(&content.json);
    let json = document.root();
    row.customer_id = customer_of(json);
    let named = reference::named(&row.key.object_type, json);
    row.refs = named.iter().map(|(kind, id)| related::reference_of(kind, id)).collect();
    row.content = Some(content);
}

/// Notes that what only reads carry may have changed then. Events of the object's own say so even where they show no
/// difference (other currencies of a price); only its creation does not, since whatever read finds it is later. A copy inside
/// another object, of which each subscription event has one, says so only where it differs.
fn age_expansion(row: &mut MirrorRow, at: OffsetDateTime) {
    row.expansion_stale_after = row.expansion_stale_after.max(Some(at));
}

/// Whether a copy shows something else than the known content, as far as rows read it.
fn differs(row: &MirrorRow, content: &Content) -> bool {
    let shown = |json: &str| price_of(&row.key, json).map_or_else(|| Err(json.to_owned()), Ok);
    row.content.as_ref().is_some_and(|known| shown(&known.json) != shown(&content.json))
}

/// A price as rows read it, which is alike in every API version.
fn price_of(key: &ObjectKey, json: &str) -> Option<PriceView> {
    let is_price = key.object_type == "price";
    is_price.then(|| PriceView::read(Document::parse(json).ok()?.root()).ok()).flatten()
}

fn merge_nested(mirror: &mut Mirror, one: Nested, merged: &mut Merged) {
    let row = entry(mirror, &one.key);
    let origin = if one.is_current { Origin::Embedded } else { Origin::Copy };
    let rival = row.content.as_ref().filter(|current| current.version == one.version && current.json != one.json);
    if one.is_current && rival.is_some_and(|current| current.origin == Origin::Embedded) {
        merged.doubts.insert(one.key.clone(), one.version);
    }
    let Nested { version, event_id, json, .. } = one;
    take(row, Content { version, origin, event_id, json, circuit: false });
}

fn merge_read(mirror: &mut Mirror, one: Read, merged: &mut Merged) {
    let row = entry(mirror, &one.key);
    let version = one.version;
    match one.found {
        Found::Content(json) => {
            if is_shared(&one.key) {
                row.revived_at = row.revived_at.max(Some(version));
            }
            let event_id = "read".to_owned();
            if take(row, Content { version, origin: Origin::Read, event_id, json, circuit: false }) {
                merged.read.insert(one.key.clone());
            }
        }
        Found::Stub => {
            // its version lies before the read by the margin, and so perhaps before the deletion: whatever is known stands
            let at = if is_shared(&one.key) { version } else { row.deleted_at.unwrap_or(version) };
            delete(row, at);
            merged.read.insert(one.key.clone());
        }
        Found::Nothing => row.missing_at = row.missing_at.max(Some(version)),
    }
    let Some(json) = one.expansion else { return };
    if row.expansion.as_ref().is_none_or(|known| known.version < version) {
        row.expansion = Some(Expansion { version, json });
    }
    if Some(version) < row.expansion_stale_after {
        merged.read_too_early.insert(one.key);
    }
}

/// Deletion is a time beside the content, never instead of it: older content still fills in under it.
///
/// `customer.subscription.deleted` makes none: it is an update to `canceled`.
fn merge_stage(mirror: &mut Mirror, one: &Arrival, merged: &mut Merged) {
    let shared = is_shared(&one.key);
    let created = one.snapshot.created;
    match one.snapshot.stage {
        Stage::Created if shared => {
            let row = entry(mirror, &one.key);
            row.revived_at = row.revived_at.max(Some(created));
        }
        Stage::Deleted if one.key.object_type != "subscription" => {
            merged.applied.insert(one.snapshot.event_id.clone());
            let row = entry(mirror, &one.key);
            if one.key.object_type == "customer" {
                row.customer_id = Some(one.key.object_id.clone());
            }
            delete(row, created);
            if shared && row.revived_at == row.deleted_at {
                // made anew and deleted within one second: which came last?
                merged.doubts.insert(one.key.clone(), created);
            }
        }
        _ => {}
    }
}

/// An object whose id a merchant chose can be deleted again and again, and the last time counts. Any other is deleted
/// once, and the event says when.
fn delete(row: &mut MirrorRow, at: OffsetDateTime) {
    let shared = is_shared(&row.key);
    row.deleted_at = if shared { row.deleted_at.max(Some(at)) } else { Some(at) };
}

/// Puts the head of an object's events into its row, unless a newer read stands there.
fn merge_head(mirror: &mut Mirror, key: &ObjectKey, head: super::history::Head, merged: &mut Merged) {
    let version = head.snapshot.created;
    let row = entry(mirror, key);
    // a circuit may lead back to an older second only among events: what was read stays until an event is newer
    let newer = row.seen().is_some_and(|current| current.origin != Origin::Event && current.version > version);
    let Some(json) = head.snapshot.content.filter(|_| !newer) else { return };
    if head.doubt {
        merged.doubts.insert(key.clone(), version);
    }
    merged.applied.insert(head.snapshot.event_id.clone());
    let stage = head.snapshot.stage;
    let content =
        Content { version, origin: Origin::Event, event_id: head.snapshot.event_id, json, circuit: head.circuit };
    if row.content.as_ref() != Some(&content) {
        if stage != Stage::Created {
            age_expansion(row, version);
        }
        set_content(row, content);
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn read_too_early(found: Found, expansion: Option<&str>) -> bool {
        let key = ObjectKey::new("", "price", "price_1");
        let then = OffsetDateTime::UNIX_EPOCH;
        let mut row = MirrorRow::new(key.clone());
        row.expansion = Some(Expansion { version: then, json: "{}".to_owned() });
        row.expansion_stale_after = Some(then + Duration::MINUTE);
        let mut mirror = Mirror::from([(key.clone(), row)]);
        let mut merged = Merged::default();
        let expansion = expansion.map(str::to_owned);
        merge_read(&mut mirror, Read { key, version: then, found, expansion }, &mut merged);
        !merged.read_too_early.is_empty()
    }

    #[test]
    fn only_a_read_that_carries_what_has_changed_can_be_too_early_for_it() {
        assert!(read_too_early(Found::Content("{}".to_owned()), Some("{}")));
        assert!(!read_too_early(Found::Content("{}".to_owned()), None), "no later read would carry it either");
        assert!(!read_too_early(Found::Nothing, None));
    }
}
