//! The generated documents of the API agree with the public pages: every endpoint, parameter and field of
//! `fixtures/api/workspace-service.json` and `fixtures/api/checkout-links.json`, in both directions.
//!
//! Owns that comparison and the list of our extensions. Status codes and error bodies are not compared, because the
//! pages state none. Must not know how the document is generated.

mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use billing_sync::api::openapi;
use serde_json::{Map, Value, json};

use super::schema::{JSON, Operation, Schema, Side, content, operations};

/// What the document contains beyond the pages. An entry names an operation, a parameter of one operation
/// (`GET /v1/workspaces query state`), a header of any operation (`header If-Match`, `response header ETag`), or a
/// field of a schema (`response Workspace.limits`).
const EXTENSIONS: &[&str] = &[
    // one call for products that poll: is it active, how much is left, since when is this known
    "GET /v1/state",
    "GET /v1/workspaces/{workspaceId}/history",
    "GET /v1/workspaces/{workspaceId}/limits",
    "POST /v1/workspaces/{workspaceId}/limits/{key}/consume",
    "POST /v1/workspaces/{workspaceId}/limits/{key}/release",
    // reads that cost nothing if nothing has changed, and that wait for a change
    "header If-None-Match",
    "header Prefer",
    "response header ETag",
    // writes that do not overwrite the change of another client
    "header If-Match",
    // why it is inactive, and limits other than words; null words do not tell unlimited from unknown
    "response Subscription.inactiveReason",
    "response Subscription.limits",
    // how recent the answer is
    "response header Billing-As-Of",
    "response header Billing-Pending",
    // a creation that can be repeated, and where the new workspace is
    "header Idempotency-Key",
    "response header Idempotent-Replayed",
    "response header Location",
];

/// The same for the document of checkout links.
const EXTENSIONS_OF_LINKS: &[&str] = &[
    // a creation that can be repeated
    "header Idempotency-Key",
    "response header ETag",
    "response header Idempotent-Replayed",
    "response header Location",
];

/// Fields that are never null, because clients read through them. The rows in `_embedded` may be absent.
const CONTAINERS: [&str; 6] = ["._embedded", ".data", ".page", ".afterCheckout", ".items", ".options"];

