//! What the events of a batch are about: which are settled at once, and which carry an object to merge.
//!
//! PURE. The first step after the claim: nothing here needs a lock, since it looks at the events alone.

use super::Context;
use super::told::Told;
use crate::domain::event::{EventKey, Outcome, Reason};
use crate::domain::object::ObjectKey;
use crate::mirror::facts::fold::{self, Report};
use crate::mirror::merge::Arrival;
use crate::mirror::snapshot::Snapshot;
use crate::outbox::claim::Claimed;
use crate::outbox::settle::Settlement;
use crate::stripe::catalogue::{Meaning, meaning};
use crate::stripe::json::{self, Document, Json};
use crate::stripe::nested;
use crate::stripe::reference::id_or_object;
use crate::stripe::views::Unreadable;
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::generation_failure;
use crate::stripe::views::is_key;
use crate::stripe::views::subscription::{NO_CUSTOMER, SubscriptionView};

/// What one event asks for.
pub(super) enum Resolved {
    /// Nothing: it is settled already.
    Settled(Settlement),
    /// It names an object without its content.
    Notice,
    /// What happened can only be read: this object, later than the event. Settled with the reason.
    Read(ObjectKey, Reason),
    /// Merge this.
    Merge(Box<ToMerge>),
    /// It claims to carry an object of which no row can be made.
    Unreadable(&'static str),
}

/// What one snapshot event brings.
pub struct ToMerge {
    /// The object itself.
    pub(super) arrival: Arrival,
    /// What it tells apart from its content.
    pub(super) told: Told,
    /// What it does not carry and only a read can bring.
    pub(super) wanted: Vec<ObjectKey>,
}

impl ToMerge {
    /// The event that brought it.
    pub(super) fn event(&self) -> EventKey {
        let Snapshot { event_id, created, .. } = &self.arrival.snapshot;
        EventKey { event_id: event_id.clone(), created: *created }
    }

    /// The objects that are merged.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.told.nested.iter().map(|one| &one.key).chain([&self.arrival.key])
    }
}

/// What `event` asks for.
pub(super) fn resolve(context: &Context, event: &Claimed) -> Resolved {
    let settled =
        |outcome, reason| Resolved::Settled(Settlement { key: event.key.clone(), outcome, reason: Some(reason) });
    let sync = &context.sync;
    if event.livemode.is_some_and(|livemode| livemode != sync.livemode) {
        return settled(Outcome::Ignored, Reason::ForeignLivemode);
    }
    if !event.account.is_empty() && !sync.accounts.contains(&event.account) {
        return settled(Outcome::Ignored, Reason::ForeignAccount);
    }
    match meaning(&event.event_type) {
        Meaning::CustomerAccount => settled(Outcome::Ignored, Reason::CustomerAccount),
        Meaning::NotGenerated => Resolved::Read(not_generated(event), Reason::EventsNotGenerated),
        Meaning::Unhandled => settled(Outcome::Ignored, Reason::UnhandledType),
        Meaning::Informational => settled(Outcome::Ignored, Reason::Informational),
        // a snapshot type in a thin envelope has no content either
        Meaning::Notice | Meaning::Snapshot if event.is_thin => Resolved::Notice,
        // a thin type in the envelope of a snapshot: nobody has told us what that is
        Meaning::Notice | Meaning::Unknown => settled(Outcome::Unknown, Reason::UnknownType),
        Meaning::Snapshot => match read(event) {
            Ok(merge) => Resolved::Merge(Box::new(merge)),
            // discounts have ids since 2020; without one there is nothing to merge it with
            Err(Unreadable { field: NO_ID }) => settled(Outcome::Ignored, Reason::UnreadableValue),
            // before 2025-09-30.clover a subscription of Accounts v2 names nobody; a read in our own version does
            Err(Unreadable { field: NO_CUSTOMER }) => match &event.object_id {
                Some(id) => Resolved::Read(ObjectKey::new(&event.account, "subscription", id), Reason::CustomerAccount),
                None => Resolved::Unreadable(NO_CUSTOMER),
            },
            Err(unreadable) => Resolved::Unreadable(unreadable.field),
        },
    }
}

/// What is read because Stripe failed to make events about it. Where the notification does not say, the event itself is
/// read first.
fn not_generated(event: &Claimed) -> ObjectKey {
    let payload = json::decode(event.payload.as_deref().unwrap_or_default());
    let named = generation_failure::read(&payload).map(|failure| {
        let account = failure.account.as_deref().unwrap_or(&event.account);
        tracing::warn!(
            event.id = event.key.event_id,
            missing.r#type = failure.event_type,
            object.r#type = failure.object_type,
            object.id = failure.object_id,
            "Stripe failed to generate an event; its object is read instead"
        );
        ObjectKey::new(account, &failure.object_type, &failure.object_id)
    });
    named.unwrap_or_else(|| ObjectKey::new(&event.account, generation_failure::EVENT, &event.key.event_id))
}

/// The field that an object of any type must have.
const NO_ID: &str = "data.object.id";

/// Reads the object of a snapshot event. Only what a row cannot be without is checked here: an object that
/// passes can be merged, and what is merged can be projected.
///
/// # Errors
/// The field without which there is no row.
pub fn read(event: &Claimed) -> Result<ToMerge, Unreadable> {
    let payload = event.payload.as_deref().ok_or(Unreadable { field: "its payload in billing.events" })?;
    let payload = json::decode(payload);
    let Claimed { key, event_type, account, .. } = event;
    let document = Document::parse(payload).map_err(|_| Unreadable { field: "data" })?;
    let json = document.root();
    let data = json.get("data");
    let snapshot = Snapshot::read(&key.event_id, key.created, event_type, json);
    let snapshot = snapshot.ok_or(Unreadable { field: "data.object" })?;
    let object = data.get("object");
    let (object_type, object_id) = identify(object)?;
    let arrival = Arrival { key: ObjectKey::new(account, object_type, &object_id), snapshot };
    let previous = data.get("previous_attributes");
    let report = Report { at: key.created, source: &key.event_id, previous, all_items: Json::NULL };
    let mut told = Told::by(&arrival.key, object, report);
    told.customers.extend(id_or_object(previous.get("customer")).map(|id| ObjectKey::new(account, "customer", &id)));
    let wanted = fold::wanted(event_type, object).into_iter();
    let wanted = wanted.map(|(kind, id)| ObjectKey::new(account, kind, &id)).collect();
    Ok(ToMerge { arrival, told, wanted })
}

/// Type and id of the object, once it is sure that a row can be made of it.
fn identify(object: Json<'_>) -> Result<(&'static str, String), Unreadable> {
    let object_type = nested::type_of(object).ok_or(Unreadable { field: "data.object.object" })?;
    match object_type {
        "customer" => _ = CustomerView::read(object)?,
        "subscription" => _ = SubscriptionView::read(object)?,
        _ => {}
    }
    let id = object.get("id").text().filter(|id| is_key(id)).ok_or(Unreadable { field: NO_ID })?;
    Ok((object_type, id))
}
