//! The operations and schemas of a document of the API, with references followed.
//!
//! `contract` and `compatible` read documents through this file. Owns the forms that utoipa generates; must not know
//! with what a document is compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Methods of a path; its other keys are not operations.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];

/// Keywords that restrict a value and that [`Schema::limits`] contains.
const LIMITS: [&str; 11] = [
    "maximum",
    "exclusiveMaximum",
    "maxLength",
    "maxItems",
    "maxProperties",
    "minimum",
    "exclusiveMinimum",
    "minLength",
    "minItems",
    "minProperties",
    "pattern",
];

/// The media type of every body of the contract.
pub(super) const JSON: &str = "application/json";

/// Whether a schema describes what clients send or what they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Request,
    Response,
}

impl Side {
    /// Word that begins the name of a field in reports.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// The value itself, or the component to which it refers.
fn follow<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let mut target = value;
    while let Some(reference) = target["$ref"].as_str() {
        let found = document.pointer(reference.trim_start_matches('#'));
        target = found.unwrap_or_else(|| panic!("{reference} refers to no part of the document"));
    }
    target
}

/// The members of an object; none for any other value.
fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, member)| (name.as_str(), member))
}

/// The items of an array; none for any other value.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    items(value).filter_map(Value::as_str)
}

/// The document's operations by method and path, for example `GET /api/v1/workspaces`. The path begins with that of
/// the document's first server.
pub(super) fn operations(document: &Value) -> BTreeMap<(String, String), Operation<'_>> {
    let server = document["servers"][0]["url"].as_str().unwrap_or_default();
    // an absolute URL has its path behind the host
    let base = server.split_once("://").map_or(server, |(_, rest)| rest.find('/').map_or("", |start| &rest[start..]));
    let base = base.trim_end_matches('/');
    let mut operations = BTreeMap::new();
    for (path, item) in members(&document["paths"]) {
        let item = follow(document, item);
        for (method, value) in members(item).filter(|(method, _)| METHODS.contains(method)) {
            let found = Operation { document, item, value };
            operations.insert((method.to_uppercase(), format!("{base}{path}")), found);
        }
    }
    operations
}

/// One method of one path.
pub(super) struct Operation<'a> {
    document: &'a Value,
    item: &'a Value,
    value: &'a Value,
}

impl<'a> Operation<'a> {
    /// The parameters by location and name, those of the path included. Names of headers are in lower case, because
    /// their case has no meaning.
    pub(super) fn parameters(&self) -> BTreeMap<(&'a str, String), &'a Value> {
        let all = items(&self.item["parameters"]).chain(items(&self.value["parameters"]));
        let all = all.map(|parameter| follow(self.document, parameter));
        let named = all.map(|parameter| {
            let (location, name) = (parameter["in"].as_str().unwrap_or_default(), parameter["name"].as_str());
            let name = name.unwrap_or_default();
            let key = if location == "header" { name.to_lowercase() } else { name.to_owned() };
            ((location, key), parameter)
        });
        named.collect()
    }

    /// The request body, if the operation has one.
    pub(super) fn request(&self) -> Option<&'a Value> {
        self.value.get("requestBody").map(|body| follow(self.document, body))
    }

    /// The responses by status.
    pub(super) fn responses(&self) -> BTreeMap<&'a str, &'a Value> {
        let responses = members(&self.value["responses"]);
        responses.map(|(status, response)| (status, follow(self.document, response))).collect()
    }

    /// The alternative ways to authenticate: of each one the names of its schemes. Empty: everyone may call.
    pub(super) fn security(&self) -> Vec<BTreeSet<&'a str>> {
        let security = self.value.get("security").unwrap_or(&self.document["security"]);
        items(security).map(|alternative| members(alternative).map(|(name, _)| name).collect()).collect()
    }

    /// Whether the name is that of a security scheme `Authorization: Bearer …`.
    pub(super) fn is_bearer(&self, scheme: &str) -> bool {
        let scheme = follow(self.document, &self.document["components"]["securitySchemes"][scheme]);
        let is_bearer = scheme["scheme"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("bearer"));
        scheme["type"] == "http" && is_bearer
    }
}

/// The schemas of a body by media type.
pub(super) fn content(body: &Value) -> BTreeMap<&str, &Value> {
    members(&body["content"]).map(|(media_type, content)| (media_type, &content["schema"])).collect()
}

