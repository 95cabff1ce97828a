//! Cancelling a subscription now.

use serde_json::{Value, json};

use super::super::params::Kind::{Boolean, Hash, OneOf, Text};
use super::super::params::{self, Fields};
use super::super::routes::Answer;
use super::super::world::World;
use super::named;

const FEEDBACK: &[&str] = &[
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
];

pub(super) const FIELDS: Fields = &[
    ("cancellation_details", Hash(&[("comment", Text), ("feedback", OneOf(FEEDBACK))])),
    ("invoice_now", Boolean),
    ("prorate", Boolean),
];

/// Ends a subscription. One that has ended is unknown to this endpoint.
pub(super) fn cancel(world: &mut World, id: &str, form: &Value) -> Result<String, Answer> {
    let subscription = named(world, "subscription", id)?;
    if !subscription["ended_at"].is_null() {
        return Err(Answer::missing("subscription", id));
    }
    let params = params::read(form, FIELDS)?;
    let mut details = subscription["cancellation_details"].clone();
    details["reason"] = json!("cancellation_requested");
    for (field, value) in params["cancellation_details"].as_object().into_iter().flatten() {
        details[field] = value.clone();
    }
    world.edit(id, |subscription| subscription["cancellation_details"] = details);
    world.end_subscription(id);
    Ok(id.to_owned())
}
