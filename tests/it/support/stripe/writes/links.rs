//! Creating and updating payment links.

use serde_json::{Value, json};

use super::super::params::Kind::{Array, Boolean, Hash, Id, Integer, Metadata, OneOf, Text};
use super::super::params::{self, Fields};
use super::super::routes::Answer;
use super::super::with_defaults;
use super::super::world::World;
use super::{lines, named};

const ADJUSTABLE: Fields = &[("enabled", Boolean), ("maximum", Integer), ("minimum", Integer)];

const AFTER_COMPLETION: Fields = &[
    ("hosted_confirmation", Hash(&[("custom_message", Text)])),
    ("redirect", Hash(&[("url", Id)])),
    ("type", OneOf(&["hosted_confirmation", "redirect"])),
];

const NAME_COLLECTION: Fields = &[("business", Hash(&[("enabled", Boolean), ("optional", Boolean)]))];
const SUBSCRIPTION_DATA: Fields = &[("metadata", Metadata), ("trial_period_days", Integer)];
const TAX_ID_COLLECTION: Fields = &[("enabled", Boolean), ("required", OneOf(&["if_supported", "never"]))];

pub(super) const CREATE: Fields = &[
    ("after_completion", Hash(AFTER_COMPLETION)),
    ("allow_promotion_codes", Boolean),
    ("line_items", Array(&[("adjustable_quantity", Hash(ADJUSTABLE)), ("price", Id), ("quantity", Integer)])),
    ("metadata", Metadata),
    ("name_collection", Hash(NAME_COLLECTION)),
    ("subscription_data", Hash(SUBSCRIPTION_DATA)),
    ("tax_id_collection", Hash(TAX_ID_COLLECTION)),
];

pub(super) const UPDATE: Fields = &[
    ("active", Boolean),
    ("after_completion", Hash(AFTER_COMPLETION)),
    ("allow_promotion_codes", Boolean),
    ("metadata", Metadata),
    ("name_collection", Hash(NAME_COLLECTION)),
    ("subscription_data", Hash(SUBSCRIPTION_DATA)),
    ("tax_id_collection", Hash(TAX_ID_COLLECTION)),
];

pub(super) fn create(world: &mut World, form: &Value) -> Result<String, Answer> {
    let params = params::read(form, CREATE)?;
    let lines = lines(world, &params, false)?;
    let id = world.id("plink");
    let mut items: Vec<Value> = world.lines(&id, &lines);
    for (item, given) in items.iter_mut().zip(params["line_items"].as_array().into_iter().flatten()) {
        item["adjustable_quantity"] = adjustable(&given["adjustable_quantity"]);
    }
    let mut link = blank(&id, &items);
    set(&mut link, &params)?;
    Ok(world.create("payment_link.created", link))
}

pub(super) fn update(world: &mut World, id: &str, form: &Value) -> Result<String, Answer> {
    let mut link = named(world, "payment_link", id)?.clone();
    set(&mut link, &params::read(form, UPDATE)?)?;
    world.change(id, |before| *before = link);
    Ok(id.to_owned())
}

/// Limits of the quantity that visitors may choose; null if they may not.
fn adjustable(given: &Value) -> Value {
    let limits = json!({ "enabled": true, "maximum": 99, "minimum": 0 });
    if given["enabled"] == true { with_defaults(limits, given.clone()) } else { Value::Null }
}

fn blank(id: &str, items: &[Value]) -> Value {
    json!({
        "id": id, "object": "payment_link", "active": true, "allow_promotion_codes": false, "application": null,
        "after_completion": { "hosted_confirmation": { "custom_message": null }, "type": "hosted_confirmation" },
        "automatic_tax": { "enabled": false, "liability": null }, "billing_address_collection": "auto",
        "currency": items[0]["currency"], "custom_fields": [], "customer_creation": "always",
        "inactive_message": null, "invoice_creation": null, "line_items": items, "livemode": false, "metadata": {},
        "name_collection": null, "on_behalf_of": null, "payment_method_collection": "always",
        "payment_method_types": null, "phone_number_collection": { "enabled": false }, "restrictions": null,
        "submit_type": "auto",
        "subscription_data": { "description": null, "invoice_settings": { "issuer": { "type": "self" } },
                               "metadata": {}, "trial_period_days": null, "trial_settings": null },
        "tax_id_collection": { "enabled": false, "required": "never" }, "transfer_data": null,
        "url": format!("https://buy.stripe.com/test_{id}"),
    })
}

fn set(link: &mut Value, params: &Value) -> Result<(), Answer> {
    for field in ["active", "allow_promotion_codes"] {
        if let Some(value) = params.get(field) {
            link[field] = value.clone();
        }
    }
    if let Some(given) = params.get("after_completion") {
        link["after_completion"] = after_completion(given, params)?;
    }
    if let Some(given) = params.get("name_collection") {
        let business = json!({ "enabled": false, "optional": false });
        link["name_collection"] = match &given["business"] {
            Value::Null => Value::Null,
            given => json!({ "business": with_defaults(business, given.clone()) }),
        };
    }
    if let Some(given) = params.get("tax_id_collection") {
        params::require(params, "tax_id_collection[enabled]")?;
        link["tax_id_collection"] = with_defaults(json!({ "enabled": false, "required": "never" }), given.clone());
    }
    let data = &params["subscription_data"];
    if let Some(days) = data.get("trial_period_days") {
        link["subscription_data"]["trial_period_days"] = days.clone();
    }
    params::set_metadata(&mut link["subscription_data"]["metadata"], data)?;
    params::set_metadata(&mut link["metadata"], params)
}

/// What the page shows after the payment: its own confirmation, or another page.
fn after_completion(given: &Value, params: &Value) -> Result<Value, Answer> {
    if given.is_null() {
        return Ok(json!({ "hosted_confirmation": { "custom_message": null }, "type": "hosted_confirmation" }));
    }
    params::require(params, "after_completion[type]")?;
    if given["type"] == "redirect" {
        params::require(params, "after_completion[redirect][url]")?;
        return Ok(json!({ "redirect": given["redirect"], "type": "redirect" }));
    }
    let message = &given["hosted_confirmation"]["custom_message"];
    Ok(json!({ "hosted_confirmation": { "custom_message": message }, "type": "hosted_confirmation" }))
}
