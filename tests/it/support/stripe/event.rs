//! Events as they are sent: snapshots in any API version, thin ones, and in any order.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::events::previous;
use super::FakeStripe;
use super::epoch::Epoch;
use super::view::{View, plan};
use super::world::{Happening, World};

/// An event of the fake.
#[derive(Clone)]
#[expect(clippy::struct_field_names, reason = "`type` is a keyword, and the name is `event_type` everywhere")]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) created: i64,
    /// The id of the event's object.
    pub(crate) object: String,
    pub(super) stripe: FakeStripe,
    pub(super) number: usize,
}

impl Event {
    /// The snapshot event in an API version.
    pub(crate) fn json(&self, epoch: Epoch) -> Value {
        let world = self.stripe.world();
        snapshot(&world, &world.happenings[self.number], epoch)
    }

    /// The thin event about the same change, with a separate id.
    pub(crate) fn thin(&self) -> Value {
        let world = self.stripe.world();
        let object = subject(world.view(), &world.happenings[self.number], Epoch::Endive);
        let created = OffsetDateTime::from_unix_timestamp(self.created).unwrap().format(&Rfc3339).unwrap();
        let kind = object["object"].as_str().unwrap_or_default();
        json!({
            "id": format!("{}_thin", self.id), "object": "v2.core.event", "type": format!("v1.{}", self.event_type),
            "created": created, "livemode": false, "context": null, "reason": reason(&world.happenings[self.number]),
            "related_object": { "id": self.object, "type": kind, "url": super::routes::url(kind, &self.object) },
        })
    }
}

/// The same events, some of them twice, in an order determined by the seed.
pub(crate) fn shuffled(events: &[Event], seed: u64) -> Vec<Event> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut shuffled = events.to_vec();
    shuffled.extend(events.iter().filter(|_| rng.u8(..3) == 0).cloned());
    rng.shuffle(&mut shuffled);
    shuffled
}

/// The event as in a webhook and in `GET /v1/events`.
pub(super) fn snapshot(world: &World, happening: &Happening, epoch: Epoch) -> Value {
    let object = subject(world.view_at(happening.after), happening, epoch);
    let mut data = json!({ "object": object });
    if let Some(before) = happening.before {
        data["previous_attributes"] = previous(&subject(world.view_at(before), happening, epoch), &object);
    }
    json!({
        "id": happening.id, "object": "event", "type": happening.event_type, "created": happening.created,
        "api_version": epoch.version(), "livemode": false, "pending_webhooks": 1,
        "request": request(happening), "data": data,
    })
}

fn subject(view: View<'_>, happening: &Happening, epoch: Epoch) -> Value {
    if happening.event_type.starts_with("plan.") {
        return view.get(&happening.object).map(plan).unwrap_or_default();
    }
    view.shown(&happening.object, epoch).unwrap_or_default()
}

/// The request that caused the change, with null members if there is none.
fn request(happening: &Happening) -> Value {
    let cause = happening.cause.as_ref();
    let key = cause.and_then(|cause| cause.idempotency_key.as_deref());
    json!({ "id": cause.map(|cause| cause.id.as_str()), "idempotency_key": key })
}

/// The same in a thin event, where it is null as a whole.
fn reason(happening: &Happening) -> Value {
    let given = happening.cause.as_ref().map(|_| json!({ "request": request(happening), "type": "request" }));
    given.unwrap_or_default()
}