/// Lists every difference between the contract and the document. `prefix` is the part of every path that the contract
/// omits, `extensions` what only the document may contain.
pub(super) fn differences(contract: &Value, openapi: &Value, prefix: &str, extensions: &[&str]) -> Vec<String> {
    let mut comparison = Comparison { document: openapi, found: BTreeSet::new(), additions: BTreeSet::new() };
    let served = operations(openapi).into_iter().map(|((method, path), operation)| {
        (format!("{method} {}", path.strip_prefix(prefix).unwrap_or(&path)), (path.starts_with(prefix), operation))
    });
    let mut served: BTreeMap<String, (bool, Operation<'_>)> = served.collect();
    if !served.values().any(|(has_prefix, _)| *has_prefix) {
        comparison.report(format!("no path begins with {prefix}: name it in `servers` or in the paths"));
    }
    for endpoint in contract["endpoints"].as_array().into_iter().flatten() {
        let name = format!("{} {}", text(&endpoint["method"]), text(&endpoint["path"]));
        match (served.remove(&name), endpoint["served"] != false) {
            (Some((_, operation)), true) => comparison.endpoint(&name, endpoint, &operation),
            (None, true) => comparison.report(format!("{name} is missing")),
            (Some(_), false) => comparison.report(format!("{name} is served: remove `\"served\": false`")),
            (None, false) => {}
        }
    }
    for name in served.into_keys() {
        comparison.add(name.clone(), name);
    }
    comparison.finish(extensions)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

struct Comparison<'a> {
    document: &'a Value,
    found: BTreeSet<String>,
    /// What only the document contains: its name, and a general name that an extension may use instead.
    additions: BTreeSet<(String, String)>,
}

impl<'a> Comparison<'a> {
    fn report(&mut self, difference: String) {
        self.found.insert(difference);
    }

    fn add(&mut self, name: String, general: String) {
        self.additions.insert((name, general));
    }

    fn finish(self, extensions: &[&str]) -> Vec<String> {
        let is_listed = |name: &str| extensions.contains(&name);
        let unlisted = self.additions.iter().filter(|(name, general)| !is_listed(name) && !is_listed(general));
        let unlisted = unlisted.map(|(name, _)| format!("{name} is an addition that is not listed as an extension"));
        let is_present =
            |listed: &str| self.additions.iter().any(|(name, general)| name == listed || general == listed);
        let absent = extensions.iter().filter(|listed| !is_present(listed));
        let absent = absent.map(|listed| format!("{listed} is listed as an extension and not in the document"));
        self.found.iter().cloned().chain(unlisted).chain(absent).collect()
    }

    fn endpoint(&mut self, name: &str, endpoint: &Value, operation: &Operation<'a>) {
        let security = operation.security();
        let is_bearer = |schemes: &BTreeSet<&str>| schemes.iter().any(|scheme| operation.is_bearer(scheme));
        if !security.iter().any(is_bearer) || security.iter().any(BTreeSet::is_empty) {
            self.report(format!("{name} does not require `Authorization: Bearer`"));
        }
        self.parameters(name, endpoint, operation);
        self.request(name, endpoint["request"].as_object(), operation.request());
        self.responses(name, endpoint["response"].as_object(), operation);
    }

    fn parameters(&mut self, name: &str, endpoint: &Value, operation: &Operation<'a>) {
        let mut parameters = operation.parameters();
        for (location, table) in [("path", "pathParameters"), ("query", "queryParameters")] {
            for (parameter, expected) in endpoint[table].as_object().into_iter().flatten() {
                let place = format!("{name} {location} {parameter}");
                let Some(found) = parameters.remove(&(location, parameter.clone())) else {
                    self.report(format!("{place} is missing"));
                    continue;
                };
                self.value(&place, expected, &found["schema"], Side::Request);
                self.requirement(&place, expected, found["required"] == true);
            }
        }
        for ((location, _), parameter) in parameters {
            let general = format!("{location} {}", text(&parameter["name"]));
            // a header is common to all operations; a query belongs to one
            let own = format!("{name} {general}");
            let general = if location == "header" { general } else { own.clone() };
            self.add(own, general);
        }
    }

    fn request(&mut self, name: &str, fields: Option<&Map<String, Value>>, body: Option<&'a Value>) {
        match (fields, body) {
            (Some(fields), Some(body)) => {
                let Some(schema) = content(body).remove(JSON) else {
                    return self.report(format!("{name} does not accept {JSON}"));
                };
                self.fields(&format!("request {name}"), fields, schema, Side::Request);
                let has_required = fields.values().any(|field| field["required"] == true);
                let place = format!("{name} request body");
                self.requirement(&place, &json!({ "required": has_required }), body["required"] == true);
            }
            (Some(_), None) => self.report(format!("{name} request body is missing")),
            (None, Some(_)) => self.add(format!("{name} request body"), String::new()),
            (None, None) => {}
        }
    }

    fn responses(&mut self, name: &str, fields: Option<&Map<String, Value>>, operation: &Operation<'a>) {
        let mut has_body = false;
        for (_, response) in operation.responses().into_iter().filter(|(status, _)| status.starts_with('2')) {
            for header in response["headers"].as_object().into_iter().flat_map(Map::keys) {
                self.add(format!("{name} response header {header}"), format!("response header {header}"));
            }
            for (media_type, schema) in content(response) {
                match fields {
                    Some(fields) if media_type == JSON => {
                        has_body = true;
                        self.fields(&format!("response {name}"), fields, schema, Side::Response);
                    }
                    _ => self.add(format!("{name} response {media_type}"), String::new()),
                }
            }
        }
        if fields.is_some() && !has_body {
            self.report(format!("{name} response body is missing"));
        }
    }

    /// Compares the fields of an object. Those of a component are reported by its name, once for all its uses.
    fn fields(&mut self, place: &str, fields: &Map<String, Value>, schema: &'a Value, side: Side) {
        let schema = Schema::read(self.document, schema);
        let place = schema.name.map_or_else(|| place.to_owned(), |name| format!("{} {name}", side.word()));
        for (name, expected) in fields {
            let field = format!("{place}.{name}");
            let Some(found) = schema.properties.get(name.as_str()) else {
                self.report(format!("{field} is missing"));
                continue;
            };
            self.value(&field, expected, found, side);
            let is_required = schema.required.contains(name.as_str());
            match side {
                Side::Request => self.requirement(&field, expected, is_required),
                // the pages do not say it; absent values are null, so that a client finds every field
                Side::Response if !is_required => self.report(format!("{field} is not required: send null instead")),
                Side::Response => {}
            }
        }
        for name in schema.properties.keys().filter(|name| !fields.contains_key(**name)) {
            self.add(format!("{place}.{name}"), String::new());
        }
    }

    fn requirement(&mut self, place: &str, expected: &Value, is_required: bool) {
        match (expected["required"] == true, is_required) {
            (true, false) => self.report(format!("{place} is not required")),
            (false, true) => self.report(format!("{place} is required, but optional in the contract")),
            _ => {}
        }
    }

    /// Compares type and nesting of a field or parameter.
    fn value(&mut self, place: &str, expected: &Value, found: &'a Value, side: Side) {
        let schema = Schema::read(self.document, found);
        let stated = match (text(&expected["type"]), expected["values"].as_str()) {
            ("object", Some(values)) => format!("map<{values}>"),
            (stated, _) => stated.to_owned(),
        };
        let described = schema.describe(self.document);
        if described != stated {
            return self.report(format!("{place} is {described} instead of {stated}"));
        }
        let children = expected["children"].as_object();
        let is_null_valid = match side {
            Side::Request => expected["required"] != true,
            Side::Response => !CONTAINERS.iter().any(|container| place.ends_with(container)),
        };
        if schema.is_nullable && !is_null_valid {
            self.report(format!("{place} may be null"));
        }
        if let Some(children) = children {
            self.fields(place, children, schema.items.unwrap_or(found), side);
        }
    }
}

fn check(file: &str, endpoints: usize, document: &impl serde::Serialize, extensions: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/api").join(file);
    let contract: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(contract["endpoints"].as_array().map(Vec::len), Some(endpoints), "endpoints of {file}");
    let document = serde_json::to_value(document).unwrap();
    let found = differences(&contract, &document, text(&contract["basePath"]), extensions);
    assert!(
        found.is_empty(),
        "the API differs from the public pages: correct the code, or list an intended addition in {}:\n{}",
        file!(),
        found.join("\n")
    );
}

#[test]
fn every_field_of_the_public_pages_is_served_and_every_addition_is_listed() {
    check("workspace-service.json", 9, &openapi::workspaces(), EXTENSIONS);
}

#[test]
fn every_field_of_the_page_of_checkout_links_is_served_and_every_addition_is_listed() {
    check("checkout-links.json", 1, &openapi::checkout_links(), EXTENSIONS_OF_LINKS);
}
