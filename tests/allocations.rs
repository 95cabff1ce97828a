//! Counts the memory allocations of the pure code that processes an event. Unlike its duration, the count is the same
//! on every machine.
//!
//! The allocator of this binary counts the allocations of one thread. The limits of each part are constants here; a
//! failure names the part and the event. This is a separate binary, so that it does not slow down other tests.

#![expect(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but does not see that helpers are tests too")]

#[path = "support/month.rs"]
mod month;

use std::collections::BTreeMap;

use allocation_counter::{AllocationInfo, measure};
use billing_sync::config::secret::WebhookSecret;
use billing_sync::domain::event::Envelope;
use billing_sync::domain::object::ObjectKey;
use billing_sync::mirror::history::{HeadResult, History};
use billing_sync::mirror::snapshot::Snapshot;
use billing_sync::outbox::claim::Claimed;
use billing_sync::projection::graph::{Graph, Node, Question};
use billing_sync::projection::{self, Rules};
use billing_sync::receiver::signature;
use billing_sync::stripe::envelope;
use billing_sync::stripe::json::Document;
use billing_sync::stripe::nested::nested;
use billing_sync::stripe::reference::customer_of;
use billing_sync::worker::classify;

/// Allocations for each event of the month: first to check a delivery's signature and read its envelope, then to read
/// everything that the worker needs from it.
const EVENTS: [(&str, u64, u64); 10] = [
    ("customer.created", 14, 39),
    ("payment_method.attached", 15, 22),
    ("customer.updated", 14, 38),
    ("customer.subscription.created", 15, 129),
    ("invoice.created", 17, 51),
    ("invoice.finalized", 17, 51),
    ("charge.succeeded", 15, 42),
    ("payment_intent.succeeded", 15, 38),
    ("invoice.paid", 17, 51),
    ("customer.subscription.updated", 15, 138),
];

/// Allocations to find the latest state of all objects of a customer, event after event.
const MERGE: u64 = 64;

/// Allocations to compute the rows of a customer and its subscription.
const PROJECT: u64 = 90;

/// Bytes allocated for one customer: deliveries, reading, merging, rows.
const BYTES: [u64; 4] = [131_668, 247_786, 19_286, 10_447];

/// Tolerance for bytes, in percent.
const HEADROOM: u64 = 5;

const SECRET: &str = "whsec_of_the_test";
const NOW: i64 = 1_790_000_000;
const RULES: Rules = Rules { past_due_active: true };

/// Allocations of `work` when it is repeated: the first run may fill process-wide caches.
fn cost<T>(work: impl Fn() -> T) -> AllocationInfo {
    drop(work());
    measure(|| drop(work()))
}

/// The event as the worker claims it.
fn claimed(text: &str) -> Claimed {
    let Envelope { key, event_type, object_type, object_id, account, livemode, .. } =
        envelope::read(text.as_bytes()).unwrap();
    let payload = Some(text.as_bytes().to_vec());
    Claimed { key, event_type, is_thin: false, object_type, object_id, account, livemode, payload }
}

fn snapshot(text: &str) -> Snapshot {
    let Claimed { key, event_type, .. } = claimed(text);
    Snapshot::read(&key.event_id, key.created, &event_type, Document::parse(text).unwrap().root()).unwrap()
}

/// Compares measurements with the limits, and collects those that exceed them.
#[derive(Default)]
struct Comparison {
    wrong: Vec<String>,
    lines: Vec<String>,
}

impl Comparison {
    fn allocations(&mut self, what: &str, now: u64, then: u64) {
        if now > then {
            self.wrong.push(format!("{what}: limit {then} allocations, measured {now}"));
        }
    }
}

/// The objects of a customer in the mirror at the end of the month, including nested ones.
fn mirror(events: &[String]) -> BTreeMap<ObjectKey, Node> {
    let mut objects = BTreeMap::new();
    for text in events {
        let document = Document::parse(text.as_str()).unwrap();
        let object = document.root().get("data").get("object");
        let own = (object.get("object").text().unwrap(), object.get("id").text().unwrap(), object.raw().to_owned());
        let inside = nested(object).into_iter();
        let inside = inside.map(|one| (one.object_type.to_owned(), one.object_id, one.content.raw().to_owned()));
        for (object_type, id, json) in inside.chain([own]) {
            let node = Node {
                content: Some(Document::parse(json).unwrap()),
                version: Some(claimed(text).key.created),
                ..Node::default()
            };
            objects.insert(ObjectKey::new("", &object_type, &id), node);
        }
    }
    objects
}

