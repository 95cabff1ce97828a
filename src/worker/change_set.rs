//! The change set: everything that one transaction applies, collected from events and reads. PURE.

use std::collections::{BTreeMap, BTreeSet};

use super::classify::ToMerge;
use super::extract::Extracted;
use super::fetched::FetchedObject;
use crate::domain::event::Reason;
use crate::domain::object::ObjectKey;
use crate::jobs::requests::JobRequests;
use crate::ledger::prove::Proof;
use crate::mirror::facts::fold::Fact;
use crate::mirror::facts::report::{READ, Report};
use crate::mirror::incoming::{Incoming, Read, ReadResult};
use crate::stripe::json::{Document, Json};

/// Reasons noted while objects were projected.
pub(crate) type Notes = BTreeMap<ObjectKey, BTreeSet<Reason>>;

/// Why objects or customers are projected: event ids, or words such as `read`.
pub(crate) type Causes = BTreeMap<ObjectKey, BTreeSet<String>>;

/// Everything that one transaction applies.
#[derive(Default)]
pub(super) struct ChangeSet {
    /// The events and reads to merge.
    pub(super) incoming: Incoming,
    /// The facts that these objects state, each with its account.
    pub(super) facts: Vec<(String, Fact)>,
    /// The objects and customers that each cause (an event id, or `read`) affects.
    pub(super) affected: BTreeMap<String, Affected>,
    /// Jobs to queue whatever the merge does.
    pub(super) job_requests: JobRequests,
    /// Reasons noted about objects so far.
    pub(super) notes: Notes,
    /// Objects to project even if the merge changes nothing, with causes: their rows may be wrong.
    pub(super) force_project: Causes,
    /// The changes of ours at Stripe that caused these events.
    pub(super) proofs: Vec<Proof>,
    /// Whether the data is historical. Most of it changes no row, so only customers whose rows it can affect are
    /// projected.
    pub(super) historical: bool,
}

/// What one cause affects.
#[derive(Default)]
pub(super) struct Affected {
    /// The objects that it merges.
    pub(super) objects: BTreeSet<ObjectKey>,
    /// The objects that those reference.
    pub(super) named: BTreeSet<ObjectKey>,
    /// The customers that it names directly.
    pub(super) customers: BTreeSet<ObjectKey>,
    /// Whether it states facts about payments, which count even if the object has newer content.
    pub(super) pays: bool,
}

impl ChangeSet {
    /// Adds a snapshot event.
    pub(super) fn add_event(&mut self, event: ToMerge) {
        let ToMerge { arrival, extracted, wanted, proof } = event;
        self.proofs.extend(proof);
        self.add_extracted(&arrival.snapshot.event_id, &arrival.key, extracted);
        for key in wanted {
            self.notes.entry(arrival.key.clone()).or_default().insert(Reason::NeedsFetch);
            self.job_requests.fetch(key, None);
        }
        self.incoming.arrivals.push(arrival);
    }

    /// Adds what was extracted from an object: nested objects, references and facts. `cause` is the event id, or
    /// `read`.
    pub(super) fn add_extracted(&mut self, cause: &str, key: &ObjectKey, extracted: Extracted) {
        for unmerged in extracted.unmerged {
            self.notes.entry(key.clone()).or_default().insert(Reason::NeedsFetch);
            self.job_requests.fetch(unmerged, None);
        }
        let touch = self.affected.entry(cause.to_owned()).or_default();
        touch.objects.extend(extracted.nested.iter().map(|one| one.key.clone()).chain([key.clone()]));
        touch.named.extend(extracted.named);
        touch.customers.extend(extracted.customers);
        touch.pays |= extracted.facts.iter().any(is_of_payment);
        self.facts.extend(extracted.facts.into_iter().map(|fact| (key.account.clone(), fact)));
        self.incoming.nested.extend(extracted.nested);
    }

    /// Adds an object that was read, and what is extracted from it. `cause` becomes the cause in `row_changes`.
    pub(super) fn add_fetched(&mut self, fetched: FetchedObject, cause: &str) {
        let FetchedObject { key, version, json, expansion, written } = fetched;
        let document = Document::parse_or_null(json.as_deref().unwrap_or("null"));
        let object = document.root();
        let is_stub = object.get("deleted").boolean() == Some(true);
        let carried = Document::parse_or_null(expansion.as_deref().unwrap_or("null"));
        let carried = carried.root();
        let report = Report { at: version, source: READ, previous: Json::NULL, all_items: carried.get("items") };
        // nothing can be extracted from a stub
        let mut extracted = if is_stub { Extracted::default() } else { Extracted::by(&key, object, report) };
        // another read would return the same
        extracted.unmerged.remove(&key);
        let found = match (json, written) {
            (None, _) => ReadResult::NotFound,
            (Some(_), _) if is_stub => ReadResult::Deleted,
            (Some(json), None) => ReadResult::Object(json),
            (Some(json), Some(written)) => ReadResult::Written(json, written),
        };
        self.add_extracted(cause, &key, extracted);
        self.incoming.reads.push(Read { key, version, found, expansion });
    }

    /// Drops the copies of these objects that were nested in others.
    pub(super) fn leave_out(&mut self, keys: &BTreeSet<ObjectKey>) {
        self.incoming.nested.retain(|one| !keys.contains(&one.key));
        let own: BTreeSet<ObjectKey> = self.incoming.reads.iter().map(|one| one.key.clone()).collect();
        for touch in self.affected.values_mut() {
            touch.objects.retain(|key| own.contains(key) || !keys.contains(key));
        }
    }

    pub(super) fn objects(&self) -> BTreeSet<ObjectKey> {
        self.affected.values().flat_map(|touch| &touch.objects).cloned().collect()
    }

    pub(super) fn named(&self) -> BTreeSet<ObjectKey> {
        self.affected.values().flat_map(|touch| &touch.named).cloned().collect()
    }
}

/// Whether the fact counts even if the object has newer content.
fn is_of_payment(fact: &Fact) -> bool {
    !matches!(fact, Fact::Trial { .. } | Fact::Timeline { .. } | Fact::Phase { .. })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn a_read_with_too_many_objects_does_not_queue_itself() {
        let cards: Vec<_> = (0..600)
            .map(|n| serde_json::json!({ "id": format!("card_{n}"), "object": "card", "customer": "cus_1" }))
            .collect();
        let customer = serde_json::json!({ "id": "cus_1", "object": "customer", "sources": { "data": cards } });
        let key = ObjectKey::new("", "customer", "cus_1");
        let mut changes = ChangeSet::default();
        let (at, margin) = (OffsetDateTime::UNIX_EPOCH, Duration::ZERO);
        changes.add_fetched(FetchedObject::of_json(key.clone(), customer.to_string(), at, margin), READ);
        assert_eq!(changes.incoming.nested.len(), 500);
        assert!(!changes.job_requests.has_fetch(&key), "it would be fetched for ever");
    }
}
