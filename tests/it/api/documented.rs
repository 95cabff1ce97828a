//! The page `docs/api.md` agrees with the code: its table of problems with the catalogue, its endpoints and objects
//! with the generated OpenAPI document.
//!
//! Owns the form of that page: a heading for each operation and object, and tables whose first column has the names.
//! Must not know what an operation does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use billing_sync::api::openapi;
use billing_sync::api::problem::Code;
use serde_json::Value;

use super::harness::PREFIX;
use super::schema::{Operation, operations};

/// The section with the problems of all operations.
const OF_EVERY_REQUEST: &str = "Problems of every request";

/// Schemas that have no section of their own: bodies of one endpoint, parts of other objects, and the problem, which
/// the chapter of problems describes.
const WITHOUT_SECTION: [&str; 7] =
    ["Amount", "ChangeList", "Page", "Problem", "ProblemField", "Remaining", "Timestamp"];
/// Ends of the names of further schemas without a section.
const ENDS_WITHOUT_SECTION: [&str; 3] = ["Embedded", "List", "Write"];

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap()
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
    let (page, document) = (page(), serde_json::to_value(openapi::workspaces()).unwrap());
    let (sections, operations) = (sections(&page), documented(&document));
    let of_all = operations.values().map(problems).reduce(|all, one| &all & &one).unwrap();
    let named = spans(&sections[OF_EVERY_REQUEST]);
    for code in &of_all {
        assert!(named.contains(code), "docs/api.md: {OF_EVERY_REQUEST} does not name {code}");
    }
    for (name, operation) in &operations {
        let section = sections.get(name).unwrap_or_else(|| panic!("docs/api.md has no section {name}"));
        let spans = spans(section);
        for (_, parameter) in operation.parameters().into_keys() {
            let is_named = spans.iter().any(|span| span.eq_ignore_ascii_case(&parameter));
            assert!(is_named, "docs/api.md: {name} does not name its parameter {parameter}");
        }
        for code in problems(operation).difference(&of_all) {
            assert!(spans.contains(code), "docs/api.md: {name} does not name its problem {code}");
        }
        let responses = operation.responses();
        let statuses = responses.keys().filter(|status| **status < "400");
        let answers = section.split("\nAnswers: ").nth(1).unwrap_or_else(|| panic!("{name} has no line of answers"));
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
fn every_object_has_a_section_with_its_fields() {
    let (page, document) = (page(), serde_json::to_value(openapi::workspaces()).unwrap());
    let sections = sections(&page);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let fields = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    for (name, schema) in schemas {
        if WITHOUT_SECTION.contains(&name.as_str()) || ENDS_WITHOUT_SECTION.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let mut expected = fields(schema);
        if expected.remove("_embedded") {
            let embedded = &schemas[&format!("{name}Embedded")];
            expected.extend(fields(embedded).iter().map(|field| format!("_embedded.{field}")));
        }
        let section = sections.get(name).unwrap_or_else(|| panic!("docs/api.md has no section {name}"));
        let written: BTreeSet<String> = rows(section).iter().flat_map(|row| spans(&row[0])).collect();
        let differences: Vec<_> = expected.symmetric_difference(&written).collect();
        assert!(differences.is_empty(), "docs/api.md: {name} has other fields: {differences:?}");
    }
}
