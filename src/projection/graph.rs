//! The objects that a projection may look at, and the questions that it still has.
//!
//! A projection does not say beforehand what it needs: it looks things up here, and what has not been loaded is noted
//! as a question. The caller answers all questions set-based and projects again, until none is left. So the list of
//! what a field depends on stands in one place only, which is the code that reads it. PURE; filled by the worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::payment::Payment;
use crate::domain::object::ObjectKey;
use crate::stripe::json::{Document, Json};

/// What the mirror knows of one object; by default nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The newest content; `None` where only its absence is known (deleted as a bare stub, or 404).
    pub content: Option<Document<'static>>,
    /// How new that content is.
    pub version: Option<OffsetDateTime>,
    /// The content is but a copy: another object showed it as it was at another time or in another scope.
    pub is_copy: bool,
    /// When it was deleted in Stripe. The content may still stand beside it.
    pub deleted_at: Option<OffsetDateTime>,
    /// The version of the newest read that found nothing (404), unless something newer was seen since.
    pub missing_at: Option<OffsetDateTime>,
    /// What only reads carry (`currency_options`, `line_items`, `payments`), as one JSON object.
    pub expansion: Option<Document<'static>>,
    /// How new that is.
    pub expansion_version: Option<OffsetDateTime>,
    /// It must be later than this to show what the object carries now.
    pub expansion_stale_after: Option<OffsetDateTime>,
}

impl Node {
    /// The content, to be read by a view; null where there is none.
    pub fn json(&self) -> Json<'_> {
        self.content.as_ref().map_or(Json::NULL, Document::root)
    }

    /// It was deleted, or the newest read did not find it: of what has one of these, nothing can be bought or given.
    pub fn is_gone(&self) -> bool {
        self.deleted_at.is_some() || self.missing_at.is_some()
    }

    /// Whether what only reads carry is to be read: it never was, or the object has changed since.
    pub fn needs_expansion(&self) -> bool {
        self.expansion_version.is_none() || self.is_expansion_stale()
    }

    /// The object has changed since the read of what only reads carry.
    pub fn is_expansion_stale(&self) -> bool {
        self.expansion_version.is_some() && self.expansion_version < self.expansion_stale_after
    }

    /// What only reads carry; null where no read was made.
    pub fn expansion(&self) -> Json<'_> {
        self.expansion.as_ref().map_or(Json::NULL, Document::root)
    }
}

/// It was never seen itself, so that a read brings its state. A copy shows another time or scope; of an object that was
/// deleted or not found, no read brings anything.
pub fn is_unseen(node: Option<&Node>) -> bool {
    node.is_none_or(|node| (node.content.is_none() || node.is_copy) && !node.is_gone())
}

/// What a projection looked for and nobody has loaded yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// One object.
    Object(ObjectKey),
    /// The objects of this type that belong to this customer.
    Of(ObjectKey, &'static str),
    /// The objects of this type that name this object.
    Naming(ObjectKey, &'static str),
    /// The payments of this subscription.
    Payments(ObjectKey),
}

/// What is known of the objects around some customers of one account.
#[derive(Default)]
pub struct Graph {
    account: String,
    objects: BTreeMap<ObjectKey, Option<Node>>,
    lists: BTreeMap<Question, Vec<ObjectKey>>,
    payments: BTreeMap<ObjectKey, Vec<Payment>>,
    asked: RefCell<BTreeSet<Question>>,
}

impl Graph {
    /// An empty graph of one account (empty for the account itself).
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

    /// What the mirror knows of an object; `None` where it was never seen, and while nobody has looked.
    pub fn get(&self, object_type: &str, object_id: &str) -> Option<&Node> {
        let key = self.key(object_type, object_id);
        match self.objects.get(&key) {
            Some(node) => node.as_ref(),
            None => self.ask(Question::Object(key)),
        }
    }

    /// The objects of a type that belong to a customer, by id.
    pub fn of_customer(&self, customer_id: &str, object_type: &'static str) -> Vec<(&ObjectKey, &Node)> {
        self.list(Question::Of(self.key("customer", customer_id), object_type))
    }

    /// The objects of type `naming` that name an object, by id: the invoice payments of an invoice, say.
    pub fn naming(&self, object_type: &str, object_id: &str, naming: &'static str) -> Vec<(&ObjectKey, &Node)> {
        self.list(Question::Naming(self.key(object_type, object_id), naming))
    }

    /// Every charge known of a subscription.
    pub fn payments(&self, subscription_id: &str) -> &[Payment] {
        let key = self.key("subscription", subscription_id);
        match self.payments.get(&key) {
            Some(payments) => payments.as_slice(),
            None => self.ask(Question::Payments(key)).unwrap_or_default(),
        }
    }

    fn list(&self, question: Question) -> Vec<(&ObjectKey, &Node)> {
        match self.lists.get(&question) {
            Some(keys) => keys.iter().filter_map(|key| Some((key, self.objects.get(key)?.as_ref()?))).collect(),
            None => self.ask(question).unwrap_or_default(),
        }
    }

    /// Notes a question. There is no answer yet.
    fn ask<T>(&self, question: Question) -> Option<T> {
        self.asked.borrow_mut().insert(question);
        None
    }

    /// The questions since the last call.
    pub fn take_questions(&mut self) -> BTreeSet<Question> {
        self.asked.take()
    }

    /// Answers [`Question::Object`]; `None`: the mirror has no row.
    pub fn put(&mut self, key: ObjectKey, node: Option<Node>) {
        self.objects.insert(key, node);
    }

    /// Answers [`Question::Of`] and [`Question::Naming`]; the objects themselves are put beside it.
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
    fn what_was_not_loaded_becomes_a_question_once() {
        let mut graph = Graph::new("");
        assert!(graph.get("customer", "cus_1").is_none() && graph.of_customer("cus_1", "subscription").is_empty());
        assert!(graph.get("customer", "cus_1").is_none() && graph.payments("sub_1").is_empty());
        let customer = graph.key("customer", "cus_1");
        let asked = [
            Question::Object(customer.clone()),
            Question::Of(customer, "subscription"),
            Question::Payments(graph.key("subscription", "sub_1")),
        ];
        assert_eq!(graph.take_questions(), BTreeSet::from(asked));
        assert_eq!(graph.take_questions(), BTreeSet::new());
    }

    #[test]
    fn what_was_answered_is_not_asked_again_even_where_nothing_is_known() {
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
