//! Maps paths to objects and lists, and Stripe's errors.

use serde_json::{Value, json};
use url::form_urlencoded;

use super::epoch::Epoch;
use super::query::Query;
use super::server::Served;
use super::view::{View, plan};
use super::{event, expand, list};

/// A status and its JSON.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn refusal(status: u16, message: &str) -> Self {
        Self { status, body: json!({ "error": { "type": "invalid_request_error", "message": message } }) }
    }

    /// The key has no access to the account.
    pub(crate) fn no_access() -> Self {
        let mut answer =
            Self::refusal(403, "The provided key 'sk_test_***' does not have access to account 'acct_fake'.");
        answer.body["error"]["code"] = json!("account_invalid");
        answer
    }

    /// In Stripe's wording; the message contains part of the key.
    pub(crate) fn forbidden(permission: &str) -> Self {
        let message = format!(
            "The provided key 'rk_test_***cret' does not have the required permissions for this endpoint on account \
             'acct_fake'. Having the '{permission}' permission would allow this request to continue."
        );
        Self::refusal(403, &message)
    }

    pub(crate) fn unknown_url(served: &Served) -> Self {
        Self::refusal(404, &format!("Unrecognized request URL ({}: {}).", served.method, served.path))
    }

    pub(crate) fn missing(kind: &str, id: &str) -> Self {
        let mut answer = Self::refusal(404, &format!("No such {}: '{id}'", kind.replace(['.', '_'], " ")));
        answer.body["error"]["code"] = json!("resource_missing");
        answer.body["error"]["param"] = json!("id");
        answer
    }

    pub(crate) fn too_many_requests() -> Self {
        let mut answer = Self::refusal(429, "Request rate limit exceeded.");
        answer.body["error"]["code"] = json!("rate_limit");
        answer
    }
}

/// Collections in paths, and the kind of their objects.
const COLLECTIONS: [(&str, &str); 21] = [
    ("charges", "charge"),
    ("checkout/sessions", "checkout.session"),
    ("coupons", "coupon"),
    ("customers", "customer"),
    ("disputes", "dispute"),
    ("events", "event"),
    ("invoice_payments", "invoice_payment"),
    ("invoices", "invoice"),
    ("payment_intents", "payment_intent"),
    ("payment_links", "payment_link"),
    ("payment_methods", "payment_method"),
    ("plans", "plan"),
    ("prices", "price"),
    ("product_catalog/trial_offers", "product_catalog.trial_offer"),
    ("products", "product"),
    ("promotion_codes", "promotion_code"),
    ("subscription_items", "subscription_item"),
    ("subscription_schedules", "subscription_schedule"),
    ("subscriptions", "subscription"),
    ("test_helpers/test_clocks", "test_helpers.test_clock"),
    ("webhook_endpoints", "webhook_endpoint"),
];

/// The kind of object in a collection.
fn kind_in(collection: &str) -> Option<&'static str> {
    COLLECTIONS.iter().find(|(known, _)| *known == collection).map(|(_, kind)| *kind)
}

/// The URL of an object of this kind.
pub(crate) fn url(kind: &str, id: &str) -> String {
    let collection = COLLECTIONS.iter().find(|(_, known)| *known == kind).map_or("sources", |(path, _)| path);
    format!("/v1/{collection}/{id}")
}

pub(crate) fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The stub of a deleted object, for the requested path.
pub(crate) fn stub(path: &str) -> Answer {
    let (collection, id) = path.trim_start_matches("/v1/").rsplit_once('/').unwrap_or(("", path));
    let kind = kind_in(collection).unwrap_or("source");
    Answer { status: 200, body: json!({ "id": id, "object": kind, "deleted": true }) }
}

/// Answers an authorised GET.
pub(crate) fn answer(view: View<'_>, served: &Served, query: &Query) -> Answer {
    match look_up(view, served, query) {
        Ok(body) => Answer { status: 200, body },
        Err(answer) => answer,
    }
}

fn look_up(view: View<'_>, served: &Served, query: &Query) -> Result<Value, Answer> {
    let unknown = || Answer::unknown_url(served);
    if let Some(id) = served.path.strip_prefix("/v2/core/events/") {
        let event = view.get(id).filter(|event| event["object"] == "v2.core.event");
        return event.cloned().ok_or_else(|| Answer::missing("event", id));
    }
    let path = decoded(served.path.strip_prefix("/v1/").ok_or_else(unknown)?);
    let mut found = match path.split('/').collect::<Vec<_>>()[..] {
        ["account"] => account(view, served),
        ["customers", customer, "sources", id] => {
            let source = retrieve(view, "card", id).or_else(|_| retrieve(view, "source", id))?;
            (source["customer"] == customer).then_some(source).ok_or_else(|| Answer::missing("source", id))?
        }
        ["sources", id] => retrieve(view, "source", id)?,
        ["customers", customer, "payment_methods"] => {
            list::page(view, "payment_method", &served.path, query, Some(("customer", customer)))?
        }
        _ => {
            if let Some(kind) = kind_in(&path) {
                list::page(view, kind, &served.path, query, None)?
            } else {
                let (collection, id) = path.rsplit_once('/').ok_or_else(unknown)?;
                retrieve(view, kind_in(collection).ok_or_else(unknown)?, id)?
            }
        }
    };
    for path in query.all("expand[]") {
        expand::expand(view, &mut found, path)?;
    }
    Ok(found)
}

pub(crate) fn decoded(path: &str) -> String {
    let path = path.replace('+', "%2B");
    form_urlencoded::parse(path.as_bytes()).next().map(|(path, _)| path.into_owned()).unwrap_or_default()
}

fn account(view: View<'_>, served: &Served) -> Value {
    let own = if view.world.is_foreign { "acct_another" } else { "acct_fake" };
    let id = served.account.as_deref().unwrap_or(own);
    json!({ "id": id, "object": "account", "country": "DE", "default_currency": "eur", "type": "standard" })
}

fn retrieve(view: View<'_>, kind: &str, id: &str) -> Result<Value, Answer> {
    let missing = || Answer::missing(kind, id);
    if kind == "event" {
        let found = view.world.happenings.iter().find(|one| one.id == id && one.after <= view.step);
        return found.map(|one| event::snapshot(view.world, one, Epoch::Endive)).ok_or_else(missing);
    }
    if kind == "subscription_item" {
        let items = view.all("subscription").into_iter().flat_map(|of| view.items(of, Epoch::Endive));
        return items.into_iter().find(|item| item["id"] == id).ok_or_else(missing);
    }
    let stored = if kind == "plan" { "price" } else { kind };
    let object = view.get(id).filter(|object| object["object"] == stored).ok_or_else(missing)?;
    // only customers can be read after their deletion
    if object["deleted"] == true && kind != "customer" {
        return Err(missing());
    }
    Ok(if kind == "plan" { plan(object) } else { view.show(object, Epoch::Endive) })
}
