//! Commands in the documentation parse, make targets and files exist, and SQL matches the schema.

use std::fs;
use std::path::Path;

use billing_sync::cli::Cli;
use clap::Parser;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

use crate::support::app::TestApp;
use crate::support::pages;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Code in a page. The language is that of its block, and empty for code within a line.
struct Code {
    file: String,
    language: String,
    text: String,
}

fn all_code() -> Vec<Code> {
    let of_page = |(file, page): (String, String)| {
        let code = pages::code(&page).into_iter();
        code.map(move |(language, text)| Code { file: file.clone(), language, text })
    };
    pages::pages().into_iter().flat_map(of_page).collect()
}

/// The lines that a shell would run, of blocks and of code within a line, without their comments.
fn shell_lines() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for code in all_code() {
        if ["sh", "bash", "shell", "console", ""].contains(&code.language.as_str()) {
            let text = code.text.replace("\\\n", " ");
            let without_comment = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
            lines.extend(text.lines().map(|line| (code.file.clone(), without_comment(line))));
        }
    }
    // the commands in the comments of the Dockerfile
    let dockerfile = fs::read_to_string(Path::new(ROOT).join("Dockerfile")).unwrap();
    let comments = dockerfile.lines().filter_map(|line| line.strip_prefix("#   "));
    lines.extend(comments.map(|line| ("Dockerfile".to_owned(), line.to_owned())));
    lines
}

/// The arguments of the program, if the line calls it directly, as root, in a container of its image or in a pod.
fn arguments(line: &str) -> Option<Vec<String>> {
    let is_prefix = |word: &&str| ["sudo", "env"].contains(word) || word.contains('=');
    let mut words = line.split_whitespace().skip_while(is_prefix);
    let first = words.next()?;
    let is_program = |word: &str| word.rsplit('/').next() == Some("billing-sync");
    let is_called = match first {
        "docker" | "podman" => words.next() == Some("run") && words.any(|word| word == "billing-sync"),
        "kubectl" => words.any(|word| word == "--") && words.next().is_some_and(is_program),
        first => is_program(first),
    };
    if !is_called {
        return None;
    }
    // placeholders for the reader's own values
    let value = |word: &str| match word {
        "URL" => "http://127.0.0.1:8080/webhooks/stripe".to_owned(),
        "T" => "2026-01-01T00:00:00Z".to_owned(),
        word => word.trim_matches(['[', ']', '"', '\'']).to_owned(),
    };
    Some(words.take_while(|word| !["&&", "|", ";", "&", ">"].contains(word)).map(value).collect())
}

#[test]
fn every_printed_command_parses() {
    let mut found = 0;
    for (file, line) in shell_lines() {
        let Some(arguments) = arguments(&line) else { continue };
        // without arguments it is the name of the project
        if arguments.is_empty() {
            continue;
        }
        found += 1;
        let program = std::iter::once("billing-sync".to_owned());
        if let Err(error) = Cli::try_parse_from(program.chain(arguments)) {
            let is_answer = !error.use_stderr();
            assert!(is_answer, "{file}: {line}\n{error}");
        }
    }
    assert!(found > 60, "only {found} commands were found: this check finds too little");
}

#[test]
fn every_printed_make_target_and_file_exists() {
    let makefile = fs::read_to_string(Path::new(ROOT).join("Makefile")).unwrap();
    let mut found = 0;
    for (file, line) in shell_lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["make", target, ..] = words[..] {
            found += 1;
            assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "{file}: {line}");
        }
        if let Some(at) = words.iter().position(|word| *word == "--file") {
            found += 1;
            assert!(Path::new(ROOT).join(words[at + 1]).exists(), "{file}: {line}");
        }
    }
    assert!(found >= 4, "only {found} were found: this check finds too little");
}

/// The statements of a text, with values instead of the reader's variables.
fn statements(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let text = lines.join("\n").replace("$workspace", "gen_random_uuid()").replace("$request_id", "'a request'");
    text.split(';').map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

#[tokio::test]
async fn every_printed_statement_fits_the_schema() {
    let app = TestApp::start().await;
    let mut conn = app.pool.acquire().await.unwrap();
    let mut found = 0;
    for code in all_code() {
        let is_query =
            ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "].iter().any(|word| code.text.starts_with(word));
        let is_whole = code.language.is_empty() && is_query && !code.text.contains('…');
        if code.language != "sql" && !is_whole {
            continue;
        }
        for statement in statements(&code.text) {
            found += 1;
            let prepared = (&mut conn).prepare(AssertSqlSafe(statement.clone()).into_sql_str()).await;
            assert!(prepared.is_ok(), "{}: {statement}: {}", code.file, prepared.err().unwrap());
        }
    }
    assert!(found > 6, "only {found} statements were found: this check finds too little");
    drop(conn);
    app.finish().await;
}
