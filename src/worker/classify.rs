//! Classifies the events of a batch: some are settled at once, others carry an object to merge.
//!
//! PURE. The first step after the claim. It needs no lock, because it reads only the events.

use super::context::Context;
use super::extract::Extracted;
use crate::domain::event::{EventKey, Outcome, Reason};
use crate::domain::object::ObjectKey;
use crate::ledger::line_of_key;
use crate::ledger::prove::Proof;
use crate::mirror::facts::fold;
use crate::mirror::facts::report::Report;
use crate::mirror::incoming::Arrival;
use crate::mirror::snapshot::Snapshot;
use crate::outbox::claim::Claimed;
use crate::outbox::settle::Settlement;
use crate::stripe::catalogue::{Meaning, meaning};
use crate::stripe::expandable::id_or_object;
use crate::stripe::json::{self, Document, Json};
use crate::stripe::nested;
use crate::stripe::secrets::without_client_secrets;
use crate::stripe::views::Unreadable;
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::generation_failure;
use crate::stripe::views::is_key;
use crate::stripe::views::subscription::{NO_CUSTOMER, SubscriptionView};

/// What one event requires.
pub(super) enum Classified {
    /// Nothing: it is settled.
    Settled(Settlement),
    /// Its object is named, without content.
    ThinEvent,
    /// Only a read newer than the event can show what happened: of this object. Settled with the reason.
    Read(ObjectKey, Reason),
    /// Its object is merged.
    Merge(Box<ToMerge>),
    /// It should carry an object, but no row can be made of it: this field is missing or invalid.
    Unreadable(&'static str),
}

/// A snapshot event, read and ready to be merged.
pub struct ToMerge {
    /// The object itself.
    pub(super) arrival: Arrival,
    /// Nested objects, references and facts extracted from it.
    pub(super) extracted: Extracted,
    /// Objects that the event does not carry and that must be read.
    pub(super) wanted: Vec<ObjectKey>,
    /// The change of ours at Stripe that caused the event.
    pub(super) proof: Option<Proof>,
}

impl ToMerge {
    /// The key of the event.
    pub(super) fn event(&self) -> EventKey {
        let Snapshot { event_id, created, .. } = &self.arrival.snapshot;
        EventKey { event_id: event_id.clone(), created: *created }
    }

    /// The objects that are merged.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.extracted.nested.iter().map(|one| &one.key).chain([&self.arrival.key])
    }
}

/// Classifies `event`.
pub(super) fn classify(context: &Context, event: &Claimed) -> Classified {
    let settled =
        |outcome, reason| Classified::Settled(Settlement { key: event.key.clone(), outcome, reason: Some(reason) });
    let sync = &context.sync;
    if event.livemode.is_some_and(|livemode| livemode != sync.livemode) {
        return settled(Outcome::Ignored, Reason::LivemodeMismatch);
    }
    if !event.account.is_empty() && !sync.accounts.contains(&event.account) {
        return settled(Outcome::Ignored, Reason::AccountNotSynced);
    }
    match meaning(&event.event_type) {
        Meaning::CustomerAccount => settled(Outcome::Ignored, Reason::CustomerAccount),
        Meaning::NotGenerated => Classified::Read(not_generated(event), Reason::EventsNotGenerated),
        Meaning::Unhandled => settled(Outcome::Ignored, Reason::UnhandledType),
        Meaning::Informational => settled(Outcome::Ignored, Reason::Informational),
        // a snapshot type in a thin envelope has no content either
        Meaning::ThinEvent | Meaning::Snapshot if event.is_thin => Classified::ThinEvent,
        // a thin type in a snapshot envelope: its meaning is unknown
        Meaning::ThinEvent | Meaning::Unknown => settled(Outcome::Unknown, Reason::UnknownType),
        Meaning::Snapshot => match read(event) {
            Ok(merge) => Classified::Merge(Box::new(merge)),
            // discounts have ids since 2020; without an id it cannot be merged
            Err(Unreadable { field: NO_ID }) => settled(Outcome::Ignored, Reason::InvalidValue),
            // before 2025-09-30.clover a subscription of Accounts v2 has no customer; a read in billing-sync's own API
            // version has one
            Err(Unreadable { field: NO_CUSTOMER }) => match &event.object_id {
                Some(id) => {
                    Classified::Read(ObjectKey::new(&event.account, "subscription", id), Reason::CustomerAccount)
                }
                None => Classified::Unreadable(NO_CUSTOMER),
            },
            Err(unreadable) => Classified::Unreadable(unreadable.field),
        },
    }
}

/// The object to read because Stripe failed to generate an event about it. If the notification does not name it, the
/// event itself is read first.
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

/// Reads the object of a snapshot event. It checks only fields that a row requires: an object that passes can be
/// merged, and a merged object can be projected.
///
/// # Errors
/// The field without which there is no row.
pub fn read(event: &Claimed) -> Result<ToMerge, Unreadable> {
    let payload = event.payload.as_deref().ok_or(Unreadable { field: "its payload in billing.events" })?;
    let payload = without_client_secrets(json::decode(payload));
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
    let mut extracted = Extracted::by(&arrival.key, object, report);
    extracted
        .customers
        .extend(id_or_object(previous.get("customer")).map(|id| ObjectKey::new(account, "customer", &id)));
    let wanted = fold::wanted(event_type, object).into_iter();
    let wanted = wanted.map(|(kind, id)| ObjectKey::new(account, kind, &id)).collect();
    let proof = proof(json.get("request"), &arrival.key);
    Ok(ToMerge { arrival, extracted, wanted, proof })
}

/// The change of ours that an event proves, by the idempotency key of the request that caused it.
fn proof(request: Json<'_>, key: &ObjectKey) -> Option<Proof> {
    let line = line_of_key(&request.get("idempotency_key").text()?)?;
    Some(Proof { line, key: key.clone(), request_id: request.get("id").text() })
}

/// Type and id of the object, if a row can be made of it.
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
