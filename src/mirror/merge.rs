//! Merges events and reads into the mirror, so that the order of their arrival does not matter.
//!
//! Called by the worker in its transaction, after the locks. An object whose newest second has one event costs only a
//! comparison; the archive is read only if events share a second.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::incoming::{Arrival, Incoming, Nested, Read, ReadResult, Written};
use super::redacted::Redacted;
use super::related::is_shared;
use super::same_second::ChangeKind;
use super::store::{self, Content, ContentSource, Expansion, Mirror, MirrorRow};
use super::{heads, related};
use crate::database::Connection;
use crate::domain::object::{KnownContent, ObjectKey};
use crate::stripe::json::Document;
use crate::stripe::reference::{self, customer_of};
use crate::stripe::views::price::PriceView;

/// Result of a merge.
#[derive(Debug, Default)]
pub struct Merged {
    /// The objects whose row in the mirror changed.
    pub changed: BTreeSet<ObjectKey>,
    /// The customers that those objects belonged to before, and belong to now.
    pub customers: BTreeSet<ObjectKey>,
    /// The events that set the current state of their object, and the deletions that took effect.
    pub applied: BTreeSet<String>,
    /// The objects whose read set their current state.
    pub read: BTreeSet<ObjectKey>,
    /// The objects whose read was too early to show a change in the fields that only reads carry.
    pub read_too_early: BTreeSet<ObjectKey>,
    /// The objects with an ambiguous order of events, and the second of it.
    pub ambiguities: BTreeMap<ObjectKey, OffsetDateTime>,
}

/// Merges `incoming` into the mirror. The caller holds the locks of all its objects.
///
/// # Errors
/// Database errors.
pub async fn merge(conn: &mut Connection, mut incoming: Incoming) -> Result<Merged, sqlx::Error> {
    let keys = incoming.keys();
    let before: Mirror = store::load(conn, keys.iter()).await?.into_iter().map(|row| (row.key.clone(), row)).collect();
    let mut redacted = Redacted::of_events(&incoming.arrivals);
    redacted.ask(conn, &before).await?;
    redacted.remove_from_incoming(&before, &mut incoming);
    let ambiguous = redacted.take_ambiguous(&before, &mut incoming.arrivals);
    let mut mirror = before.clone();
    let mut merged = Merged { ambiguities: ambiguous, ..Merged::default() };
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
    redacted.ask(conn, &mirror).await?;
    redacted.remove_from_rows(&before, &mut mirror);
    let changed: Vec<MirrorRow> = mirror.into_values().filter(|row| before.get(&row.key) != Some(row)).collect();
    for row in &changed {
        let owners = [before.get(&row.key).and_then(|row| row.customer_id.as_ref()), row.customer_id.as_ref()];
        let owners = owners.into_iter().flatten();
        merged.customers.extend(owners.map(|id| ObjectKey::new(&row.key.account, "customer", id)));
        merged.changed.insert(row.key.clone());
    }
    if !changed.is_empty() {
        store::save(conn, &changed).await?;
    }
    Ok(merged)
}

/// The row of an object; a new one if there is none.
fn entry<'a>(mirror: &'a mut Mirror, key: &ObjectKey) -> &'a mut MirrorRow {
    mirror.entry(key.clone()).or_insert_with(|| MirrorRow::new(key.clone()))
}

/// The newest content wins. At equal versions an event beats the answer to a write, that beats a read, a read beats a
/// nested object, and of two nested objects the greater text wins, so that the result is deterministic. Any other content
/// replaces a copy, whatever its version. Returns whether `content` was taken.
fn take(row: &mut MirrorRow, content: Content) -> bool {
    let order = |content: &Content| (remade_at(content), content.version, content.origin);
    if let Some(current) = &row.content
        && (order(current), &current.json) >= (order(&content), &content.json)
    {
        return false;
    }
    if content.origin == ContentSource::Nested && differs(row, &content) {
        age_expansion(row, content.version);
    }
    set_content(row, content);
    true
}

/// Orders copies among themselves, and below all other content. An id that the merchant chose can be reused, and then
/// the carrier may show the object that had the id before. `None` for a copy is less than any time.
fn remade_at(content: &Content) -> (bool, Option<i64>) {
    let is_copy = content.origin == ContentSource::Copy;
    let created = || Document::parse_or_null(&content.json).root().get("created").integer();
    (!is_copy, if is_copy { created() } else { None })
}

/// Stores a content in its row, with the columns derived from it.
fn set_content(row: &mut MirrorRow, content: Content) {
    let document = Document::parse_or_null(&content.json);
    let json = document.root();
    row.customer_id = customer_of(json);
    let named = reference::named(&row.key.object_type, json);
    row.refs = named.iter().map(|(kind, id)| related::reference_of(kind, id)).collect();
    row.content = Some(content);
}

/// Records that the fields that only reads carry may have changed at this time. The object's own events imply it even
/// if they show no difference (other currencies of a price). Only its creation does not, because every read that finds
/// the object is later. A nested copy, of which each subscription event has one, implies it only if it differs.
fn age_expansion(row: &mut MirrorRow, at: OffsetDateTime) {
    row.expansion_stale_after = row.expansion_stale_after.max(Some(at));
}

/// Whether a copy differs from the known content in the fields that rows read.
fn differs(row: &MirrorRow, content: &Content) -> bool {
    let shown = |json: &str| price_of(&row.key, json).map_or_else(|| Err(json.to_owned()), Ok);
    row.content.as_ref().is_some_and(|known| shown(&known.json) != shown(&content.json))
}

/// A price as rows read it, which is equal in every API version.
fn price_of(key: &ObjectKey, json: &str) -> Option<PriceView> {
    let is_price = key.object_type == "price";
    is_price.then(|| PriceView::read(Document::parse(json).ok()?.root()).ok()).flatten()
}

