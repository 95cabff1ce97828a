//! What the pages of `docs/` name exists: links, files, settings, metrics, tables, functions, and the log lines of the runbook.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::text::{code, pages};
use crate::{ROOT, files};

/// The code within the lines of a page.
fn spans(page: &str) -> Vec<String> {
    let code = code(page).into_iter().filter(|(language, _)| language.is_empty());
    code.map(|(_, span)| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|letter| letter.is_alphanumeric() || ['-', '_'].contains(letter)).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let prose: String = page.split("```").step_by(2).collect();
    prose.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The targets of the links of a page.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut linked = BTreeSet::new();
    for (path, text) in pages() {
        let folder = Path::new(&path).parent().unwrap().to_path_buf();
        for target in links(&text) {
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() {
                path.clone()
            } else {
                folder.join(file).to_string_lossy().replace("docs/../", "")
            };
            let found = fs::read_to_string(Path::new(ROOT).join(&file));
            let exists = found.is_ok() || Path::new(ROOT).join(&file).exists();
            assert!(exists, "{path}: there is no file {target}");
            assert!(
                heading.is_empty() || anchors(&found.unwrap()).contains(heading),
                "{path}: there is no heading {target}"
            );
            if file != path {
                linked.insert(file);
            }
        }
    }
    for file in files("docs", "md") {
        assert!(linked.contains(&file.path), "no page links to {}", file.path);
    }
}

#[test]
fn files_that_a_page_names_exist() {
    let places = ["src/", "tests/", "migrations/", "fixtures/", "ops/", "benches/", "docs/", "examples/", ".ci/"];
    let mut found = 0;
    for (path, text) in pages() {
        for span in spans(&text) {
            if places.iter().any(|place| span.starts_with(place)) && !span.contains([' ', '*', '{', '…', '<']) {
                found += 1;
                let file = span.split("::").next().unwrap_or_default();
                assert!(Path::new(ROOT).join(file).exists(), "{path}: there is no {span}");
            }
        }
    }
    assert!(found > 60, "only {found} were found: this check is broken");
}

/// The words of all code of a page, by what a name consists of.
fn names(text: &str) -> Vec<String> {
    let code: Vec<String> = code(text).into_iter().map(|(_, text)| text).collect();
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    code.join(" ").split(|letter| !is_of_name(letter)).map(str::to_owned).collect()
}

#[test]
fn settings_and_metrics_that_a_page_names_exist() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let (settings, metrics): (BTreeSet<String>, BTreeSet<String>) =
        (names(&read("docs/settings.md")).into_iter().collect(), names(&read("docs/metrics.md")).into_iter().collect());
    let mut found = 0;
    for (path, text) in pages() {
        for name in names(&text) {
            let known = if name.starts_with("BILLING_SYNC_") && !name.ends_with('_') {
                settings.contains(name.trim_end_matches("_FILE"))
            } else if name.starts_with("billing_sync_") && !name.ends_with('_') {
                let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                metrics.contains(&name) || family.is_some_and(|family| metrics.contains(family))
            } else {
                continue;
            };
            found += 1;
            assert!(known, "{path}: there is no {name}");
        }
    }
    assert!(found > 100, "only {found} were found: this check is broken");
}

#[test]
fn tables_and_functions_that_a_page_names_exist() {
    let schema: String = files("migrations", "sql").into_iter().map(|file| file.text).collect();
    let mut found = 0;
    for (path, text) in pages() {
        for (at, _) in text.match_indices("billing.") {
            let is_of_name = |letter: &char| letter.is_ascii_lowercase() || *letter == '_';
            let name: String = text[at + "billing.".len()..].chars().take_while(is_of_name).collect();
            let is_part =
                text[..at].ends_with(|letter: char| letter.is_alphanumeric() || ['.', '/', '_', '-'].contains(&letter));
            if name.is_empty() || is_part {
                continue;
            }
            found += 1;
            let exists = schema.contains(&format!("billing.{name}")) || name == "schema_migrations";
            assert!(exists, "{path}: there is no billing.{name}");
        }
    }
    assert!(found > 20, "only {found} were found: this check is broken");
}

/// The code without its comments, with the lines of a string joined that `\\` continues.
fn joined_code() -> String {
    let mut joined = String::new();
    for file in files("src", "rs") {
        for line in file.text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            joined.push_str(line.strip_suffix('\\').unwrap_or(line));
            if !line.ends_with('\\') {
                joined.push('\n');
            }
        }
    }
    joined
}

/// A symptom of the runbook must be something that an operator can see: a metric, a line of the log, or a command's output.
#[test]
fn symptoms_are_named_as_an_operator_sees_them() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/operations.md")).unwrap();
    let code = joined_code();
    let mut found = 0;
    for symptom in page.split("*Seen as:*").skip(1) {
        let symptom = symptom.split("\n\n").next().unwrap_or_default();
        found += 1;
        let spans = spans(symptom);
        assert!(!spans.is_empty(), "docs/operations.md: nothing to look for: {symptom}");
        for span in spans {
            let is_text = span.contains(' ') && !span.starts_with("billing-sync ") && !span.contains('=');
            // what stands for a value of the moment is not in the code
            let parts: Vec<&str> = span.split(|letter: char| letter.is_ascii_digit()).map(str::trim).collect();
            let longest = parts.iter().max_by_key(|part| part.len()).unwrap();
            let longest = longest.split(", waiting for").next().unwrap_or_default();
            assert!(!is_text || code.contains(longest), "docs/operations.md: the code has no text {span:?}");
        }
    }
    assert!(found > 30, "only {found} were found: this check is broken");
}
