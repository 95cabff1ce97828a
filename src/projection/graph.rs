//! The objects that a projection reads, and its lookups that are not loaded yet.
//!
//! A projection does not declare its dependencies: it looks objects up here, and the graph records each miss as a
//! question. The caller answers all questions in bulk and projects again, until no question is left. So the
//! dependencies of a field are declared in one place: the code that reads it. PURE; filled by the worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::payment::Payment;
use crate::domain::object::ObjectKey;
use crate::stripe::json::{Document, Json};

/// Mirrored state of one object; empty by default.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The newest content; `None` if only its absence is known (deleted as a bare stub, or 404).
    pub content: Option<Document<'static>>,
    /// Version of the content.
    pub version: Option<OffsetDateTime>,
    /// Whether the content is only a copy inside another object, as of another time or in another scope.
    pub is_copy: bool,
    /// When the object was deleted in Stripe. The content may still be known.
    pub deleted_at: Option<OffsetDateTime>,
    /// Version of the newest read that returned 404, unless newer content is known.
    pub not_found_at: Option<OffsetDateTime>,
    /// Expansions, which only reads contain (`currency_options`, `line_items`, `payments`), as one JSON object.
    pub expansion: Option<Document<'static>>,
    /// Version of the expansions.
    pub expansion_version: Option<OffsetDateTime>,
    /// The expansions are stale unless their version is later than this.
    pub expansion_stale_after: Option<OffsetDateTime>,
}

impl Node {
    /// The content for a view; null if there is none.
    pub fn json(&self) -> Json<'_> {
        self.content.as_ref().map_or(Json::NULL, Document::root)
    }

    /// Whether the object was deleted, or the newest read did not find it; then it can no longer be bought or redeemed.
    pub fn is_gone(&self) -> bool {
        self.deleted_at.is_some() || self.not_found_at.is_some()
    }

    /// Whether the expansions must be fetched: they never were, or the object has changed since.
    pub fn needs_expansion(&self) -> bool {
        self.expansion_version.is_none() || self.is_expansion_stale()
    }

    /// Whether the object has changed since the expansions were fetched.
    pub fn is_expansion_stale(&self) -> bool {
        self.expansion_version.is_some() && self.expansion_version < self.expansion_stale_after
    }

    /// The expansions; null if they were never fetched.
    pub fn expansion(&self) -> Json<'_> {
        self.expansion.as_ref().map_or(Json::NULL, Document::root)
    }
}

/// Whether an object must be fetched because it is unknown, or known only as a copy of another time or scope. A deleted
/// object, or one that was not found, cannot be fetched.
pub fn is_unseen(node: Option<&Node>) -> bool {
    node.is_none_or(|node| (node.content.is_none() || node.is_copy) && !node.is_gone())
}

