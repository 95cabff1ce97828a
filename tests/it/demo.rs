//! The demo on real servers. It checks its own story; these tests check the complete rows, the same on every run, the
//! output, and the start and end of a kept demo.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
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
use tempfile::TempDir;
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

async fn run(options: Options) -> String {
    let mut out = Vec::new();
    demo::run(options, &mut out, CancellationToken::new()).await.unwrap();
    String::from_utf8(out).unwrap()
}

/// The lines of `--json` without the times of the clock.
fn rows(output: &str) -> String {
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for column in CLOCK_COLUMNS {
            if let Some(value) = row.get_mut(column).filter(|value| value.is_string()) {
                *value = Value::from("[clock]");
            }
        }
        row.to_string()
    };
    output.lines().map(line).collect::<Vec<_>>().join("\n")
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
    insta::assert_snapshot!("story", story);
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
        let serving = loop {
            let line: Value = serde_json::from_str(&next(&mut lines).await).unwrap();
            if line["table"] == "serving" {
                break line;
            }
        };
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
    let free = "127.0.0.1:0".parse().unwrap();
    let keep = KeepConfig { listen: free, api_listen: None, ops_listen: free, extra_secrets: Vec::new() };
    let options = Options { keep: Some(keep), ..options(&dir, false) };
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

#[tokio::test]
async fn a_kept_demo_ends_with_its_server() {
    let dir = open_dir();
    let free = "127.0.0.1:0".parse().unwrap();
    let keep = KeepConfig { listen: free, api_listen: None, ops_listen: free, extra_secrets: Vec::new() };
    let options = Options { keep: Some(keep), ..options(&dir, true) };
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
