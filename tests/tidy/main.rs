//! The conventions of this repository as tests, so that reviewers need not check them each time.

#![expect(clippy::unwrap_used, reason = "a file that cannot be read must fail the test")]

mod imports;
mod language;
mod migrations;
mod pages;
#[path = "../support/pages.rs"]
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file of the repository: its path from the root, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The text without comments and without its unit tests.
    fn code(&self) -> String {
        let code = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }

    /// The `//!` lines at its head.
    fn header(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }

    /// The first folder below `src/`, or the name of a file directly in `src/`.
    fn module(&self) -> &str {
        self.path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default()
    }

    /// Whether the file contains only unit tests.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
    }
}

fn files(folder: &str, extension: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("node_modules") {
                // npm installs the packages of an example there
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let name = path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
                found.push(File { path: name, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    assert!(!found.is_empty(), "nothing in {folder}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

#[test]
fn every_file_says_what_it_owns() {
    for file in files("src", "rs").iter().chain(&files("tests", "rs")).chain(&files("examples", "rs")) {
        assert!(file.text.starts_with("//! "), "{} does not begin with //!", file.path);
    }
}

#[test]
fn no_file_hides_a_second_idea() {
    for file in files("src", "rs") {
        let lines = file.text.lines().count();
        assert!(lines <= 400, "{} has {lines} lines", file.path);
    }
}

/// Names that pure code must not use: time, settings and random numbers are arguments.
const IMPURE: [&str; 10] =
    ["async ", ".await", "sqlx", "tokio", "hyper", "std::env", "clock::", "SystemTime", "Instant::", "fastrand"];

/// These files are pure and must have `PURE.` in their header; every other file with `PURE.` is checked too.
const PURE: [&str; 19] = [
    "src/api/checkout_links/render.rs",
    "src/api/checkout_links/schema.rs",
    "src/api/checkout_links/wanted.rs",
    "src/api/principal/token.rs",
    "src/api/problem/catalogue.rs",
    "src/api/workspace_key.rs",
    "src/api/workspaces/render.rs",
    "src/domain/",
    "src/stripe/",
    "src/projection/",
    "src/mirror/state.rs",
    "src/mirror/same_second/",
    "src/mirror/history/",
    "src/mirror/snapshot.rs",
    "src/mirror/facts/fold/",
    "src/receiver/signature/",
    "src/limits/clock_skew.rs",
    "src/limits/batch_size.rs",
    "src/base/retry.rs",
];

#[test]
fn pure_files_are_pure() {
    for place in PURE {
        assert!(files("src", "rs").iter().any(|file| file.path.starts_with(place)), "{place} does not exist");
    }
    for file in files("src", "rs").into_iter().filter(|file| !file.is_test()) {
        let must_be = PURE.iter().any(|place| file.path.starts_with(place));
        if must_be || file.header().contains("PURE.") {
            let code = file.code();
            for token in IMPURE {
                assert!(!code.contains(token), "{} is pure but uses {token:?}", file.path);
            }
        }
    }
}

/// Data flows one way: the modules in order, and the earlier modules that each one uses.
const MODULES: [(&str, &[&str]); 36] = [
    ("base", &[]),
    ("database", &[]),
    ("domain", &[]),
    ("embedded", &["database"]),
    ("lib", &[]),
    ("jobs", &["base", "database", "domain"]),
    ("ledger", &["base", "database", "domain"]),
    ("migrations", &["database"]),
    ("outbox", &["base", "database", "domain"]),
    ("store", &["database", "domain"]),
    ("stripe", &["domain"]),
    ("tls", &["base"]),
    ("admin", &["database", "domain", "stripe"]),
    ("config", &["base", "database", "embedded", "tls"]),
    ("metrics", &["base", "database", "domain", "stripe"]),
    ("mirror", &["database", "domain", "stripe"]),
    ("projection", &["domain", "stripe"]),
    ("redaction", &["base", "database", "domain", "mirror", "outbox"]),
    ("maintenance", &["base", "config", "database", "metrics", "outbox", "redaction"]),
    ("client", &["base", "config", "metrics", "stripe"]),
    ("limits", &["base", "config", "database", "domain", "jobs", "metrics"]),
    ("listener", &["metrics"]),
    ("telemetry", &["base", "config"]),
    ("ops", &["base", "config", "database", "listener", "metrics", "migrations"]),
    ("receiver", &["base", "config", "database", "domain", "listener", "metrics", "outbox", "stripe"]),
    ("stripe_key", &["base", "client", "database", "metrics", "outbox", "stripe"]),
    ("reconcile", &["base", "client", "database", "domain", "metrics", "outbox", "stripe", "stripe_key"]),
    (
        "worker",
        &[
            "base",
            "client",
            "config",
            "database",
            "domain",
            "jobs",
            "ledger",
            "limits",
            "metrics",
            "mirror",
            "outbox",
            "projection",
            "store",
            "stripe",
            "stripe_key",
        ],
    ),
    (
        "writes",
        &["base", "client", "database", "domain", "jobs", "ledger", "metrics", "stripe", "stripe_key", "worker"],
    ),
    ("api", &["base", "client", "config", "database", "domain", "ledger", "listener", "metrics", "writes"]),
    ("rebuild", &["base", "database", "domain", "jobs", "mirror", "store", "worker"]),
    (
        "backfill",
        &["base", "client", "database", "domain", "jobs", "rebuild", "reconcile", "stripe", "stripe_key", "worker"],
    ),
    ("verify", &["backfill", "base", "client", "database", "domain", "metrics", "mirror", "store", "stripe", "worker"]),
    (
        "service",
        &[
            "api",
            "base",
            "client",
            "config",
            "database",
            "limits",
            "listener",
            "maintenance",
            "metrics",
            "ops",
            "outbox",
            "receiver",
            "reconcile",
            "verify",
            "worker",
            "writes",
        ],
    ),
    (
        "demo",
        &["admin", "api", "base", "config", "database", "domain", "embedded", "migrations", "receiver", "service"],
    ),
    (
        "cli",
        &[
            "admin",
            "api",
            "backfill",
            "base",
            "client",
            "config",
            "database",
            "demo",
            "domain",
            "embedded",
            "jobs",
            "ledger",
            "limits",
            "listener",
            "maintenance",
            "metrics",
            "migrations",
            "outbox",
            "rebuild",
            "receiver",
            "reconcile",
            "redaction",
            "service",
            "store",
            "stripe",
            "stripe_key",
            "tls",
            "verify",
            "worker",
        ],
    ),
];

#[test]
fn modules_use_only_what_comes_before_them() {
    for (place, (module, uses)) in MODULES.iter().enumerate() {
        for used in *uses {
            assert!(MODULES[..place].iter().any(|(before, _)| before == used), "{used} does not come before {module}");
        }
    }
    // unit tests may use other modules: the facts are compared with the projection that reads them
    let all = files("src", "rs");
    for file in all.iter().filter(|file| file.module() != "main" && !file.is_test()) {
        let module = MODULES.iter().find(|(module, _)| *module == file.module());
        let (module, uses) = module.unwrap_or_else(|| panic!("{} belongs to no known module", file.path));
        for used in imports::modules_used_by(file, &all) {
            assert!(used == *module || uses.contains(&used.as_str()), "{} uses crate::{used}", file.path);
        }
    }
}

/// Files that may contain SQL.
const SQL: [&str; 21] = [
    "src/api/idempotency.rs",
    "src/api/principal/token_store.rs",
    "src/api/rows/",
    "src/backfill/",
    "src/rebuild/",
    "src/stripe_key/",
    "src/verify/",
    "src/database/",
    "src/jobs/",
    "src/ledger/",
    "src/outbox/",
    "src/maintenance/store.rs",
    "src/reconcile/",
    "src/redaction/store.rs",
    "src/limits/",
    "src/mirror/",
    "src/store/",
    "src/admin/",
    "src/metrics/database/",
    "src/migrations.rs",
    "src/demo/",
];

#[test]
fn sql_stands_in_its_modules_and_begins_with_its_name() {
    let mut names = BTreeMap::new();
    for file in files("src", "rs") {
        let code = &file.text;
        for (at, _) in code.match_indices("sqlx::query") {
            assert!(SQL.iter().any(|place| file.path.starts_with(place)), "{} must not contain SQL", file.path);
            let Some(rest) = code[at..].split_once('(') else { continue };
            let Some(quote) = rest.1.find('"').filter(|quote| *quote < 80) else { continue };
            let text = rest.1[quote + 1..].trim_start_matches(['\n', ' ']);
            assert!(text.starts_with("-- "), "a query of {} has no name: {}", file.path, &text[..text.len().min(60)]);
            let name = text.lines().next().unwrap_or_default().trim_matches(['"', ' ', ',']);
            let name = name.split("\\n").next().unwrap_or_default().to_owned();
            let duplicate = names.insert(name.clone(), file.path.clone());
            assert!(duplicate.is_none(), "{name} is a query of {} and of {}", file.path, duplicate.unwrap_or_default());
        }
    }
    assert!(names.len() > 20, "only {} queries were found: this check is broken", names.len());
}

/// The only files that open connections, or use those of sqlx: others would be without the session settings, the check and
/// the limits, and their statements would fail behind a pooler in transaction mode.
const CONNECTS: [&str; 2] = ["src/database/", "src/embedded/"];

#[test]
fn connections_are_opened_in_one_place() {
    for file in files("src", "rs").iter().filter(|file| !CONNECTS.iter().any(|place| file.path.starts_with(place))) {
        let code = file.code();
        for token in ["PgPool", "PgConnection", "PgListener", "as_sqlx", " ConnectOptions", "{ConnectOptions"] {
            assert!(!code.contains(token), "{} uses a connection of its own ({token})", file.path);
        }
    }
}

/// If a query takes a name instead of a text, the text is a constant or comes from a macro: this test checks those.
#[test]
fn sql_that_stands_elsewhere_than_in_its_query_begins_with_its_name() {
    let mut found = 0;
    for file in files("src", "rs").iter().filter(|file| SQL.iter().any(|place| file.path.starts_with(place))) {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for head in ["concat!(", ": &str = r\"", ": &str = r#\"", ": &str =\n    \""] {
            for (at, _) in code.match_indices(head) {
                let text = code[at + head.len()..].trim_start_matches([' ', '\n', '"']);
                let is_sql =
                    ["-- ", "WITH", "SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|word| text.starts_with(word));
                assert!(!is_sql || text.starts_with("-- "), "a statement of {} has no name", file.path);
                found += usize::from(is_sql);
            }
        }
    }
    assert!(found >= 3, "only {found} were found: this check is broken");
}

/// A shipped migration is never edited: databases remember its checksum. A new one adds its line here by
/// `sha256sum migrations/*.sql`.
#[test]
fn no_migration_is_edited_after_it_was_shipped() {
    let sums = fs::read_to_string(Path::new(ROOT).join("migrations/SHA256SUMS")).unwrap();
    let found: Vec<String> = files("migrations", "sql")
        .iter()
        .map(|file| format!("{}  {}", hex::encode(Sha256::digest(&file.text)), file.path))
        .collect();
    assert_eq!(
        sums.lines().collect::<Vec<_>>(),
        found,
        "a migration was edited, or a new one is missing in migrations/SHA256SUMS"
    );
}

#[test]
fn the_repository_stands_on_its_own() {
    for (folder, extension) in [
        ("src", "rs"),
        ("tests", "rs"),
        ("docs", "md"),
        ("examples", "md"),
        ("fixtures", "md"),
        ("migrations", "sql"),
        ("ops", "sql"),
        ("ops", "yaml"),
        ("ops", "yml"),
        ("ops", "service"),
        ("ops", "json"),
    ] {
        for file in files(folder, extension) {
            assert!(file.path.starts_with("tests/tidy/") || !file.text.contains("../shared"), "{}", file.path);
        }
    }
}

#[test]
fn every_line_of_the_threat_model_names_a_test_that_exists() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/security.md")).unwrap();
    let code: String = files("src", "rs").iter().chain(&files("tests", "rs")).map(|file| file.text.as_str()).collect();
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("| can")).collect();
    assert!(lines.len() > 10, "only {} lines were found: this check is broken", lines.len());
    for line in lines {
        for test in line.trim_end_matches(" |").rsplit("| ").next().unwrap_or_default().split(", ") {
            let test = test.trim_matches('`');
            assert!(test == "–" || code.contains(&format!("fn {test}()")), "the test {test} does not exist: {line}");
        }
    }
}

/// A dialect is routes, names and rendering: it reads through `api::rows` and changes through `api::changes`.
const DIALECTS: [&str; 2] = ["src/api/checkout_links/", "src/api/workspaces/"];

#[test]
fn a_dialect_contains_no_sql_and_no_call_to_stripe() {
    let all = files("src", "rs");
    for dialect in DIALECTS {
        let of_dialect: Vec<&File> = all.iter().filter(|file| file.path.starts_with(dialect)).collect();
        assert!(of_dialect.len() > 3, "{dialect} does not exist");
        for file in of_dialect {
            let used = imports::modules_used_by(file, &all);
            for forbidden in ["client", "ledger", "writes"] {
                assert!(!used.contains(forbidden), "{} uses crate::{forbidden}", file.path);
            }
            let code = file.code();
            for token in ["sqlx::query", "SELECT ", "INSERT INTO", "UPDATE billing", "DELETE FROM", "billing."] {
                assert!(!code.contains(token), "{} contains SQL ({token})", file.path);
            }
        }
    }
}
