//! Lists: newest first, filtered, a page at a time.

use serde_json::{Value, json};

use super::epoch::Epoch;
use super::event;
use super::query::Query;
use super::routes::Answer;
use super::view::{View, plan};

/// Age limit of `GET /v1/events`.
const EVENTS_SECONDS: i64 = 30 * 86_400;

const MOST_TYPES: usize = 20;

/// A page of all objects of a kind; `also` is a filter from the path itself.
pub(crate) fn page(
    view: View<'_>,
    kind: &str,
    path: &str,
    query: &Query,
    also: Option<(&str, &str)>,
) -> Result<Value, Answer> {
    let mut objects = candidates(view, kind, query);
    if let Some(cursor) = query.get("starting_after") {
        let index = objects.iter().position(|object| object["id"] == cursor);
        let index = index.ok_or_else(|| {
            let mut answer = bad(&format!("No such {kind}: '{cursor}'"), "starting_after");
            answer.body["error"]["code"] = json!("resource_missing");
            answer
        })?;
        objects.drain(..=index);
    }
    for (name, value) in query.pairs().chain(also) {
        if !matches!(name, "limit" | "starting_after" | "expand[]" | "types[]") {
            let matches = filter(kind, name, value).ok_or_else(|| bad("Received unknown parameter", name))?;
            objects.retain(|object| matches(object));
        }
    }
    let types: Vec<&str> = query.all("types[]").collect();
    if types.len() > MOST_TYPES {
        return Err(bad("Too many types", "types"));
    }
    objects.retain(|object| types.is_empty() || types.iter().any(|wanted| object["type"] == *wanted));
    // objects on a test clock are only in the lists of that clock
    let is_clocked = |object: &Value| object["test_clock"].is_string() && ["customer", "subscription"].contains(&kind);
    objects.retain(|object| !is_clocked(object));
    if kind == "subscription" && query.get("status").is_none() {
        objects.retain(|object| object["status"] != "canceled");
    }
    let limit: usize = query.get("limit").map_or(Ok(10), str::parse).unwrap_or_default();
    if !(1..=100).contains(&limit) {
        return Err(bad("This value must be between 1 and 100", "limit"));
    }
    let limit = limit.min(view.world.page_at_most);
    let shown = objects.iter().take(limit).map(|object| present(view, kind, object));
    let data: Vec<Value> = shown.collect();
    Ok(json!({ "object": "list", "data": data, "has_more": objects.len() > limit, "url": path }))
}

fn bad(message: &str, param: &str) -> Answer {
    let mut answer = Answer::refusal(400, message);
    answer.body["error"]["param"] = json!(param);
    answer
}

fn candidates(view: View<'_>, kind: &str, query: &Query) -> Vec<Value> {
    match kind {
        "event" => {
            let past = view.world.happenings.iter().enumerate().rev();
            let past = past.filter(|(_, one)| one.after <= view.step);
            let recent = past.filter(|(_, one)| one.created >= view.world.now - EVENTS_SECONDS);
            let row = |(number, one): (usize, &super::world::Happening)| json!({ "id": one.id, "created": one.created, "type": one.event_type, "number": number });
            recent.map(row).collect()
        }
        "subscription_item" => {
            let subscription = view.or_null(&json!(query.get("subscription")));
            view.items(&subscription, Epoch::Endive)
        }
        "plan" => view.all("price").into_iter().cloned().collect(),
        kind => view.all(kind).into_iter().cloned().collect(),
    }
}

fn present(view: View<'_>, kind: &str, object: &Value) -> Value {
    match kind {
        "event" => {
            let number = usize::try_from(object["number"].as_u64().unwrap_or_default()).unwrap();
            event::snapshot(view.world, &view.world.happenings[number], Epoch::Endive)
        }
        "plan" => plan(object),
        _ => view.show(object, Epoch::Endive),
    }
}

type Filter = Box<dyn Fn(&Value) -> bool>;

fn filter(kind: &str, name: &str, value: &str) -> Option<Filter> {
    let value = value.to_owned();
    let number: i64 = value.parse().unwrap_or_default();
    let created = |object: &Value| object["created"].as_i64().unwrap_or_default();
    let pointer = match name {
        "created" => return Some(Box::new(move |object| created(object) == number)),
        "created[gte]" => return Some(Box::new(move |object| created(object) >= number)),
        "created[gt]" => return Some(Box::new(move |object| created(object) > number)),
        "created[lte]" => return Some(Box::new(move |object| created(object) <= number)),
        "created[lt]" => return Some(Box::new(move |object| created(object) < number)),
        "price" if kind == "subscription" => return Some(Box::new(move |object| has_price(object, &value))),
        "status" if kind == "subscription" => return Some(Box::new(move |object| has_status(object, &value))),
        "active" => return Some(Box::new(move |object| object["active"] == (value == "true"))),
        "subscription" if kind == "invoice" => "/parent/subscription_details/subscription",
        "coupon" => "/promotion/coupon",
        "payment[type]" => "/payment/type",
        "payment[payment_intent]" => "/payment/payment_intent",
        "subscription" => "/subscription",
        "code" => "/code",
        "customer" => "/customer",
        "email" => "/email",
        "invoice" => "/invoice",
        "payment_intent" => "/payment_intent",
        "product" => "/product",
        "status" => "/status",
        "type" => "/type",
        _ => return None,
    };
    Some(Box::new(move |object| object.pointer(pointer).and_then(Value::as_str) == Some(&value)))
}

fn has_price(subscription: &Value, price: &str) -> bool {
    subscription["items"]["data"].as_array().into_iter().flatten().any(|item| item["price"] == price)
}

fn has_status(subscription: &Value, status: &str) -> bool {
    match status {
        "all" => true,
        "ended" => subscription["status"] == "canceled" || subscription["status"] == "incomplete_expired",
        status => subscription["status"] == status,
    }
}
