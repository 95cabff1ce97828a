//! Every command that a runbook prints is run, against a database with data, and does what the page promises.
//!
//! The pages are the input: a command that neither `cases` runs nor [`EXCEPTIONS`] names fails the test, and so does a case
//! that no page prints any more. `world` has the database, and runs the commands with a shell or with psql.

mod cases;
mod world;

use std::collections::BTreeSet;

use crate::support::pages;

/// The pages that an operator follows.
const PAGES: [&str; 3] = ["docs/operations.md", "docs/security.md", "docs/alerts.md"];

/// First words of commands.
const PROGRAMS: [&str; 11] = [
    "billing-sync",
    "cargo",
    "docker",
    "export",
    "kubectl",
    "make",
    "pg_dump",
    "pg_restore",
    "psql",
    "sudo",
    "systemctl",
];

/// First words of statements.
const STATEMENTS: [&str; 8] = ["ALTER", "CREATE", "DELETE", "DROP", "GRANT", "INSERT", "SELECT", "UPDATE"];

/// Commands that this test does not run, by how they begin, and why.
const EXCEPTIONS: [(&str, &str); 9] = [
    ("cargo build", "it has built the program of this test"),
    ("make ", "`tests/it/docs.rs` checks that the target exists, and .ci/run makes those that test"),
    ("docker ", "needs a container engine; `tests/it/packaging/` checks the arguments, and .ci/check-image the image"),
    ("kubectl ", "needs a cluster; `tests/it/packaging/` checks the manifests"),
    ("systemctl ", "needs systemd; `tests/it/packaging/` checks the unit"),
    ("sudo systemctl ", "needs systemd; `tests/it/packaging/` checks the unit"),
    ("sudo install ", "changes this machine; `tests/it/packaging/` checks the files that it installs"),
    ("export BILLING_SYNC_API_JWT_", "names a provider on the internet; `tests/it/api/jwt/` has one of its own"),
    ("billing-sync demo", "`tests/it/demo.rs` runs it"),
];

/// All commands and statements that the pages print, without comments. One of several lines is one.
fn printed() -> BTreeSet<String> {
    let pages = pages::pages().into_iter().filter(|(path, _)| PAGES.contains(&path.as_str()));
    let code = pages.flat_map(|(_, page)| pages::code(&page));
    code.flat_map(|(language, text)| match language.as_str() {
        "sh" => text.replace("\\\n", " ").lines().map(without_comment).filter(|line| !line.is_empty()).collect(),
        "sql" => text.split_inclusive(';').map(one_line).filter(|statement| !statement.is_empty()).collect(),
        "" if is_command(&text) => vec![one_line(&text)],
        _ => Vec::new(),
    })
    .collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn without_comment(line: &str) -> String {
    if line.trim_start().starts_with('#') {
        return String::new();
    }
    one_line(line.split(" #").next().unwrap_or_default())
}

/// Whether code within a line is a command and not a name.
fn is_command(text: &str) -> bool {
    let Some((first, _)) = text.split_once(' ') else { return false };
    PROGRAMS.contains(&first) || STATEMENTS.contains(&first)
}

fn exception(command: &str) -> Option<usize> {
    EXCEPTIONS.iter().position(|(begin, _)| command.starts_with(begin))
}

#[test]
fn every_printed_command_is_run_or_has_a_reason() {
    let printed = printed();
    assert!(printed.len() > 60, "only {} commands were found: this check finds too little", printed.len());
    let run: BTreeSet<String> = cases::all().into_iter().map(|case| case.printed.to_owned()).collect();
    assert_eq!(run.len(), cases::all().len(), "a case is there twice");
    let missing: Vec<_> = printed.iter().filter(|one| !run.contains(*one) && exception(one).is_none()).collect();
    assert!(missing.is_empty(), "neither run nor excepted: {missing:#?}");
    let stale: Vec<_> = run.difference(&printed).collect();
    assert!(stale.is_empty(), "no page prints these: {stale:#?}");
    let used: BTreeSet<usize> = printed.iter().filter_map(|one| exception(one)).collect();
    assert_eq!(used.len(), EXCEPTIONS.len(), "an exception excepts nothing: {used:?}");
}