/// The headers of a response by their names in lower case.
pub(super) fn headers<'a>(document: &'a Value, response: &'a Value) -> BTreeMap<String, &'a Value> {
    members(&response["headers"]).map(|(name, header)| (name.to_lowercase(), follow(document, header))).collect()
}

/// A schema with its references, `allOf` and nullability resolved.
#[derive(Default)]
pub(super) struct Schema<'a> {
    /// Name of the component to which the schema refers.
    pub(super) name: Option<&'a str>,
    /// Types without `null`; empty if all types are valid, and if the schema has variants.
    pub(super) types: BTreeSet<&'a str>,
    pub(super) is_nullable: bool,
    pub(super) format: Option<&'a str>,
    /// The values that are valid, if they are listed.
    pub(super) words: Option<BTreeSet<String>>,
    pub(super) properties: BTreeMap<&'a str, &'a Value>,
    pub(super) required: BTreeSet<&'a str>,
    /// Whether other properties than those listed are invalid.
    pub(super) is_closed: bool,
    /// Schema of an array's items.
    pub(super) items: Option<&'a Value>,
    /// Schema of a map's values.
    pub(super) values: Option<&'a Value>,
    /// The schemas of a union, by their names.
    pub(super) variants: BTreeMap<String, &'a Value>,
    /// Smallest and largest values and the like, by keyword.
    pub(super) limits: BTreeMap<&'static str, &'a Value>,
}

impl<'a> Schema<'a> {
    /// Reads a schema of the document.
    pub(super) fn read(document: &'a Value, schema: &'a Value) -> Self {
        let mut read = Self::default();
        read.add(document, schema);
        read
    }

    fn add(&mut self, document: &'a Value, schema: &'a Value) {
        if let Some(reference) = schema["$ref"].as_str() {
            self.name = self.name.or(reference.rsplit('/').next());
            self.add(document, follow(document, schema));
        }
        let types = texts(&schema["type"]).chain(schema["type"].as_str()).collect::<BTreeSet<_>>();
        self.is_nullable |= types.contains("null");
        // of the parts of `allOf` the first with a type counts: utoipa makes such parts of flattened structs only
        if self.types.is_empty() {
            self.types = types.into_iter().filter(|name| *name != "null").collect();
        }
        self.format = self.format.or(schema["format"].as_str());
        if let Some(words) = schema["enum"].as_array() {
            self.is_nullable |= words.contains(&Value::Null);
            self.words = Some(words.iter().filter(|word| !word.is_null()).map(Value::to_string).collect());
        }
        self.properties.extend(members(&schema["properties"]));
        self.required.extend(texts(&schema["required"]));
        self.is_closed |= schema["additionalProperties"] == false;
        self.items = self.items.or(schema.get("items"));
        self.values = self.values.or(schema.get("additionalProperties").filter(|values| values.is_object()));
        self.limits.extend(LIMITS.into_iter().filter_map(|keyword| Some((keyword, schema.get(keyword)?))));
        for part in items(&schema["allOf"]) {
            self.add(document, part);
        }
        self.add_union(document, items(&schema["oneOf"]).chain(items(&schema["anyOf"])).collect());
    }

    fn add_union(&mut self, document: &'a Value, union: Vec<&'a Value>) {
        let (nulls, others): (Vec<_>, Vec<_>) = union.into_iter().partition(|variant| variant["type"] == "null");
        self.is_nullable |= !nulls.is_empty();
        if let [only] = others[..] {
            self.add(document, only);
            return;
        }
        for variant in others {
            let name = variant["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
            let name = name.or(variant["title"].as_str()).map_or_else(|| variant.to_string(), str::to_owned);
            self.variants.insert(name, variant);
        }
    }

    /// The type in the words of the contract, without nullability: `string`, `array<string>`, `map<number>`.
    pub(super) fn describe(&self, document: &Value) -> String {
        if !self.variants.is_empty() {
            return format!("one of {}", self.variants.keys().cloned().collect::<Vec<_>>().join(", "));
        }
        let inner = |schema: &Value| Schema::read(document, schema).types.into_iter().collect::<Vec<_>>().join(" or ");
        let names = self.types.iter().map(|name| match (*name, self.items, self.values) {
            ("array", Some(items), _) => format!("array<{}>", inner(items)),
            ("object", _, Some(values)) if self.properties.is_empty() => format!("map<{}>", inner(values)),
            _ => (*name).to_owned(),
        });
        let names = names.collect::<Vec<_>>().join(" or ");
        if names.is_empty() { "any".to_owned() } else { names }
    }
}
