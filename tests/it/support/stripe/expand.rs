//! `expand[]`: replaces references by their objects, and adds fields that Stripe returns only on request.

use serde_json::{Value, json};

use super::epoch::Epoch;
use super::routes::{self, Answer};
use super::view::View;

const DEEPEST: usize = 4;

/// Expandable fields, by the kind of the object that contains them.
const EXPANDABLE: [(&str, &[&str]); 16] = [
    ("charge", &["customer", "payment_intent"]),
    (
        "checkout.session",
        &[
            "customer",
            "discounts.coupon",
            "discounts.promotion_code",
            "invoice",
            "line_items",
            "payment_intent",
            "subscription",
        ],
    ),
    ("customer", &["default_source", "invoice_settings.default_payment_method", "test_clock"]),
    ("discount", &["customer", "promotion_code", "source.coupon"]),
    ("dispute", &["charge", "payment_intent"]),
    ("invoice", &["customer", "discounts", "parent.subscription_details.subscription", "payments"]),
    ("invoice_payment", &["invoice", "payment.charge", "payment.payment_intent"]),
    ("payment_intent", &["customer", "latest_charge", "payment_method"]),
    ("payment_link", &["line_items"]),
    ("payment_method", &["customer"]),
    ("plan", &["product"]),
    ("price", &["currency_options", "product"]),
    ("product", &["default_price"]),
    ("promotion_code", &["customer", "promotion.coupon"]),
    (
        "subscription",
        &[
            "customer",
            "default_payment_method",
            "default_source",
            "discounts",
            "latest_invoice",
            "schedule",
            "test_clock",
        ],
    ),
    ("subscription_schedule", &["customer", "phases.items.price", "subscription"]),
];

/// Kinds that exist only inside others.
const INNER: [(&str, &[&str]); 2] = [("item", &[]), ("subscription_item", &["discounts"])];

/// Expands one path of an answer.
pub(crate) fn expand(view: View<'_>, found: &mut Value, path: &str) -> Result<(), Answer> {
    let names: Vec<&str> = path.split('.').collect();
    if names.len() > DEEPEST {
        return Err(Answer::refusal(400, "You cannot expand more than 4 levels of a property"));
    }
    Expansion { view, path }.object(found, &names)
}

struct Expansion<'a> {
    view: View<'a>,
    /// The whole path, for the error.
    path: &'a str,
}

impl Expansion<'_> {
    fn refusal(&self) -> Answer {
        Answer::refusal(400, &format!("This property cannot be expanded ({}).", self.path))
    }

    /// Expands the rest of the path in an object, or in the elements of a list.
    fn object(&self, object: &mut Value, names: &[&str]) -> Result<(), Answer> {
        match object["object"].as_str().map(str::to_owned) {
            _ if object["deleted"] == true => Ok(()),
            Some(kind) if kind == "list" => match names {
                ["data", rest @ ..] if !rest.is_empty() => self.each(&mut object["data"], rest),
                _ => Err(self.refusal()),
            },
            Some(kind) => self.field(object, &kind, "", names),
            None => Err(self.refusal()),
        }
    }

    fn each(&self, array: &mut Value, names: &[&str]) -> Result<(), Answer> {
        array.as_array_mut().into_iter().flatten().try_for_each(|element| self.object(element, names))
    }

    /// Expands the rest of the path in a field; `within` is the path from the object of this kind to it.
    fn field(&self, holder: &mut Value, kind: &str, within: &str, names: &[&str]) -> Result<(), Answer> {
        let Some((name, rest)) = names.split_first() else { return Err(self.refusal()) };
        if let Some(array) = holder.as_array_mut() {
            return array.iter_mut().try_for_each(|element| self.field(element, kind, within, names));
        }
        let full_path = if within.is_empty() { (*name).to_owned() } else { format!("{within}.{name}") };
        if expandable(kind).any(|field| field == full_path) {
            self.fill(holder, name);
            return match holder.get_mut(*name).unwrap_or(&mut Value::Null) {
                _ if rest.is_empty() => Ok(()),
                object @ Value::Object(_) => self.object(object, rest),
                array @ Value::Array(_) => self.each(array, rest),
                _ => Ok(()),
            };
        }
        let field = holder.get_mut(*name).ok_or_else(|| self.refusal())?;
        if field["object"].is_string() {
            return if rest.is_empty() { Err(self.refusal()) } else { self.object(field, rest) };
        }
        if expandable(kind).any(|field| field.starts_with(&format!("{full_path}."))) {
            return if field.is_null() { Ok(()) } else { self.field(field, kind, &full_path, rest) };
        }
        // a hash or object that is null here may exist in another answer
        if field.is_null() && kind == "customer" && *name == "discount" { Ok(()) } else { Err(self.refusal()) }
    }

    /// Replaces ids by their objects, or adds fields that exist only on request.
    fn fill(&self, holder: &mut Value, name: &str) {
        if holder[name].is_object() {
            return;
        }
        let id = holder["id"].as_str().unwrap_or_default().to_owned();
        let stored = |name: &str| self.view.get(&id).map(|object| object[name].clone()).unwrap_or_default();
        match name {
            "currency_options" => holder[name] = stored(name),
            "line_items" => holder[name] = self.line_items(&id, stored(name)),
            "payments" => {
                let payments = json!(self.view.payments(&id));
                holder[name] =
                    json!({ "object": "list", "data": payments, "has_more": false, "url": "/v1/invoice_payments" });
            }
            _ => {
                if let Some(reference) = holder.get_mut(name) {
                    self.replace(reference);
                }
            }
        }
    }

    fn line_items(&self, owner: &str, mut lines: Value) -> Value {
        for line in lines.as_array_mut().into_iter().flatten() {
            self.replace(&mut line["price"]);
        }
        let kind = self.view.get(owner).and_then(|owner| owner["object"].as_str()).unwrap_or_default();
        let url = format!("{}/line_items", routes::url(kind, owner));
        json!({ "object": "list", "data": lines, "has_more": false, "url": url })
    }

    fn replace(&self, reference: &mut Value) {
        match reference {
            Value::Array(references) => references.iter_mut().for_each(|reference| self.replace(reference)),
            Value::String(id) => {
                if let Some(object) = self.view.shown(id, Epoch::Endive) {
                    *reference = object;
                }
            }
            _ => {}
        }
    }
}

fn expandable(kind: &str) -> impl Iterator<Item = &'static str> {
    let known = EXPANDABLE.iter().chain(&INNER).find(move |(known, _)| *known == kind);
    known.into_iter().flat_map(|(_, fields)| fields.iter().copied())
}
