//! An in-memory mirror for tests of projections. It answers their questions as the worker does from the database.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::graph::{Graph, Node, Question};
use super::payment::Payment;
use super::{CustomerRows, Projected, Rules, customer};
use crate::domain::contact::BillingContact;
use crate::domain::object::ObjectKey;
use crate::domain::subscription::Subscription;
use crate::stripe::json::json;
use crate::stripe::json::{Document, Json};
use crate::stripe::nested::{nested, type_of};
use crate::stripe::reference::{customer_of, named};

/// The default version of objects.
pub(super) const NOW: OffsetDateTime = time::macros::datetime!(2026-06-01 0:00 UTC);

#[derive(Default, Clone)]
pub(super) struct World {
    objects: BTreeMap<ObjectKey, Node>,
    payments: BTreeMap<String, Vec<Payment>>,
}

impl World {
    /// Adds an object and its nested objects, as the mirror does.
    pub(super) fn put(mut self, text: &str) -> Self {
        self.add(text, 0);
        self
    }

    /// Adds an object with a version `seconds` later.
    pub(super) fn put_later(mut self, seconds: i64, text: &str) -> Self {
        self.add(text, seconds);
        self
    }

    fn add(&mut self, text: &str, seconds: i64) {
        let json = json(text);
        let inside = nested(json).into_iter().map(|one| (one.object_type, one.object_id, one.content, one.is_current));
        let kind = type_of(json).expect("an object has a type");
        let own = (kind, json.get("id").text().unwrap(), json, true);
        for (kind, id, content, is_current) in inside.chain([own]) {
            let node = self.node(kind, &id);
            if !is_current && node.content.is_some() {
                continue;
            }
            node.is_copy = !is_current;
            node.content = Some(Document::parse(content.raw().to_owned()).unwrap());
            node.version = Some(NOW + Duration::seconds(seconds));
        }
    }

    fn node(&mut self, kind: &str, id: &str) -> &mut Node {
        self.objects.entry(ObjectKey::new("", kind, id)).or_default()
    }

    /// Deletes an object `seconds` later.
    pub(super) fn delete(mut self, kind: &str, id: &str, seconds: i64) -> Self {
        self.node(kind, id).deleted_at = Some(NOW + Duration::seconds(seconds));
        self
    }

    /// Records a read that returned 404.
    pub(super) fn missing(mut self, kind: &str, id: &str) -> Self {
        self.node(kind, id).not_found_at = Some(NOW);
        self
    }

    /// Adds expansions, fetched `seconds` later.
    pub(super) fn expand(mut self, kind: &str, id: &str, seconds: i64, text: &str) -> Self {
        let node = self.node(kind, id);
        (node.expansion, node.expansion_version) =
            (Some(Document::parse(text.to_owned()).unwrap()), Some(NOW + Duration::seconds(seconds)));
        self
    }

    /// Records a change of the object `seconds` later.
    pub(super) fn age(mut self, kind: &str, id: &str, seconds: i64) -> Self {
        self.node(kind, id).expansion_stale_after = Some(NOW + Duration::seconds(seconds));
        self
    }

    pub(super) fn pay(mut self, subscription: &str, payments: Vec<Payment>) -> Self {
        self.payments.insert(subscription.to_owned(), payments);
        self
    }

    /// Projects until no question is left.
    pub(super) fn project<T>(&self, project: impl Fn(&Graph) -> T) -> T {
        let mut graph = Graph::new("");
        for _ in 0..20 {
            let result = project(&graph);
            let questions = graph.take_questions();
            if questions.is_empty() {
                return result;
            }
            for question in questions {
                self.answer(&mut graph, question);
            }
        }
        panic!("the projection does not stop asking");
    }

    fn answer(&self, graph: &mut Graph, question: Question) {
        let keys: Vec<ObjectKey> = match &question {
            Question::Object(key) => return graph.put(key.clone(), self.objects.get(key).cloned()),
            Question::Payments(key) => {
                let payments = self.payments.get(&key.object_id).cloned().unwrap_or_default();
                return graph.put_payments(key.clone(), payments);
            }
            Question::Of(customer, kind) => {
                self.keys(kind, |json| customer_of(json) == Some(customer.object_id.clone()))
            }
            Question::Referencing(key, kind) => self.keys(kind, |json| {
                named(kind, json).iter().any(|(kind, id)| *kind == key.object_type && *id == key.object_id)
            }),
        };
        for key in &keys {
            graph.put(key.clone(), self.objects.get(key).cloned());
        }
        graph.put_list(question, keys);
    }

    fn keys(&self, kind: &str, wanted: impl Fn(Json<'_>) -> bool) -> Vec<ObjectKey> {
        let of_kind = self.objects.iter().filter(|(key, _)| key.object_type == kind);
        of_kind.filter(|(_, node)| wanted(node.json())).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn rows(&self) -> CustomerRows {
        self.project(|graph| customer("cus_1", graph, &Rules { past_due_active: true }))
    }

    pub(super) fn contact(&self) -> Projected<BillingContact> {
        self.rows().contact.unwrap()
    }

    pub(super) fn subscription(&self) -> Projected<Subscription> {
        self.rows().subscriptions.remove(0)
    }
}

/// The needs as `type/id`.
pub(super) fn needs<T>(projected: &Projected<T>) -> Vec<String> {
    projected.needs.iter().map(|key| format!("{}/{}", key.object_type, key.object_id)).collect()
}
