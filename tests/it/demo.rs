//! The demo on real servers. It checks its own story; these tests check the complete rows, the same on every run, the
//! output, what a kept demo prints to try, and its start and end.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::str::FromStr;
use std::time::Duration;

use billing_sync::base::clock;
use billing_sync::config::demo::KeepConfig;
use billing_sync::config::secret::WebhookSecret;
use billing_sync::demo::{self, DemoError, Options};
use billing_sync::receiver::PATH;
use billing_sync::receiver::signature::sign;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sqlx::postgres::{PgColumn, PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Row, ValueRef};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::client::{Client, post};
use crate::support::cluster;

/// Columns with times of the database's clock.
const CLOCK_COLUMNS: [&str; 5] = ["created_at", "updated_at", "received_at", "run_at", "finished_at"];

/// A temporary directory that the server's user may enter.
fn open_dir() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap()
}

fn options(dir: &TempDir, json: bool) -> Options {
    Options { embedded: cluster::options(dir.path()), json, keep: None }
}

/// Options of a demo that keeps serving, at free ports.
fn kept(dir: &TempDir, json: bool) -> Options {
    let free = "127.0.0.1:0".parse().unwrap();
    let keep = KeepConfig { listen: free, api_listen: None, ops_listen: free, extra_secrets: Vec::new() };
    Options { keep: Some(keep), ..options(dir, json) }
}

async fn run(options: Options) -> String {
    let mut out = Vec::new();
    demo::run(options, &mut out, CancellationToken::new()).await.unwrap();
    String::from_utf8(out).unwrap()
}

/// The lines of `--json` without the times of the clock, from which all dates of Cleo follow.
fn rows(output: &str) -> String {
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let is_of_cleo = ["Cleo", "price_DemoWriter"].iter().any(|name| line.contains(name))
            || ["workspace_limits", "limit_renewals"].iter().any(|table| row["table"] == *table);
        for (column, value) in row.as_object_mut().unwrap() {
            if is_of_cleo {
                without_times(value);
            } else if CLOCK_COLUMNS.contains(&column.as_str()) && value.is_string() {
                *value = Value::from("[clock]");
            }
        }
        row.to_string()
    };
    output.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Replaces all times in a value.
fn without_times(value: &mut Value) {
    match value {
        Value::String(text) if OffsetDateTime::parse(text, &Rfc3339).is_ok() => *value = Value::from("[clock]"),
        Value::Array(values) => values.iter_mut().for_each(without_times),
        Value::Object(fields) => fields.values_mut().for_each(without_times),
        _ => {}
    }
}

