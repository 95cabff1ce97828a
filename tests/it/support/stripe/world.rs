//! The state and history of the fake: every version of every object, every event, one clock.
//!
//! Nothing is ever overwritten, so that the state of any moment can be served again (stale reads), and an event can be
//! rendered from the states before and after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::events::START;
use super::view::View;

/// The content of an object since one step of the world.
#[derive(Clone)]
struct Version {
    step: usize,
    object: Arc<Value>,
}

/// The request that causes a change.
#[derive(Clone)]
pub(crate) struct Cause {
    pub(crate) id: String,
    pub(crate) idempotency_key: Option<String>,
}

/// A change of an object that is reported by an event.
#[derive(Clone)]
pub(crate) struct Happening {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) created: i64,
    pub(crate) object: String,
    /// The step whose state the event shows.
    pub(crate) after: usize,
    /// The step that its `previous_attributes` describe.
    pub(crate) before: Option<usize>,
    /// `None` if the change was not requested by the API.
    pub(crate) cause: Option<Cause>,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: i64,
    /// Maximum number of items in a subscription's payload.
    pub(crate) items_shown: usize,
    /// Maximum number of objects on a page, regardless of the requested limit.
    pub(crate) page_at_most: usize,
    /// Whether the key belongs to another account, which has none of these objects.
    pub(crate) is_foreign: bool,
    /// The connected account that owns this world; `None`: our own account.
    pub(crate) owner: Option<&'static str>,
    pub(crate) key: &'static str,
    /// Whether this is the world of another account.
    pub(crate) is_elsewhere: bool,
    /// The request that is being executed.
    pub(crate) cause: Option<Cause>,
    seed: u64,
    counters: BTreeMap<&'static str, u64>,
    /// The clock at each step; a step is one change of one object.
    steps: Vec<i64>,
    versions: BTreeMap<String, Vec<Version>>,
    pub(crate) happenings: Vec<Happening>,
}

/// Odd, so that multiplying by it permutes the numbers: tests cannot depend on the order of ids.
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: START,
            items_shown: usize::MAX,
            page_at_most: usize::MAX,
            is_foreign: false,
            owner: None,
            key: "sk_test_fake",
            is_elsewhere: false,
            cause: None,
            seed,
            counters: BTreeMap::new(),
            steps: vec![START],
            versions: BTreeMap::new(),
            happenings: Vec::new(),
        }
    }

    /// The world of another account; its ids differ from ours.
    pub(crate) fn of_another_account(seed: u64) -> Self {
        Self { is_elsewhere: true, ..Self::new(!seed) }
    }

    /// The next id with this prefix.
    pub(crate) fn id(&mut self, prefix: &'static str) -> String {
        let counter = self.counters.entry(prefix).or_default();
        *counter += 1;
        if self.is_elsewhere { format!("{prefix}_other_{counter}") } else { format!("{prefix}_{counter}") }
    }

    fn event_id(&mut self) -> String {
        let number = self.happenings.len() as u64 + 1;
        format!("evt_{:016x}", (number ^ self.seed).wrapping_mul(SCATTER))
    }

    pub(crate) fn latest(&self) -> usize {
        self.steps.len() - 1
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { world: self, step: self.latest() }
    }

    pub(crate) fn view_at(&self, step: usize) -> View<'_> {
        View { world: self, step }
    }

    /// The state as it was this many seconds ago.
    pub(crate) fn view_before(&self, seconds: i64) -> View<'_> {
        let past = self.steps.partition_point(|clock| *clock <= self.now - seconds);
        View { world: self, step: past.saturating_sub(1) }
    }

    /// The content of an object at a step.
    pub(crate) fn at(&self, id: &str, step: usize) -> Option<&Value> {
        let versions = self.versions.get(id)?;
        versions.iter().rev().find(|version| version.step <= step).map(|version| &*version.object)
    }

    /// The same, but for a deleted object its content before deletion.
    pub(crate) fn alive_at(&self, id: &str, step: usize) -> Option<&Value> {
        let versions = self.versions.get(id)?.iter().rev().filter(|version| version.step <= step);
        versions.map(|version| &*version.object).find(|object| object["deleted"] != true)
    }

    /// The steps at which an object first appeared, by id.
    pub(crate) fn births(&self) -> impl Iterator<Item = (&String, usize)> {
        self.versions.iter().map(|(id, versions)| (id, versions[0].step))
    }

    /// The object as it is now.
    ///
    /// Panics if the object does not exist, because that is a mistake in the test.
    pub(crate) fn object(&self, id: &str) -> &Value {
        self.at(id, self.latest()).unwrap_or_else(|| panic!("the fake has no {id}"))
    }

    /// A text field of an object, empty if it is null.
    pub(crate) fn text(&self, id: &str, pointer: &str) -> String {
        self.object(id).pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Writes an object without an event.
    pub(crate) fn put(&mut self, object: Value) -> String {
        let id = object["id"].as_str().expect("an object has an id").to_owned();
        self.steps.push(self.now);
        let step = self.latest();
        self.versions.entry(id.clone()).or_default().push(Version { step, object: Arc::new(object) });
        id
    }

    /// Writes a new object and emits its event.
    pub(crate) fn create(&mut self, event_type: &str, object: Value) -> String {
        let id = self.put(object);
        self.emit(event_type, &id);
        id
    }

    /// Changes an object without an event.
    pub(crate) fn edit(&mut self, id: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.object(id).clone();
        change(&mut object);
        self.put(object);
    }

    /// Changes an object and emits an event with `previous_attributes`; no event if nothing changes.
    pub(crate) fn update(&mut self, event_type: &str, id: &str, change: impl FnOnce(&mut Value)) -> bool {
        let mut object = self.object(id).clone();
        change(&mut object);
        if object == *self.object(id) {
            return false;
        }
        self.put(object);
        self.emit_change(event_type, id);
        true
    }

    /// Emits an event for the last change of an object, with `previous_attributes`.
    pub(crate) fn emit_change(&mut self, event_type: &str, id: &str) {
        let versions = &self.versions[id];
        let before = versions.len().checked_sub(2).map(|before| versions[before].step);
        self.record(event_type, id, before);
    }

    /// Emits an event with the object's current state.
    pub(crate) fn emit(&mut self, event_type: &str, id: &str) {
        self.record(event_type, id, None);
    }

    fn record(&mut self, event_type: &str, object: &str, before: Option<usize>) {
        let (id, created, after) = (self.event_id(), self.now, self.latest());
        let (event_type, object) = (event_type.to_owned(), object.to_owned());
        let cause = self.cause.clone();
        self.happenings.push(Happening { id, event_type, created, object, after, before, cause });
    }

    /// Replaces an object by its stub; the event contains its last content.
    pub(crate) fn delete(&mut self, event_type: &str, id: &str) {
        self.emit(event_type, id);
        let kind = self.object(id)["object"].clone();
        self.put(json!({ "id": id, "object": kind, "deleted": true }));
    }
}
