//! The page `docs/api.md` agrees with the code: its table of problems with the catalogue, its endpoints, objects and
//! examples with the generated OpenAPI document.
//!
//! Owns the form of that page: a heading for each operation and object, tables whose first column has the names, and
//! examples in JSON. Must not know what an operation does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use billing_sync::api::openapi;
use billing_sync::api::problem::Code;
use serde_json::{Map, Value};

use super::harness::PREFIX;
use super::schema::{JSON, Operation, Schema, content, operations};

/// The section with the problems of all operations, and the one with those of all operations that have a body.
const OF_EVERY_REQUEST: &str = "Problems of every request";
const OF_A_BODY: &str = "Problems of a body";

/// The sections whose first block of JSON is an example, and the schema of each example.
const EXAMPLES: [(&str, &str); 5] = [
    ("May this customer use the product?", "BillingState"),
    ("How much is left?", "LimitList"),
    ("Let a user in", "WorkspaceList"),
    ("Workspace", "Workspace"),
    ("GET /v1/workspaces/{workspaceId}/history", "ChangeList"),
];
/// Schemas without an example: their section has a table of all fields.
const WITH_TABLE: [&str; 2] = ["CheckoutSession", "Coupon"];
/// Schemas without either: the parts of one operation, which its section names, and the problem, which has a chapter of
/// its own.
const WITHOUT_EXAMPLE: [&str; 8] = [
    "Amount",
    "BillingContactWrite",
    "CheckoutSessionWrite",
    "Problem",
    "ProblemField",
    "Remaining",
    "Timestamp",
    "WorkspaceWrite",
];

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn page() -> String {
    read("docs/api.md")
}

fn document() -> Value {
    serde_json::to_value(openapi::workspaces()).unwrap()
}

/// The sections of the page by their headings, without the marks of code.
fn sections(page: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    for part in page.split("\n### ").skip(1) {
        let (heading, text) = part.split_once('\n').unwrap();
        let text = text.split("\n## ").next().unwrap_or_default();
        sections.insert(heading.replace('`', ""), text.to_owned());
    }
    sections
}

/// The code within the lines of a text, without its blocks.
fn spans(text: &str) -> BTreeSet<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The cells of the rows of the tables in a text, without headings and lines.
fn rows(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The blocks of JSON of a text.
fn examples(text: &str) -> impl Iterator<Item = Value> {
    let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("json\n"));
    blocks.map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("docs/api.md: {error}: {block}")))
}

/// The operations by `GET /v1/…`, without the prefix.
fn documented(document: &Value) -> BTreeMap<String, Operation<'_>> {
    let all = operations(document).into_iter();
    all.map(|((method, path), operation)| (format!("{method} {}", path.strip_prefix(PREFIX).unwrap()), operation))
        .collect()
}

/// The codes of the problems that an operation can answer.
fn problems(operation: &Operation<'_>) -> BTreeSet<String> {
    let responses = operation.responses().into_values();
    let problems = responses.filter(|response| response["content"]["application/problem+json"].is_object());
    let codes = problems.flat_map(|response| response["description"].as_str().unwrap().split(", "));
    codes.map(str::to_owned).collect()
}

/// The text behind the word that begins a line of a section.
fn line<'a>(section: &'a str, word: &str) -> &'a str {
    section.split_once(&format!("\n{word}: ")).map(|(_, text)| text).unwrap_or_default()
}

#[test]
fn the_table_of_problems_is_the_catalogue() {
    let page = page();
    let table = &sections(&page)["All problems"];
    let written: Vec<(String, String, String)> = rows(table)
        .into_iter()
        .map(|row| {
            assert_eq!(row.len(), 5, "a row has a code, status, retryable, meaning, what to do: {row:?}");
            assert!(row.iter().all(|cell| !cell.is_empty()), "a cell is empty: {row:?}");
            (row[0].trim_matches('`').to_owned(), row[1].clone(), row[2].clone())
        })
        .collect();
    let expected = Code::ALL.map(|code| {
        let retryable = if code.is_retryable() { "yes" } else { "no" };
        (code.as_str().to_owned(), code.status().to_string(), retryable.to_owned())
    });
    for code in &expected {
        assert!(written.contains(code), "docs/api.md: the row of {code:?} is missing or differs");
    }
    assert_eq!(written.len(), expected.len(), "docs/api.md has rows of problems that do not exist");
}