/// The story without the dates of Cleo, which are in the lines of her limit.
fn without_dates_of_cleo(story: &str) -> String {
    let line = |line: &str| {
        let is_of_statement = line.starts_with("  20") && line.contains("Z  ");
        if !is_of_statement && !["words: ", "HINT: ", "waiting for "].iter().any(|start| line.contains(start)) {
            return line.to_owned();
        }
        let is_date = |word: &str| word.starts_with("20") && word.matches('-').count() == 2;
        let word = |word: &str| {
            if is_date(word) { word.replace(|it: char| it.is_ascii_digit(), "#") } else { word.to_owned() }
        };
        line.split(' ').map(word).collect::<Vec<_>>().join(" ")
    };
    story.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_rows_are_the_same_on_every_run() {
    let dir = open_dir();
    let first = rows(&run(options(&dir, true)).await);
    insta::assert_snapshot!("rows", first);
    assert_eq!(rows(&run(options(&dir, true)).await), first, "a second run in the same directory");
    assert!(dir.path().join("data/demo/postgres").is_dir(), "its cluster is separate from that of `serve --embedded`");
}

#[tokio::test]
async fn the_story_fits_into_eighty_columns() {
    let output = run(options(&open_dir(), false)).await;
    let long: Vec<&str> = output.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
    let (_, story) = output.split_once("/webhooks/stripe\n").unwrap();
    insta::assert_snapshot!("story", without_dates_of_cleo(story));
}

#[tokio::test]
async fn a_kept_demo_accepts_events_until_it_is_stopped() {
    let dir = open_dir();
    let (mine, free) = (WebhookSecret::new("whsec_mine").unwrap(), "127.0.0.1:0".parse().unwrap());
    let keep = KeepConfig { listen: free, api_listen: None, ops_listen: free, extra_secrets: vec![mine.clone()] };
    let options = Options { keep: Some(keep), ..options(&dir, true) };
    let shutdown = CancellationToken::new();
    let (mut out, mut lines) = Lines::new();
    let reader = async {
        let serving = serving(&mut lines).await;
        let body = br#"{"id":"evt_mine","object":"event","type":"ping","created":1763000000,"data":{"object":{}}}"#;
        let signature = sign(&mine, clock::now().unix_timestamp(), body);
        let address = serving["webhooks"].as_str().unwrap().trim_start_matches("http://").trim_end_matches(PATH);
        let mut client = Client::connect(address.parse().unwrap()).await;
        client.send(&post(PATH, &signature, body)).await;
        assert_eq!(client.reply().await.unwrap().status, 200);
        shutdown.cancel();
    };
    let (result, ()) = tokio::join!(demo::run(options, &mut out, shutdown.clone()), reader);
    result.unwrap();
}

#[tokio::test]
async fn a_kept_demo_prints_its_addresses() {
    let dir = open_dir();
    let options = kept(&dir, false);
    let shutdown = CancellationToken::new();
    let (mut out, mut lines) = Lines::new();
    let reader = async {
        let mut printed = String::new();
        while !printed.contains("stripe trigger") {
            printed += &next(&mut lines).await;
        }
        shutdown.cancel();
        printed
    };
    let (result, printed) = tokio::join!(demo::run(options, &mut out, shutdown.clone()), reader);
    result.unwrap();
    for expected in
        ["/webhooks/stripe", "/metrics", "DATABASE_URL='postgres:///", "stripe listen --print-secret", "whsec_"]
    {
        assert!(printed.contains(expected), "{expected} is missing in {printed}");
    }
    // paths and URLs cannot be shortened
    let text = printed.lines().filter(|line| !line.contains('/'));
    assert_eq!(text.filter(|line| line.chars().count() > 80).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// The width of psql's table of these rows.
fn psql_width(rows: &[PgRow]) -> usize {
    let columns = rows[0].columns();
    let width = |column: &PgColumn| {
        let value = |row: &PgRow| {
            let value = row.try_get_raw(column.ordinal()).unwrap();
            if value.is_null() { 0 } else { value.as_str().unwrap().chars().count() }
        };
        rows.iter().map(value).max().unwrap().max(column.name().len())
    };
    // a space on both sides of each value, and a line between two
    columns.iter().map(|column| width(column) + 2).sum::<usize>() + columns.len() - 1
}

#[tokio::test]
async fn what_a_kept_demo_prints_to_try_works_and_fits_into_eighty_columns() {
    let dir = open_dir();
    let options = kept(&dir, false);
    let shutdown = CancellationToken::new();
    let (mut out, mut lines) = Lines::new();
    let user = async {
        let mut printed = String::new();
        while !printed.contains("stripe trigger") {
            printed += &next(&mut lines).await;
        }
        let (_, printed) = printed.split_once("export DATABASE_URL='").unwrap();
        let (url, printed) = printed.split_once("'\n").unwrap();
        let (commands, printed) = printed.split_once("  psql \"$DATABASE_URL\"\n").unwrap();
        let commands: Vec<&str> =
            commands.lines().filter_map(|line| line.trim().strip_prefix("billing-sync ")).collect();
        assert_eq!(commands.len(), 3, "{commands:?}");
        for command in commands {
            let mut program = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
            program.args(command.split(' ')).env_clear().env("DATABASE_URL", url);
            let output = program.output().await.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.lines().count() > 5, "{command}: {output:?}");
            let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{command}: {long:#?}");
        }

        let (queries, _) = printed.split_once("\n\n").unwrap();
        let mut conn = PgConnectOptions::from_str(url).unwrap().connect().await.unwrap();
        // the widest times
        sqlx::raw_sql("SET TimeZone = 'Asia/Kathmandu'").execute(&mut conn).await.unwrap();
        let queries: Vec<&str> = queries.split(';').map(str::trim).filter(|query| !query.is_empty()).collect();
        assert_eq!(queries.len(), 3, "{queries:?}");
        let mut answers = Vec::new();
        for query in queries {
            let rows = sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&mut conn).await.unwrap();
            assert!(psql_width(&rows) <= 80, "{query}: {} columns", psql_width(&rows));
            answers.push((rows.len(), rows[0].try_get_raw(0).unwrap().as_str().unwrap().to_owned()));
        }
        // Ada's workspace of three, what the plan includes, and what is left of 900
        let ada = "5e7a2c1e-90b4-4d0f-8a36-2f1c7d9b4e10".to_owned();
        assert_eq!(answers, [(3, ada), (1, "1000".to_owned()), (1, "650".to_owned())]);
        conn.close().await.unwrap();
        shutdown.cancel();
    };
    let (result, ()) = tokio::join!(demo::run(options, &mut out, shutdown.clone()), user);
    result.unwrap();
}

/// The pictures of the README: the file, and the arguments of `explain` that draw it.
const PICTURES: [(&str, &[&str]); 2] = [
    ("docs/pictures/life.svg", &["sub_DemoAda", "--svg", "--until", "2026-12-01T00:00:00Z"]),
    ("docs/pictures/words.svg", &["sub_DemoCleo", "--svg", "--limit", "words"]),
];

/// The dates and times that are a text of their own, without their digits: Cleo's follow from the clock.
fn without_dates(picture: &str) -> String {
    let is_time = |text: &str| {
        text.contains(['-', ':']) && text.trim().chars().all(|it| it.is_ascii_digit() || "-:".contains(it))
    };
    let mask =
        |text: &str| if is_time(text) { text.replace(|it: char| it.is_ascii_digit(), "#") } else { text.to_owned() };
    let tags = picture.split('<').map(|part| match part.split_once('>') {
        Some((tag, text)) => format!("{tag}>{}", mask(text)),
        None => part.to_owned(),
    });
    tags.collect::<Vec<_>>().join("<")
}

/// `make pictures` writes those that differ.
#[tokio::test]
async fn the_pictures_of_the_readme_show_the_demo() {
    let dir = open_dir();
    let options = kept(&dir, true);
    let shutdown = CancellationToken::new();
    let (mut out, mut lines) = Lines::new();
    let user = async {
        let serving = serving(&mut lines).await;
        let readme = include_str!("../../README.md");
        #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
        let update = std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always");
        for (path, arguments) in PICTURES {
            let mut program = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
            program
                .arg("explain")
                .args(arguments)
                .env_clear()
                .env("DATABASE_URL", serving["database_url"].as_str().unwrap());
            let output = program.output().await.unwrap();
            assert!(output.status.success(), "{output:?}");
            let drawn = String::from_utf8(output.stdout).unwrap();
            let committed = std::fs::read_to_string(path).unwrap_or_default();
            if update && without_dates(&drawn) != without_dates(&committed) {
                std::fs::write(path, &drawn).unwrap();
            } else {
                assert_eq!(without_dates(&drawn), without_dates(&committed), "{path}: run `make pictures`");
            }
            assert!(readme.contains(&format!("]({path})")), "the README does not show {path}");
        }
        shutdown.cancel();
    };
    let (result, ()) = tokio::join!(demo::run(options, &mut out, shutdown.clone()), user);
    result.unwrap();
}

#[tokio::test]
async fn a_kept_demo_ends_with_its_server() {
    let dir = open_dir();
    let options = kept(&dir, true);
    let (mut out, mut lines) = Lines::new();
    let killer = async {
        while !lines.recv().await.unwrap().contains(r#""table":"serving""#) {}
        let pid = std::fs::read_to_string(dir.path().join("data/demo/postgres/postmaster.pid")).unwrap();
        kill(Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()), Signal::SIGKILL).unwrap();
    };
    let demo = tokio::time::timeout(Duration::from_mins(1), demo::run(options, &mut out, CancellationToken::new()));
    let (result, ()) = tokio::join!(demo, killer);
    let error = result.expect("the demo ends").unwrap_err();
    assert!(error.to_string().contains("ended unexpectedly"), "{error}");
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing_running() {
    let dir = open_dir();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let interrupted = demo::run(options(&dir, true), &mut io::sink(), shutdown).await;
    assert!(matches!(interrupted, Err(DemoError::Interrupted)), "{interrupted:?}");
    // a running cluster would lock its directory
    let again = tokio::time::timeout(Duration::from_mins(1), run(options(&dir, true))).await;
    assert!(again.is_ok(), "the next demo does not start");
}

/// The next line; a failed demo writes none.
async fn next(lines: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(30), lines.recv()).await.expect("the demo writes no more lines").unwrap()
}

/// The line with the addresses of a kept demo.
async fn serving(lines: &mut mpsc::UnboundedReceiver<String>) -> Value {
    loop {
        let line: Value = serde_json::from_str(&next(lines).await).unwrap();
        if line["table"] == "serving" {
            return line;
        }
    }
}

/// Sends the output line by line while the demo runs.
struct Lines {
    line: Vec<u8>,
    to: mpsc::UnboundedSender<String>,
}

impl Lines {
    fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (to, lines) = mpsc::unbounded_channel();
        (Self { line: Vec::new(), to }, lines)
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' {
                let line = String::from_utf8(std::mem::take(&mut self.line)).unwrap();
                // at the end the receiver may be gone
                let _ = self.to.send(line);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
