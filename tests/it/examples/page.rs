//! `examples/README.md` explains every error of the functions, and shows code and files that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::pages;

const PAGE: &str = include_str!("../../../examples/README.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// The SQLSTATEs in this text that begin with LM. LM000 never leaves `consume`.
fn codes(text: &str) -> BTreeSet<String> {
    let codes = text.match_indices("LM").filter_map(|(at, _)| text.get(at..at + 5));
    let codes = codes.filter(|code| code[2..].bytes().all(|digit| digit.is_ascii_digit()) && *code != "LM000");
    codes.map(str::to_owned).collect()
}

#[test]
fn every_code_that_the_schema_raises_has_a_line_that_says_what_to_do() {
    let migrations = fs::read_dir(Path::new(ROOT).join("migrations")).unwrap().map(|entry| entry.unwrap().path());
    let sql: String = migrations.filter(|path| path.extension().is_some_and(|end| end == "sql")).map(read).collect();
    let raised = codes(&sql);
    assert!(raised.len() >= 8, "only {raised:?} were found: this check is broken");
    for page in [PAGE, &read("docs/tables.md")] {
        for code in &raised {
            let line = page.lines().find(|line| line.starts_with(&format!("| `{code}` |")));
            assert!(line.is_some(), "a page does not explain {code}");
        }
    }
}

#[test]
fn the_python_code_of_the_page_is_the_code_that_runs() {
    let file = read("examples/python/savepoint_trap.py");
    let blocks: Vec<String> =
        pages::code(PAGE).into_iter().filter(|(language, _)| language == "python").map(|(_, text)| text).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert!(file.contains(&block), "savepoint_trap.py has other code:\n{block}");
    }
}

#[test]
fn the_files_in_the_commands_of_the_page_and_of_the_examples_exist() {
    let comments = ["examples/sql/consume.sql", "examples/documents.sql"].map(read).concat();
    let mut found = BTreeSet::new();
    for word in PAGE.split(['`', ' ', '\n']).chain(comments.split([' ', '\n'])) {
        if word.starts_with("examples/") {
            assert!(Path::new(ROOT).join(word).exists(), "there is no {word}");
            found.insert(word);
        }
    }
    assert!(found.len() >= 6, "only {found:?} were found: this check is broken");
}
