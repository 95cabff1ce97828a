//! A change of the API that breaks clients is refused: each generated document of the API is compared with the committed
//! one, `docs/openapi/workspaces.json` and `docs/openapi/checkout-links.json`.
//!
//! Owns which changes break a client, and those files; regenerate them with
//! `INSTA_UPDATE=always cargo test --locked --test it -- api::compatible`. Must not know what the API serves.

mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use billing_sync::api::openapi;
use serde_json::Value;

use super::schema::{Operation, Schema, Side, content, headers, operations};

/// The committed document, from the root of the repository.
const COMMITTED: &str = "docs/openapi/workspaces.json";

/// Lists the changes from the old to the new document that break a client of the old one.
///
/// Clients ignore response fields that they do not know and accept unknown values of a response's enum, so both may be
/// added. Schemas are compared where they are used: a change of a type counts in both directions, every other change
/// only where it restricts what clients send or widens what they get.
pub(super) fn breaking(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison { old, new, found: BTreeSet::new(), seen: BTreeSet::new() };
    let mut now = operations(new);
    for ((method, path), before) in operations(old) {
        let name = format!("{method} {path}");
        match now.remove(&(method, path)) {
            Some(after) => comparison.operation(&name, &before, &after),
            None => comparison.report(format!("{name} was removed")),
        }
    }
    comparison.found.into_iter().collect()
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    found: BTreeSet<String>,
    /// Pairs of components that are compared already; components may contain themselves.
    seen: BTreeSet<(&'a str, &'a str, Side)>,
}

impl<'a> Comparison<'a> {
    fn report(&mut self, change: String) {
        self.found.insert(change);
    }

    fn operation(&mut self, name: &str, before: &Operation<'a>, after: &Operation<'a>) {
        self.security(name, before, after);
        self.parameters(name, before, after);
        self.request(name, before.request(), after.request());
        let mut responses = after.responses();
        for (status, response) in before.responses() {
            let place = format!("{name} {status}");
            match responses.remove(status) {
                Some(now) => self.response(&place, response, now),
                None => self.report(format!("response {place} was removed")),
            }
        }
    }

    fn security(&mut self, name: &str, before: &Operation<'a>, after: &Operation<'a>) {
        let (old, new) = (before.security(), after.security());
        let is_open = new.is_empty() || new.iter().any(BTreeSet::is_empty);
        if !is_open && old.is_empty() {
            self.report(format!("{name} now requires authentication"));
        }
        for alternative in old.iter().filter(|alternative| !is_open && !new.contains(alternative)) {
            let schemes = alternative.iter().copied().collect::<Vec<_>>().join(" and ");
            self.report(format!("{name} no longer accepts authentication by {schemes}"));
        }
    }

    fn parameters(&mut self, name: &str, before: &Operation<'a>, after: &Operation<'a>) {
        let mut parameters = after.parameters();
        for ((location, parameter), old) in before.parameters() {
            let place = format!("{name} {location} {parameter}");
            let Some(new) = parameters.remove(&(location, parameter)) else {
                self.report(format!("{place} was removed"));
                continue;
            };
            if old["required"] != true && new["required"] == true {
                self.report(format!("{place} is now required"));
            }
            self.schema(&place, &old["schema"], &new["schema"], Side::Request);
        }
        for ((location, parameter), _) in parameters.into_iter().filter(|(_, new)| new["required"] == true) {
            self.report(format!("{name} {location} {parameter} was added and is required"));
        }
    }

    fn request(&mut self, name: &str, before: Option<&'a Value>, after: Option<&'a Value>) {
        let is_required = |body: Option<&Value>| body.is_some_and(|body| body["required"] == true);
        if is_required(after) && !is_required(before) {
            self.report(format!("request {name}: the body is now required"));
        }
        match (before, after) {
            (Some(before), Some(after)) => self.bodies(name, before, after, Side::Request),
            (Some(_), None) => self.report(format!("request {name}: the body was removed")),
            (None, _) => {}
        }
    }

    fn response(&mut self, place: &str, before: &'a Value, after: &'a Value) {
        let mut now = headers(self.new, after);
        for (name, old) in headers(self.old, before) {
            let place = format!("response {place} header {name}");
            match now.remove(&name) {
                Some(new) => self.schema(&place, &old["schema"], &new["schema"], Side::Response),
                None => self.report(format!("{place} was removed")),
            }
        }
        self.bodies(place, before, after, Side::Response);
    }

    fn bodies(&mut self, place: &str, before: &'a Value, after: &'a Value, side: Side) {
        let mut now = content(after);
        for (media_type, old) in content(before) {
            match now.remove(media_type) {
                Some(new) => self.schema(&format!("{} {place}", side.word()), old, new, side),
                None => self.report(format!("{} {place}: {media_type} was removed", side.word())),
            }
        }
    }

    fn schema(&mut self, place: &str, old: &'a Value, new: &'a Value, side: Side) {
        let (before, after) = (Schema::read(self.old, old), Schema::read(self.new, new));
        self.types(place, &before, &after, side);
        self.values(place, &before, &after, side);
        if let (Some(old), Some(new)) = (before.name, after.name)
            && !self.seen.insert((old, new, side))
        {
            return;
        }
        // the fields of a component are reported by its name, once for all its uses
        let place = before.name.map_or_else(|| place.to_owned(), |name| format!("{} {name}", side.word()));
        self.fields(&place, &before, &after, side);
        for (part, old, new) in [("items", before.items, after.items), ("values", before.values, after.values)] {
            if let (Some(old), Some(new)) = (old, new) {
                self.schema(&format!("{place} {part}"), old, new, side);
            }
        }
        for (name, old) in &before.variants {
            match after.variants.get(name) {
                Some(new) => self.schema(&format!("{place} {name}"), old, new, side),
                None if after.variants.is_empty() => {}
                None => self.report(format!("{place}: the variant {name} was removed or changed")),
            }
        }
    }