/// A lookup of a projection that is not loaded yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// One object.
    Object(ObjectKey),
    /// The objects of this type that belong to this customer.
    Of(ObjectKey, &'static str),
    /// The objects of this type that reference this object.
    Referencing(ObjectKey, &'static str),
    /// The payments of this subscription.
    Payments(ObjectKey),
}

/// The loaded objects related to some customers of one account.
#[derive(Default)]
pub struct Graph {
    account: String,
    objects: BTreeMap<ObjectKey, Option<Node>>,
    lists: BTreeMap<Question, Vec<ObjectKey>>,
    payments: BTreeMap<ObjectKey, Vec<Payment>>,
    questions: RefCell<BTreeSet<Question>>,
}

impl Graph {
    /// Creates an empty graph of one account; the empty string is the key's own account.
    pub fn new(account: &str) -> Self {
        Self { account: account.to_owned(), ..Self::default() }
    }

    /// The account whose objects these are.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The key of an object of this account.
    pub fn key(&self, object_type: &str, object_id: &str) -> ObjectKey {
        ObjectKey::new(&self.account, object_type, object_id)
    }

    /// Returns the mirrored state of an object; `None` if it is unknown or not loaded yet.
    pub fn get(&self, object_type: &str, object_id: &str) -> Option<&Node> {
        let key = self.key(object_type, object_id);
        match self.objects.get(&key) {
            Some(node) => node.as_ref(),
            None => self.record_miss(Question::Object(key)),
        }
    }

    /// Returns the objects of a type that belong to a customer, by id.
    pub fn of_customer(&self, customer_id: &str, object_type: &'static str) -> Vec<(&ObjectKey, &Node)> {
        self.list(Question::Of(self.key("customer", customer_id), object_type))
    }

    /// Returns the objects of type `by` that reference an object, by id; for example the payments of an invoice.
    pub fn referencing(&self, object_type: &str, object_id: &str, by: &'static str) -> Vec<(&ObjectKey, &Node)> {
        self.list(Question::Referencing(self.key(object_type, object_id), by))
    }

    /// Returns all known charges of a subscription.
    pub fn payments(&self, subscription_id: &str) -> &[Payment] {
        let key = self.key("subscription", subscription_id);
        match self.payments.get(&key) {
            Some(payments) => payments.as_slice(),
            None => self.record_miss(Question::Payments(key)).unwrap_or_default(),
        }
    }

    fn list(&self, question: Question) -> Vec<(&ObjectKey, &Node)> {
        match self.lists.get(&question) {
            Some(keys) => keys.iter().filter_map(|key| Some((key, self.objects.get(key)?.as_ref()?))).collect(),
            None => self.record_miss(question).unwrap_or_default(),
        }
    }

    /// Records a question, which has no answer yet.
    fn record_miss<T>(&self, question: Question) -> Option<T> {
        self.questions.borrow_mut().insert(question);
        None
    }

    /// Takes the questions recorded since the last call.
    pub fn take_questions(&mut self) -> BTreeSet<Question> {
        self.questions.take()
    }

    /// Answers [`Question::Object`]; `None` if the mirror has no row.
    pub fn put(&mut self, key: ObjectKey, node: Option<Node>) {
        self.objects.insert(key, node);
    }

    /// Answers [`Question::Of`] and [`Question::Referencing`]; the objects themselves are added by [`Graph::put`].
    pub fn put_list(&mut self, question: Question, mut keys: Vec<ObjectKey>) {
        keys.sort();
        self.lists.insert(question, keys);
    }

    /// Answers [`Question::Payments`].
    pub fn put_payments(&mut self, subscription: ObjectKey, payments: Vec<Payment>) {
        self.payments.insert(subscription, payments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(content: &str) -> Node {
        Node { content: Some(Document::parse(content.to_owned()).unwrap()), ..Node::default() }
    }

    #[test]
    fn a_missing_object_becomes_one_question() {
        let mut graph = Graph::new("");
        assert!(graph.get("customer", "cus_1").is_none() && graph.of_customer("cus_1", "subscription").is_empty());
        assert!(graph.get("customer", "cus_1").is_none() && graph.payments("sub_1").is_empty());
        let customer = graph.key("customer", "cus_1");
        let expected = [
            Question::Object(customer.clone()),
            Question::Of(customer, "subscription"),
            Question::Payments(graph.key("subscription", "sub_1")),
        ];
        assert_eq!(graph.take_questions(), BTreeSet::from(expected));
        assert_eq!(graph.take_questions(), BTreeSet::new());
    }

    #[test]
    fn an_answered_question_is_not_repeated() {
        let mut graph = Graph::new("");
        let (known, list) = (graph.key("price", "price_1"), Question::Of(graph.key("customer", "cus_1"), "discount"));
        graph.put(known.clone(), Some(node(r#"{"id":"price_1"}"#)));
        graph.put(graph.key("price", "price_2"), None);
        graph.put_list(list, vec![known.clone()]);
        assert_eq!(graph.get("price", "price_1").unwrap().json().get("id").text().as_deref(), Some("price_1"));
        assert!(graph.get("price", "price_2").is_none());
        assert_eq!(graph.of_customer("cus_1", "discount").len(), 1);
        assert_eq!(graph.take_questions(), BTreeSet::new());
    }
}
