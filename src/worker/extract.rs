//! Extracts from an object, whether from an event or a read: the objects nested in it, its references and its facts.
//!
//! PURE. Called by [`super::classify`] for events and by the fetcher for reads.

use std::collections::BTreeSet;

use super::fetch::object_reader;
use crate::domain::object::ObjectKey;
use crate::mirror::facts::fold::{self, Fact};
use crate::mirror::facts::report::Report;
use crate::mirror::incoming::Nested;
use crate::stripe::json::Json;
use crate::stripe::nested;
use crate::stripe::reference;

/// Maximum number of nested objects merged with their carrier. Stripe's lists have at most 100 objects; the rest is
/// fetched.
const MOST_INSIDE: usize = 500;

/// What one object contains besides its own content.
#[derive(Default)]
pub(super) struct Extracted {
    /// The objects nested in it.
    pub(super) nested: Vec<Nested>,
    /// The objects that it, or an object nested in it, references.
    pub(super) named: BTreeSet<ObjectKey>,
    /// The customers that it, or an object nested in it, names.
    pub(super) customers: BTreeSet<ObjectKey>,
    /// Objects to fetch because too many are nested: those beyond the maximum, or their carrier.
    pub(super) unmerged: BTreeSet<ObjectKey>,
    /// The facts that all these objects state.
    pub(super) facts: Vec<Fact>,
}

impl Extracted {
    /// Extracts from `object`.
    pub(super) fn by(key: &ObjectKey, object: Json<'_>, report: Report<'_>) -> Self {
        let object_key = |kind: &str, id: &str| ObjectKey::new(&key.account, kind, id);
        let mut extracted = Self::default();
        let mut inside = nested::nested(object);
        for one in inside.drain(MOST_INSIDE.min(inside.len())..) {
            let is_readable = object_reader::is_readable(one.object_type);
            extracted.unmerged.insert(if is_readable {
                object_key(one.object_type, &one.object_id)
            } else {
                key.clone()
            });
        }
        let nested = report.of_nested();
        let all = inside.iter().map(|one| (one.object_type, one.content, one.is_current, nested));
        for (kind, content, is_current, report) in all.chain([(key.object_type.as_str(), object, true, report)]) {
            let facts = fold::fold(kind, content, report).into_iter();
            // a copy does not show the subscription's state at the carrier's time
            extracted.facts.extend(facts.filter(|fact| is_current || !matches!(fact, Fact::Timeline { .. })));
            extracted.named.extend(reference::named(kind, content).iter().map(|(kind, id)| object_key(kind, id)));
            extracted.customers.extend(reference::customer_of(content).map(|id| object_key("customer", &id)));
        }
        extracted.nested.extend(inside.into_iter().map(|one| Nested {
            key: object_key(one.object_type, &one.object_id),
            event_id: report.source.to_owned(),
            version: report.at,
            is_current: one.is_current,
            json: one.content.raw().to_owned(),
        }));
        extracted
    }
}
