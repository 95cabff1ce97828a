//! Creating and updating customers.

use serde_json::{Value, json};

use super::super::params::Kind::{Hash, Metadata, Text, Texts};
use super::super::params::{self, Fields};
use super::super::routes::Answer;
use super::super::with_defaults;
use super::super::world::World;
use super::named;

const ADDRESS: Fields =
    &[("city", Text), ("country", Text), ("line1", Text), ("line2", Text), ("postal_code", Text), ("state", Text)];

pub(super) const FIELDS: Fields = &[
    ("address", Hash(ADDRESS)),
    ("description", Text),
    ("email", Text),
    ("metadata", Metadata),
    ("name", Text),
    ("phone", Text),
    ("preferred_locales", Texts),
];

pub(super) fn create(world: &mut World, form: &Value) -> Result<String, Answer> {
    let params = params::read(form, FIELDS)?;
    let mut customer = world.blank_customer();
    set(&mut customer, &params)?;
    Ok(world.create("customer.created", customer))
}

pub(super) fn update(world: &mut World, id: &str, form: &Value) -> Result<String, Answer> {
    let mut customer = named(world, "customer", id)?.clone();
    set(&mut customer, &params::read(form, FIELDS)?)?;
    world.change(id, |before| *before = customer);
    Ok(id.to_owned())
}

fn set(customer: &mut Value, params: &Value) -> Result<(), Answer> {
    if let Some(email) = params["email"].as_str().filter(|email| !email.contains('@')) {
        let message = format!("Invalid email address: {email}");
        return Err(Answer::invalid(&message, "email").with_code("email_invalid"));
    }
    for field in ["description", "email", "name", "phone"] {
        if let Some(value) = params.get(field) {
            customer[field] = value.clone();
        }
    }
    if let Some(locales) = params.get("preferred_locales") {
        customer["preferred_locales"] = if locales.is_null() { json!([]) } else { locales.clone() };
    }
    if let Some(address) = params.get("address") {
        let blank: Value = ADDRESS.iter().map(|(field, _)| ((*field).to_owned(), Value::Null)).collect();
        customer["address"] = if address.is_null() { Value::Null } else { with_defaults(blank, address.clone()) };
    }
    params::set_metadata(&mut customer["metadata"], params)
}