#[test]
fn every_operation_has_a_section_with_its_parameters_and_answers() {
    let (page, document) = (page(), document());
    let (sections, operations) = (sections(&page), documented(&document));
    for (name, operation) in &operations {
        let section = sections.get(name).unwrap_or_else(|| panic!("docs/api.md has no section {name}"));
        let spans = spans(section);
        for (place, parameter) in operation.parameters().into_keys() {
            // the heading has those of the path
            let is_named = place == "path" || spans.iter().any(|span| span.eq_ignore_ascii_case(&parameter));
            assert!(is_named, "docs/api.md: {name} does not name its parameter {parameter}");
        }
        let body = operation.request().map(|body| Schema::read(&document, content(body)[JSON]));
        for field in body.iter().flat_map(|body| body.properties.keys()) {
            assert!(spans.contains(*field), "docs/api.md: {name} does not name the field {field} of its body");
        }
        let responses = operation.responses();
        let statuses = responses.keys().filter(|status| **status < "400");
        let answers = line(section, "Answers");
        for status in statuses {
            assert!(answers.contains(*status), "docs/api.md: {name} does not name its status {status}");
        }
    }
    let headings = sections.keys().filter(|heading| heading.contains(" /"));
    for heading in headings {
        assert!(operations.contains_key(heading), "docs/api.md describes {heading}, which does not exist");
    }
}

#[test]
fn every_operation_names_its_problems() {
    let (page, document) = (page(), document());
    let (sections, operations) = (sections(&page), documented(&document));
    let (of_every_request, of_a_body) = (spans(&sections[OF_EVERY_REQUEST]), spans(&sections[OF_A_BODY]));
    let named = |name: &str| {
        let (_, named) = sections[name].rsplit_once("Problems: ").unwrap_or_else(|| panic!("{name} has no problems"));
        spans(named)
    };
    for (name, operation) in &operations {
        let (can_occur, mut described) = (problems(operation), named(name));
        for code in &described {
            assert!(can_occur.contains(code), "docs/api.md: {name} names {code}, which it never answers");
        }
        described.extend(of_every_request.iter().cloned());
        // a path that does not exist is of every request, a workspace that does not exist is not
        if !named(name).contains("not-found") {
            described.remove("not-found");
        }
        if operation.request().is_some() {
            assert!(of_a_body.is_subset(&can_occur), "docs/api.md: {OF_A_BODY} names one that {name} never answers");
            described.extend(of_a_body.iter().cloned());
        }
        for code in &can_occur {
            assert!(described.contains(code), "docs/api.md: {name} does not name its problem {code}");
        }
    }
}

/// Checks that a value has exactly the fields of its schema, at every level, and notes the schemas that it shows.
fn compare(document: &Value, place: &str, schema: &Value, value: &Value, shown: &mut BTreeSet<String>) {
    let schema = Schema::read(document, schema);
    if value.is_null() {
        assert!(schema.is_nullable, "docs/api.md: {place} is never null");
    } else if let Some(items) = schema.items {
        let values = value.as_array().unwrap_or_else(|| panic!("docs/api.md: {place} is an array"));
        for value in values {
            compare(document, place, items, value, shown);
        }
    } else if !schema.properties.is_empty() {
        let fields = value.as_object().unwrap_or_else(|| panic!("docs/api.md: {place} is an object"));
        let (written, expected): (BTreeSet<_>, BTreeSet<_>) =
            (fields.keys().map(String::as_str).collect(), schema.properties.keys().copied().collect());
        let differences: Vec<_> = expected.symmetric_difference(&written).collect();
        assert!(differences.is_empty(), "docs/api.md: the example {place} has other fields: {differences:?}");
        shown.extend(schema.name.map(str::to_owned));
        for (name, property) in schema.properties {
            compare(document, &format!("{place}.{name}"), property, &fields[name], shown);
        }
    }
}

