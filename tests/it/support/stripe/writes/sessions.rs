//! Creating and expiring checkout sessions of subscriptions.

use serde_json::{Value, json};

use super::super::params::Kind::{Array, Boolean, Hash, Id, Integer, Metadata, OneOf, Text};
use super::super::params::{self, Fields};
use super::super::routes::Answer;
use super::super::world::World;
use super::{check_reference, lines, named};

const LOCALES: &[&str] = &[
    "auto", "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA", "hr", "hu",
    "id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sl", "sv",
    "th", "tr", "vi", "zh", "zh-HK", "zh-TW",
];

pub(super) const FIELDS: Fields = &[
    ("allow_promotion_codes", Boolean),
    ("client_reference_id", Text),
    ("customer", Id),
    ("discounts", Array(&[("coupon", Id), ("promotion_code", Id)])),
    ("line_items", Array(&[("price", Id), ("quantity", Integer)])),
    ("locale", OneOf(LOCALES)),
    ("metadata", Metadata),
    ("mode", OneOf(&["subscription"])),
    ("return_url", Id),
    ("subscription_data", Hash(&[("metadata", Metadata), ("trial_period_days", Integer)])),
    ("success_url", Id),
    ("ui_mode", OneOf(&["elements", "embedded_page", "hosted_page"])),
];

/// Fields of the session that are set as sent.
const COPIED: [&str; 7] =
    ["allow_promotion_codes", "client_reference_id", "customer", "locale", "return_url", "success_url", "ui_mode"];

/// Creates an open session. Stripe sends no event.
pub(super) fn create(world: &mut World, form: &Value) -> Result<String, Answer> {
    let params = params::read(form, FIELDS)?;
    params::require(&params, "mode")?;
    check_urls(&params)?;
    check_reference(world, "customer", &params["customer"], "customer")?;
    let (lines, discounts) = (lines(world, &params, true)?, discounts(world, &params)?);
    let mut session = world.blank_session(&lines);
    session["success_url"] = Value::Null;
    for field in COPIED {
        if let Some(value) = params.get(field) {
            session[field] = value.clone();
        }
    }
    session["discounts"] = discounts;
    params::set_metadata(&mut session["metadata"], &params)?;
    session["subscription_data"] = subscription_data(&params)?;
    World::set_page(&mut session);
    Ok(world.put(session))
}

/// Checks the URL after the visit, which depends on the page that shows the session.
fn check_urls(params: &Value) -> Result<(), Answer> {
    let ui_mode = params["ui_mode"].as_str().unwrap_or("hosted_page");
    let (required, unsupported) = match ui_mode {
        "hosted_page" => (Some("success_url"), "return_url"),
        "embedded_page" => (Some("return_url"), "success_url"),
        _ => (None, "success_url"),
    };
    if !params[unsupported].is_null() {
        let message = format!("The following parameters are not supported with 'ui_mode: {ui_mode}': {unsupported}.");
        return Err(Answer::invalid(&message, unsupported));
    }
    required.map_or(Ok(()), |required| params::require(params, required))
}

fn discounts(world: &World, params: &Value) -> Result<Value, Answer> {
    let given = params["discounts"].as_array().cloned().unwrap_or_default();
    if !given.is_empty() && !params["allow_promotion_codes"].is_null() {
        let message = "You may only specify one of these parameters: allow_promotion_codes, discounts.";
        return Err(Answer::refusal(400, message));
    }
    if given.len() > 1 {
        return Err(Answer::invalid("You may only specify one discount", "discounts"));
    }
    for (index, discount) in given.iter().enumerate() {
        for kind in ["coupon", "promotion_code"] {
            check_reference(world, kind, &discount[kind], &format!("discounts[{index}][{kind}]"))?;
        }
    }
    let shown = |one: &Value| json!({ "coupon": one["coupon"], "promotion_code": one["promotion_code"] });
    Ok(given.iter().map(shown).collect())
}

/// The data of the subscription to be created, which the session does not show.
fn subscription_data(params: &Value) -> Result<Value, Answer> {
    let given = &params["subscription_data"];
    let days = &given["trial_period_days"];
    if days.as_i64().is_some_and(|days| days < 1) {
        let message = "The minimum number of trial period days is 1.";
        return Err(Answer::invalid(message, "subscription_data[trial_period_days]"));
    }
    let mut data = json!({ "metadata": {}, "trial_period_days": days });
    params::set_metadata(&mut data["metadata"], given)?;
    Ok(data)
}

/// Expires an open session.
pub(super) fn expire(world: &mut World, id: &str, form: &Value) -> Result<String, Answer> {
    let status = named(world, "checkout.session", id)?["status"].as_str().unwrap_or_default().to_owned();
    params::read(form, &[])?;
    if status != "open" {
        let message = format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of \
             `{status}`."
        );
        return Err(Answer::refusal(400, &message));
    }
    world.expire_session(id);
    Ok(id.to_owned())
}
