//! Creating and updating webhook endpoints.

use serde_json::{Value, json};

use super::super::endpoints::blank;
use super::super::params::Kind::{Boolean, EventTypes, Id, OneOf};
use super::super::params::{self, Fields};
use super::super::routes::Answer;
use super::super::world::World;
use super::named;

pub(super) const CREATE: Fields = &[
    ("api_version", OneOf(&["2026-09-30.endive", "2026-10-28.endive"])),
    ("connect", Boolean),
    ("enabled_events", EventTypes),
    ("url", Id),
];

/// The API version is not among them.
pub(super) const UPDATE: Fields = &[("disabled", Boolean), ("enabled_events", EventTypes), ("url", Id)];

pub(super) fn create(world: &mut World, form: &Value) -> Result<String, Answer> {
    let params = params::read(form, CREATE)?;
    params::require(&params, "enabled_events")?;
    params::require(&params, "url")?;
    let mut endpoint = blank(&world.id("we"), world.now);
    for field in ["api_version", "enabled_events", "url"] {
        endpoint[field] = params[field].clone();
    }
    if params["connect"] == true {
        endpoint["application"] = json!("ca_1");
    }
    Ok(world.put(endpoint))
}

pub(super) fn update(world: &mut World, id: &str, form: &Value) -> Result<String, Answer> {
    named(world, "webhook_endpoint", id)?;
    let params = params::read(form, UPDATE)?;
    world.edit(id, |endpoint| {
        for field in ["enabled_events", "url"] {
            if !params[field].is_null() {
                endpoint[field] = params[field].clone();
            }
        }
        if let Some(is_disabled) = params["disabled"].as_bool() {
            endpoint["status"] = json!(if is_disabled { "disabled" } else { "enabled" });
        }
    });
    Ok(id.to_owned())
}

/// The signing secret, which only the answer to the creation contains.
pub(super) fn secret(id: &str) -> Value {
    json!(format!("whsec_of_{id}"))
}