/// The fields of a schema; those of its embedded rows as `_embedded.coupon`.
fn fields(schemas: &Map<String, Value>, name: &str) -> BTreeSet<String> {
    let of = |name: &str| schemas[name]["properties"].as_object().into_iter().flatten().map(|(field, _)| field);
    let mut fields: BTreeSet<String> = of(name).cloned().collect();
    if fields.remove("_embedded") {
        fields.extend(of(&format!("{name}Embedded")).map(|field| format!("_embedded.{field}")));
    }
    fields
}

/// The names in the first column of the tables of a section.
fn names(sections: &BTreeMap<String, String>, section: &str) -> BTreeSet<String> {
    let rows = rows(sections.get(section).map_or("", String::as_str));
    rows.iter().flat_map(|row| spans(&row[0])).collect()
}

#[test]
fn every_object_has_an_example_or_a_table_with_all_its_fields() {
    let (page, document) = (page(), document());
    let (sections, schemas) = (sections(&page), document["components"]["schemas"].as_object().unwrap());
    assert!(examples(&page).count() >= EXAMPLES.len());
    let mut shown = BTreeSet::new();
    for (section, name) in EXAMPLES {
        let example = examples(&sections[section]).next().unwrap_or_else(|| panic!("{section} has no example"));
        compare(&document, name, &schemas[name], &example, &mut shown);
        shown.insert(name.to_owned());
    }
    for name in WITH_TABLE {
        let (expected, written) = (fields(schemas, name), names(&sections, name));
        let differences: Vec<_> = expected.symmetric_difference(&written).collect();
        assert!(differences.is_empty(), "docs/api.md: the table of {name} has other fields: {differences:?}");
        shown.extend([name.to_owned(), format!("{name}Embedded")]);
    }
    for name in schemas.keys() {
        let is_shown = shown.contains(name) || WITHOUT_EXAMPLE.contains(&name.as_str());
        assert!(is_shown, "docs/api.md shows no example of {name}");
    }
}

/// The column of a field: `sepaPaymentFailed` is `sepa_payment_failed`.
fn column(field: &str) -> String {
    let parts = field.chars().map(|letter| (letter.is_uppercase().then_some('_'), letter.to_ascii_lowercase()));
    parts.flat_map(|(before, letter)| before.into_iter().chain([letter])).collect()
}

/// A field needs no explanation on the page if the OpenAPI document describes it, or if it is a column of `tables.md`.
#[test]
fn every_field_is_explained() {
    let (page, document) = (page(), document());
    let (sections, columns) = (sections(&page), spans(&read("docs/tables.md")));
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let is_described = |field: &Value| {
        let variants = field["oneOf"].as_array().into_iter().flatten();
        std::iter::once(field).chain(variants).any(|schema| schema["description"].is_string())
    };
    let mut checked = 0;
    for (name, schema) in schemas {
        let (existing, explained) = (fields(schemas, name), names(&sections, name));
        for field in &explained {
            assert!(existing.contains(field), "docs/api.md: {name} has no field {field}");
        }
        // pages and embedded rows only contain objects
        if WITHOUT_EXAMPLE.contains(&name.as_str())
            || ["Embedded", "List", "Page"].iter().any(|end| name.ends_with(end))
        {
            continue;
        }
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            checked += 1;
            let is_explained = is_described(schema) || explained.contains(field) || columns.contains(&column(field));
            assert!(is_explained || field == "_embedded", "docs/api.md does not explain {name}.{field}");
        }
    }
    assert!(checked > 90, "only {checked} fields were checked");
}
