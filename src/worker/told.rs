//! What an object tells together with all that travels inside it, whether it came by an event or by a read.
//!
//! PURE. Called by [`super::resolve`] for events and by the fetcher for reads.

use std::collections::BTreeSet;

use super::fetch::look_up;
use crate::domain::object::ObjectKey;
use crate::mirror::facts::fold::{self, Fact, Report};
use crate::mirror::merge::Nested;
use crate::stripe::json::Json;
use crate::stripe::nested;
use crate::stripe::reference;

/// The most objects inside one that are merged with it. Stripe's lists have at most 100 objects; the rest is fetched.
const MOST_INSIDE: usize = 500;

/// What one object tells, apart from its own content.
#[derive(Default)]
pub(super) struct Told {
    /// The objects inside it.
    pub(super) nested: Vec<Nested>,
    /// The objects that it, or one inside it, names.
    pub(super) named: BTreeSet<ObjectKey>,
    /// The customers that it, or one inside it, names.
    pub(super) customers: BTreeSet<ObjectKey>,
    /// What is fetched because there are too many objects inside: those beyond, or what carries them.
    pub(super) beyond: BTreeSet<ObjectKey>,
    /// The facts that they state.
    pub(super) facts: Vec<Fact>,
}

impl Told {
    /// What `object` tells.
    pub(super) fn by(key: &ObjectKey, object: Json<'_>, report: Report<'_>) -> Self {
        let object_key = |kind: &str, id: &str| ObjectKey::new(&key.account, kind, id);
        let mut told = Self::default();
        let mut inside = nested::nested(object);
        for one in inside.drain(MOST_INSIDE.min(inside.len())..) {
            let is_readable = look_up::is_readable(one.object_type);
            told.beyond.insert(if is_readable { object_key(one.object_type, &one.object_id) } else { key.clone() });
        }
        let nested = report.of_nested();
        let all = inside.iter().map(|one| (one.object_type, one.content, one.is_current, nested));
        for (kind, content, is_current, report) in all.chain([(key.object_type.as_str(), object, true, report)]) {
            let facts = fold::fold(kind, content, report).into_iter();
            // a copy does not say what a subscription is at the carrier's time
            told.facts.extend(facts.filter(|fact| is_current || !matches!(fact, Fact::Timeline { .. })));
            told.named.extend(reference::named(kind, content).iter().map(|(kind, id)| object_key(kind, id)));
            told.customers.extend(reference::customer_of(content).map(|id| object_key("customer", &id)));
        }
        told.nested.extend(inside.into_iter().map(|one| Nested {
            key: object_key(one.object_type, &one.object_id),
            event_id: report.source.to_owned(),
            version: report.at,
            is_current: one.is_current,
            json: one.content.raw().to_owned(),
        }));
        told
    }
}