/// Loads objects as the worker does, until the projection needs no further one.
fn graph(objects: &BTreeMap<ObjectKey, Node>) -> Graph {
    let mut graph = Graph::new("");
    loop {
        drop(projection::customer("cus_0", &graph, &RULES));
        let questions = graph.take_questions();
        if questions.is_empty() {
            return graph;
        }
        for question in questions {
            match &question {
                Question::Object(key) => graph.put(key.clone(), objects.get(key).cloned()),
                Question::Payments(subscription) => graph.put_payments(subscription.clone(), Vec::new()),
                Question::Referencing(..) => graph.put_list(question, Vec::new()),
                Question::Of(customer, kind) => {
                    let of_customer = |node: &Node| customer_of(node.json()).as_ref() == Some(&customer.object_id);
                    let of_kind = objects.iter().filter(|(key, node)| key.object_type == *kind && of_customer(node));
                    let keys: Vec<ObjectKey> = of_kind.map(|(key, _)| key.clone()).collect();
                    for key in &keys {
                        graph.put(key.clone(), objects.get(key).cloned());
                    }
                    graph.put_list(question, keys);
                }
            }
        }
    }
}

#[test]
fn the_pure_parts_of_an_event_allocate_as_recorded() {
    let events: Vec<String> = month::events(0, 1).collect();
    let secrets = [WebhookSecret::new(SECRET).unwrap()];
    let mut comparison = Comparison::default();
    let mut bytes = [0; BYTES.len()];
    let written: BTreeMap<&str, (u64, u64)> =
        EVENTS.into_iter().map(|(name, one, other)| (name, (one, other))).collect();

    for text in &events {
        let header = signature::sign(&secrets[0], NOW, text.as_bytes());
        let delivery = cost(|| {
            signature::verify(header.as_bytes(), text.as_bytes(), &secrets, NOW).unwrap();
            envelope::read(text.as_bytes()).unwrap()
        });
        let claimed = claimed(text);
        let reading = cost(|| classify::read(&claimed).unwrap());
        let name = claimed.event_type.as_str();
        let (of_delivery, of_reading) = written.get(name).copied().unwrap_or_default();
        comparison.allocations(&format!("a delivery of {name}"), delivery.count_total, of_delivery);
        comparison.allocations(&format!("the worker's reading of {name}"), reading.count_total, of_reading);
        comparison.lines.push(format!("    ({name:?}, {}, {}),\n", delivery.count_total, reading.count_total));
        bytes[0] += delivery.bytes_total;
        bytes[1] += reading.bytes_total;
    }

    let mut merge = 0;
    let mut of_objects: BTreeMap<Option<String>, Vec<Snapshot>> = BTreeMap::new();
    for text in &events {
        of_objects.entry(claimed(text).object_id).or_default().push(snapshot(text));
    }
    for snapshots in of_objects.into_values() {
        let info = measure(|| {
            let mut history = History::complete_after(None);
            for snapshot in snapshots {
                history.add(snapshot);
            }
            assert!(matches!(history.head(), HeadResult::Head(_)));
        });
        merge += info.count_total;
        bytes[2] += info.bytes_total;
    }
    comparison.allocations("finding the newest states of a customer's objects", merge, MERGE);

    let graph = graph(&mirror(&events));
    let rows = projection::customer("cus_0", &graph, &RULES);
    assert!(rows.contact.is_some() && rows.subscriptions.len() == 1, "the projection computes rows");
    let project = cost(|| projection::customer("cus_0", &graph, &RULES));
    comparison.allocations("the rows of a customer", project.count_total, PROJECT);
    bytes[3] = project.bytes_total;

    for (what, (now, then)) in ["deliveries", "reading", "merging", "rows"].iter().zip(bytes.into_iter().zip(BYTES)) {
        if now > then + then * HEADROOM / 100 {
            comparison.wrong.push(format!("{what} of a customer: limit {then} bytes, measured {now}"));
        }
    }
    let Comparison { wrong, lines } = comparison;
    assert!(
        wrong.is_empty(),
        "{}\nIf this change is intended, set EVENTS, MERGE, PROJECT and BYTES to:\n{}{merge}, {}, {bytes:?}",
        wrong.join("\n"),
        lines.concat(),
        project.count_total
    );
}