    fn types(&mut self, place: &str, before: &Schema<'a>, after: &Schema<'a>, side: Side) {
        // the parts of arrays, maps and unions are compared by themselves
        let kind = |schema: &Schema<'a>| (schema.types.clone(), schema.values.is_some(), schema.variants.is_empty());
        if kind(before) != kind(after) {
            let (old, new) = (before.describe(self.old), after.describe(self.new));
            self.report(format!("{place}: the type was {old} and is {new}"));
        }
        if side == Side::Response && after.is_nullable && !before.is_nullable {
            self.report(format!("{place} may now be null"));
        }
        if side == Side::Request && before.is_nullable && !after.is_nullable {
            self.report(format!("{place} may no longer be null"));
        }
        let (narrow, wide) = match side {
            Side::Request => (before.format, after.format),
            Side::Response => (after.format, before.format),
        };
        let is_widened = matches!((narrow, wide), (_, None) | (Some("int32"), Some("int64")));
        if before.types == after.types && narrow != wide && !is_widened {
            let word = |format: Option<&'a str>| format.unwrap_or("no format");
            self.report(format!("{place}: the format was {} and is {}", word(before.format), word(after.format)));
        }
    }

    /// Compares the values that clients may send. Those that they get may become more or fewer.
    fn values(&mut self, place: &str, before: &Schema<'a>, after: &Schema<'a>, side: Side) {
        if side == Side::Response {
            return;
        }
        match (&before.words, &after.words) {
            (Some(old), Some(new)) => {
                for word in old.difference(new) {
                    self.report(format!("{place}: the value {word} was removed"));
                }
            }
            (None, Some(_)) => self.report(format!("{place}: only listed values are valid now")),
            (_, None) => {}
        }
        for (keyword, new) in &after.limits {
            let old = before.limits.get(keyword).copied();
            let is_restricted = match (old.and_then(Value::as_f64), new.as_f64()) {
                (Some(old), Some(new)) if keyword.to_lowercase().contains("min") => new > old,
                (Some(old), Some(new)) => new < old,
                _ => old != Some(*new),
            };
            if is_restricted {
                let old = old.map_or_else(|| "absent".to_owned(), Value::to_string);
                self.report(format!("{place}: {keyword} was {old} and is {new}"));
            }
        }
        if after.is_closed && !before.is_closed {
            self.report(format!("{place}: unknown fields are invalid now"));
        }
    }

    fn fields(&mut self, place: &str, before: &Schema<'a>, after: &Schema<'a>, side: Side) {
        for (name, old) in &before.properties {
            let field = format!("{place}.{name}");
            let Some(new) = after.properties.get(name) else {
                self.report(format!("{field} was removed"));
                continue;
            };
            match (side, before.required.contains(name), after.required.contains(name)) {
                (Side::Request, false, true) => self.report(format!("{field} is now required")),
                (Side::Response, true, false) => self.report(format!("{field} may now be left out")),
                _ => {}
            }
            self.schema(&field, old, new, side);
        }
        let added = after.required.iter().filter(|name| !before.properties.contains_key(**name));
        for name in added.filter(|_| side == Side::Request) {
            self.report(format!("{place}.{name} was added and is required"));
        }
    }
}

/// Decides about a document and the text of the committed file, which is empty if there is none: whether the file is
/// current, has to be written, or that the change is refused.
fn review(committed: &str, current: &Value, may_write: bool) -> Result<Option<String>, String> {
    let text = format!("{}\n", serde_json::to_string_pretty(current).unwrap());
    if committed == text {
        return Ok(None);
    }
    if !committed.is_empty() {
        let old =
            serde_json::from_str(committed).map_err(|_| format!("{COMMITTED} is not JSON: restore it from git"))?;
        let broken = breaking(&old, current);
        if !broken.is_empty() && major(current) <= major(&old) {
            return Err(format!(
                "this change breaks clients of the API: keep the old form beside the new one, or raise the major \
                 number of the document's version {}:\n{}",
                old["info"]["version"],
                broken.join("\n")
            ));
        }
    }
    if may_write {
        return Ok(Some(text));
    }
    Err(format!(
        "{COMMITTED} does not match the code: INSTA_UPDATE=always cargo test --locked --test it -- api::compatible"
    ))
}

/// The major number of the document's version.
fn major(document: &Value) -> u64 {
    let version = document["info"]["version"].as_str().unwrap_or_default();
    version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[test]
fn a_breaking_change_of_the_api_is_refused() {
    check(COMMITTED, &openapi::workspaces());
}

#[test]
fn a_breaking_change_of_checkout_links_is_refused() {
    check("docs/openapi/checkout-links.json", &openapi::checkout_links());
}

fn check(file: &str, document: &impl serde::Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
    let update = env::var("INSTA_UPDATE");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let current = serde_json::to_value(document).unwrap();
    let text = review(&committed, &current, update.is_ok_and(|update| update == "always"));
    if let Some(text) = text.unwrap_or_else(|refusal| panic!("{file}: {refusal}")) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
}