fn merge_nested(mirror: &mut Mirror, one: Nested, merged: &mut Merged) {
    let row = entry(mirror, &one.key);
    let origin = if one.is_current { ContentSource::Nested } else { ContentSource::Copy };
    let rival = row.content.as_ref().filter(|current| current.version == one.version && current.json != one.json);
    if one.is_current && rival.is_some_and(|current| current.origin == ContentSource::Nested) {
        merged.ambiguities.insert(one.key.clone(), one.version);
    }
    let Nested { version, event_id, json, .. } = one;
    take(row, Content { version, origin, event_id, json, depends_on_previous_second: false });
}

fn merge_read(mirror: &mut Mirror, one: Read, merged: &mut Merged) {
    let row = entry(mirror, &one.key);
    let version = one.version;
    match one.found {
        ReadResult::Object(json) => {
            if is_shared(&one.key) {
                row.recreated_at = row.recreated_at.max(Some(version));
            }
            let event_id = "read".to_owned();
            if take(
                row,
                Content { version, origin: ContentSource::Read, event_id, json, depends_on_previous_second: false },
            ) {
                merged.read.insert(one.key.clone());
            }
        }
        ReadResult::Written(json, written) => {
            if take_written(row, version, json, written) {
                merged.read.insert(one.key.clone());
            }
        }
        ReadResult::Deleted => {
            // its version lies before the read by the staleness margin, so perhaps before the deletion: a known time
            // stays
            let at = if is_shared(&one.key) { version } else { row.deleted_at.unwrap_or(version) };
            delete(row, at);
            merged.read.insert(one.key.clone());
        }
        ReadResult::NotFound => row.not_found_at = row.not_found_at.max(Some(version)),
    }
    let Some(json) = one.expansion else { return };
    if row.expansion.as_ref().is_none_or(|known| known.version < version) {
        row.expansion = Some(Expansion { version, json });
    }
    if Some(version) < row.expansion_stale_after {
        merged.read_too_early.insert(one.key);
    }
}

/// Takes the answer to a write. What was known before the write was sent is older, whatever its version: Stripe's times
/// are whole seconds, and an event of the same second, or a read, may have been merged before.
fn take_written(row: &mut MirrorRow, version: OffsetDateTime, json: String, written: Written) -> bool {
    let Written { cause, known } = written;
    let is_same = |known: &KnownContent| {
        row.content.as_ref().is_some_and(|now| now.version == known.version && now.event_id == known.event_id)
    };
    let known = known.filter(is_same);
    let version = known.as_ref().map_or(version, |known| version.max(known.version));
    let origin = ContentSource::Write;
    let content = Content { version, origin, event_id: cause, json, depends_on_previous_second: false };
    if known.is_none() {
        return take(row, content);
    }
    set_content(row, content);
    true
}

/// Deletion is a time beside the content and does not replace it: older content can still be filled in.
///
/// `customer.subscription.deleted` makes none: it is an update to `canceled`.
fn merge_stage(mirror: &mut Mirror, one: &Arrival, merged: &mut Merged) {
    let shared = is_shared(&one.key);
    let created = one.snapshot.created;
    match one.snapshot.stage {
        ChangeKind::Created if shared => {
            let row = entry(mirror, &one.key);
            row.recreated_at = row.recreated_at.max(Some(created));
        }
        ChangeKind::Deleted if one.key.object_type != "subscription" => {
            merged.applied.insert(one.snapshot.event_id.clone());
            let row = entry(mirror, &one.key);
            if one.key.object_type == "customer" {
                row.customer_id = Some(one.key.object_id.clone());
            }
            delete(row, created);
            if shared && row.recreated_at == row.deleted_at {
                // recreated and deleted within one second: the order is ambiguous
                merged.ambiguities.insert(one.key.clone(), created);
            }
        }
        _ => {}
    }
}

/// Records a deletion. An object whose id the merchant chose can be deleted repeatedly, and the last time counts. Any
/// other is deleted once, and the event has the time.
fn delete(row: &mut MirrorRow, at: OffsetDateTime) {
    let shared = is_shared(&row.key);
    row.deleted_at = if shared { row.deleted_at.max(Some(at)) } else { Some(at) };
}

/// Stores the head of an object's events in its row, unless the row has a newer read.
fn merge_head(mirror: &mut Mirror, key: &ObjectKey, head: super::history::Head, merged: &mut Merged) {
    let version = head.snapshot.created;
    let row = entry(mirror, key);
    // a circuit may lead back to an older second only among events: a read stays until an event is newer
    let newer = row.seen().is_some_and(|current| current.origin != ContentSource::Event && current.version > version);
    let Some(json) = head.snapshot.content.filter(|_| !newer) else { return };
    if head.ambiguous {
        merged.ambiguities.insert(key.clone(), version);
    }
    if head.is_before_write {
        return;
    }
    merged.applied.insert(head.snapshot.event_id.clone());
    let stage = head.snapshot.stage;
    let content = Content {
        version,
        origin: ContentSource::Event,
        event_id: head.snapshot.event_id,
        json,
        depends_on_previous_second: head.circuit,
    };
    if row.content.as_ref() != Some(&content) {
        if stage != ChangeKind::Created {
            age_expansion(row, version);
        }
        set_content(row, content);
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn read_too_early(found: ReadResult, expansion: Option<&str>) -> bool {
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
    fn only_a_read_with_an_expansion_can_be_too_early() {
        assert!(read_too_early(ReadResult::Object("{}".to_owned()), Some("{}")));
        assert!(!read_too_early(ReadResult::Object("{}".to_owned()), None), "no later read would carry it either");
        assert!(!read_too_early(ReadResult::NotFound, None));
    }
}
