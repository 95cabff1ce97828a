//! Generated histories of a customer and its subscriptions, with many events of one second, in two API versions.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::paused;
use crate::support::events::{customer, event, subscription, update, with};

/// A generated history of a customer and its subscriptions.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) events: Vec<Value>,
    /// The same events in the order of arrival, some of them twice.
    pub(super) arrival: Vec<usize>,
    /// Number of events per batch.
    pub(super) batch_size: usize,
}

/// Generates changes: seconds since the previous one, the object, and its state.
pub(super) fn life() -> impl Strategy<Value = Life> {
    let seconds = prop_oneof![3 => Just(0_i64), 1 => Just(1), 1 => 2..40_i64];
    // mostly one subscription that alternates between states, so that circuits are common
    let object = prop_oneof![4 => Just(1_usize), 1 => Just(0), 1 => Just(2)];
    let state = prop_oneof![3 => 0..2_usize, 1 => 2..4_usize];
    prop::collection::vec((seconds, object, state), 3..10).prop_flat_map(|changes| {
        let events = emit(&changes);
        let twice: Vec<usize> = (0..events.len()).chain(0..events.len() / 2).collect();
        (Just(events), Just(twice).prop_shuffle(), 1..6_usize).prop_map(|(events, arrival, batch_size)| Life {
            events,
            arrival,
            batch_size,
        })
    })
}

/// The states of an object: few, so that trails return to a former state.
fn state_of(object: usize, state: usize) -> Value {
    match (object, state) {
        (0, 0) => customer("cus_1", "Ada"),
        (0, 1) => customer("cus_1", "Ada L."),
        (0, _) => with(
            &customer("cus_1", "Ada"),
            json!({ "metadata": { "workspace_id": "550e8400-e29b-41d4-a716-446655440000" } }),
        ),
        (which, state) => {
            let plain = subscription(&format!("sub_{which}"), "cus_1");
            match state {
                0 => plain,
                1 => paused(&plain),
                2 => with(&plain, json!({ "cancel_at_period_end": true })),
                _ => with(&paused(&plain), json!({ "status": "past_due" })),
            }
        }
    }
}

/// A subscription in an older API version: with the period at the top level, and without the newest fields.
fn rendered(object: &Value, is_old: bool) -> Value {
    let mut object = object.clone();
    if is_old && object["object"] == "subscription" {
        let item = object["items"]["data"][0].as_object_mut().unwrap();
        let end = item.remove("current_period_end").unwrap();
        item.remove("current_period_start");
        let object = object.as_object_mut().unwrap();
        object.insert("current_period_end".to_owned(), end);
        object.retain(|field, _| !["currency", "discounts", "billing_mode"].contains(&field.as_str()));
        object.insert("discount".to_owned(), Value::Null);
    }
    object
}

fn in_version(event: Value, is_old: bool) -> Value {
    if is_old { with(&event, json!({ "api_version": "2020-08-27" })) } else { event }
}

/// The events of the changes in their true order; their ids have no order.
fn emit(changes: &[(i64, usize, usize)]) -> Vec<Value> {
    let mut states = [None, None, None];
    let mut second = 0;
    let mut events = Vec::new();
    for (number, (seconds, object, state)) in changes.iter().enumerate() {
        second += seconds;
        let id = format!("evt_{:03}", (number * 37 + 11) % 101);
        let kind = if *object == 0 { "customer" } else { "customer.subscription" };
        // about half of the events are rendered in an older API version
        let is_old = (number * 7 + object) % 5 < 2;
        let new = state_of(*object, *state);
        match states[*object].replace(new.clone()) {
            None => {
                let created = event(&id, &format!("{kind}.created"), second, &rendered(&new, is_old), None);
                events.push(in_version(created, is_old));
            }
            Some(old) if old == new => {}
            Some(old) => {
                let (old, new) = (rendered(&old, is_old), rendered(&new, is_old));
                events.push(in_version(update(&id, &format!("{kind}.updated"), second, &old, &new), is_old));
            }
        }
    }
    events
}

/// The last event of each object.
pub(super) fn last_events(events: &[Value]) -> Vec<Value> {
    let mut last = std::collections::BTreeMap::new();
    for event in events {
        last.insert(event["data"]["object"]["id"].to_string(), event.clone());
    }
    last.into_values().collect()
}
