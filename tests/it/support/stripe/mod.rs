//! A fake Stripe: a small world with a clock in whole seconds, the events of its changes, and the part of the HTTP API
//! that billing-sync reads and writes.
//!
//! Tests change the world through methods named after what happens at Stripe ([`FakeStripe::subscribe`],
//! [`FakeStripe::charge_failed`]), deliver its events in any version and order, and compare with [`FakeStripe::truth`].
//! Every run is the same: ids come from counters, time moves only by [`FakeStripe::tick`]. Objects omit the fields of
//! Stripe that no code here uses.

mod catalog;
mod checkout;
mod customers;
mod discounts;
mod endpoints;
mod epoch;
mod errors;
mod event;
mod expand;
mod faults;
mod form;
mod idempotency;
mod invoices;
mod keys;
mod list;
mod methods;
mod params;
mod payments;
mod query;
mod routes;
mod schedules;
mod server;
mod subscription_ends;
mod subscriptions;
mod view;
mod world;
mod writes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

pub(crate) use self::epoch::Epoch;
pub(crate) use self::event::{Event, shuffled};
use self::faults::Control;
pub(crate) use self::faults::{Effect, Fault};
use self::world::World;
pub(crate) use self::writes::parameter_examples;

/// The handle: clones share one world.
#[derive(Clone)]
pub(crate) struct FakeStripe {
    world: Arc<Mutex<World>>,
    /// The account of a key that belongs to another one.
    elsewhere: Arc<Mutex<World>>,
    control: Arc<Mutex<Control>>,
    addr: SocketAddr,
}

impl FakeStripe {
    pub(crate) async fn start() -> Self {
        Self::start_with_seed(0).await
    }

    /// Event ids depend on the seed, so that tests cannot depend on their order.
    pub(crate) async fn start_with_seed(seed: u64) -> Self {
        let (world, elsewhere) = (World::new(seed), World::of_another_account(seed));
        let (world, elsewhere) = (Arc::new(Mutex::new(world)), Arc::new(Mutex::new(elsewhere)));
        server::serve(|addr| Self { world, elsewhere, control: Arc::default(), addr }).await
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL, before `v1/…`.
    pub(crate) fn base(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// The valid key.
    pub(crate) fn key(&self) -> &'static str {
        self.world().key
    }

    /// Replaces the valid key: requests with the old one get 401.
    pub(crate) fn roll_key(&self) {
        self.world().key = "sk_test_rolled";
    }

    /// Makes the key belong to another account, which has none of the objects.
    pub(crate) fn become_another_account(&self) {
        self.world().is_foreign = true;
    }

    /// Makes the key belong to our own account again.
    pub(crate) fn become_our_account_again(&self) {
        self.world().is_foreign = false;
    }

    /// Moves the world to a connected account: our own account has no objects.
    pub(crate) fn belong_to(&self, account: &'static str) {
        self.world().owner = Some(account);
    }

    pub(crate) fn now(&self) -> i64 {
        self.world().now
    }

    /// Lets seconds pass.
    pub(crate) fn tick(&self, seconds: i64) {
        assert!(seconds >= 0, "time does not run backwards at Stripe");
        self.world().now += seconds;
    }

    pub(crate) fn set_clock(&self, now: i64) {
        self.tick(now - self.now());
    }

    /// Limits payloads to the first items of a subscription, with `has_more`.
    pub(crate) fn show_items(&self, count: usize) {
        self.world().items_shown = count;
    }

    /// An object as stored here, with references as ids.
    pub(crate) fn stored(&self, id: &str) -> Value {
        self.world().object(id).clone()
    }

    /// An event of API v2 that can be read with its data.
    pub(crate) fn core_event(&self, id: &str, data: &Value) {
        self.world().put(json!({ "id": id, "object": "v2.core.event", "data": data }));
    }

    /// Adds an object without an event.
    pub(crate) fn without_event(&self, object: Value) {
        self.world().put(object);
    }

    /// Limits pages to this many objects, regardless of the requested limit.
    pub(crate) fn page_at_most(&self, count: usize) {
        self.world().page_at_most = count;
    }

    /// Changes fields of any object, hashes by their keys, and emits the events that Stripe would send.
    pub(crate) fn update(&self, id: &str, fields: Value) {
        self.world().change(id, |object| merge(object, fields));
    }

    /// Deletes a customer, product, price or coupon. A customer's subscriptions end first.
    pub(crate) fn delete(&self, id: &str) {
        let mut world = self.world();
        let kind = world.text(id, "/object");
        if kind == "customer" {
            world.end_subscriptions_of(id);
        }
        if kind == "price" {
            world.emit("plan.deleted", id);
        }
        world.delete(&format!("{kind}.deleted"), id);
    }

    /// The current position in the story, for [`FakeStripe::events_since`].
    pub(crate) fn mark(&self) -> usize {
        self.world().happenings.len()
    }

    /// All events so far, in their true order.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events_since(0)
    }

    /// The events about one object.
    pub(crate) fn events_of(&self, object: &str) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.object == object).collect()
    }

    pub(crate) fn events_since(&self, mark: usize) -> Vec<Event> {
        let world = self.world();
        let happenings = world.happenings.iter().enumerate().skip(mark);
        let event = |(number, happening): (usize, &world::Happening)| Event {
            id: happening.id.clone(),
            event_type: happening.event_type.clone(),
            created: happening.created,
            object: happening.object.clone(),
            stripe: self.clone(),
            number,
        };
        happenings.map(event).collect()
    }

    /// The object as in the current API version.
    pub(crate) fn object(&self, id: &str) -> Value {
        let world = self.world();
        world.view().shown(id, Epoch::Endive).unwrap_or_default()
    }

    /// Every object by id in the newest API version; deleted objects as stubs.
    pub(crate) fn truth(&self) -> BTreeMap<String, Value> {
        let world = self.world();
        let view = world.view();
        let shown = world.births().filter_map(|(id, _)| Some((id.clone(), view.shown(id, Epoch::Endive)?)));
        shown.collect()
    }
}

impl World {
    /// Changes an object, and emits the update event of its kind.
    fn change(&mut self, id: &str, change: impl FnOnce(&mut Value)) {
        let kind = self.text(id, "/object");
        let event_type = match kind.as_str() {
            "subscription" => "customer.subscription.updated".to_owned(),
            "discount" => "customer.discount.updated".to_owned(),
            "card" | "source" => "customer.source.updated".to_owned(),
            kind => format!("{kind}.updated"),
        };
        if self.update(&event_type, id, change) && kind == "price" {
            self.emit_change("plan.updated", id);
        }
    }
}

/// Overrides fields of an object: hashes by their keys, everything else as a whole.
fn merge(object: &mut Value, fields: Value) {
    match (object, fields) {
        (Value::Object(object), Value::Object(fields)) => {
            for (field, value) in fields {
                merge(object.entry(field).or_insert(json!(null)), value);
            }
        }
        (object, value) => *object = value,
    }
}

/// Stripe's defaults, overridden by the fields.
fn with_defaults(mut defaults: Value, fields: Value) -> Value {
    merge(&mut defaults, fields);
    defaults
}
