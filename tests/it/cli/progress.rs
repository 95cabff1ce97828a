//! The long commands through the real binary: progress on standard error only, in the width of the terminal; every wait
//! is explained; one summary, however the command ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use billing_sync::database::Connection;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};

use super::{binary, code, json_lines, migrated, words};
use crate::support::cluster::TestDatabase;
use crate::support::stripe::{FakeStripe, Fault};

const COMMANDS: [&[&str]; 8] = [
    &["backfill"],
    &["backfill", "--dry-run"],
    &["verify"],
    &["rebuild"],
    &["rebuild", "--dry-run"],
    &["reconcile"],
    &["renew"],
    &["renew", "--dry-run"],
];

/// A database without events, and a Stripe without objects.
struct Site {
    database: TestDatabase,
    conn: Connection,
    stripe: FakeStripe,
}

impl Site {
    async fn start() -> Self {
        let (database, conn) = migrated().await;
        Self { database, conn, stripe: FakeStripe::start().await }
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        self.command_at(&self.database.url, arguments)
    }

    fn command_at(&self, url: &str, arguments: &[&str]) -> tokio::process::Command {
        let base = self.stripe.base();
        let environment = [
            ("DATABASE_URL", url),
            ("STRIPE_SECRET_KEY", self.stripe.key()),
            ("STRIPE_API_BASE", &base),
            ("BILLING_SYNC_READ_MARGIN", "1s"),
        ];
        let mut command = tokio::process::Command::from(binary(arguments, &environment));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Lets every command wait: all of them read this table first.
    async fn lock(&mut self) {
        let lock = "BEGIN; LOCK TABLE billing.schema_migrations IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(lock).execute(&mut self.conn).await.unwrap();
    }
}

fn with_json<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--json"]].concat()
}

/// On a busy machine a command may wait for the database; that line is allowed.
fn assert_only_progress(command: &str, output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_progress = |line: &str| line.starts_with(&format!("{command}: "));
    assert!(errors.lines().all(is_progress), "{errors}");
}

/// The summary, which must be the only one, and the last object.
fn summary(output: &Output) -> Value {
    let lines = json_lines(output);
    let summaries = lines.iter().filter(|line| line.get("summary").is_some()).count();
    assert_eq!(summaries, 1, "{lines:?} {}", words(&output.stderr));
    lines.last().unwrap()["summary"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_finds_nothing_ends_with_one_summary() {
    let site = Site::start().await;
    for arguments in COMMANDS {
        let output = site.run(&with_json(arguments)).await;
        let summary = summary(&output);
        assert_eq!(code(&output), 0, "{arguments:?} {summary:#} {}", words(&output.stderr));
        assert_eq!((&summary["command"], &summary["outcome"]), (&json!(arguments[0]), &json!("complete")));
        assert_eq!((&summary["error"], &summary["next_step"]), (&Value::Null, &Value::Null), "{summary:#}");
        assert!(summary["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0), "{summary:#}");
        assert_only_progress(arguments[0], &output);
        let output = site.run(arguments).await;
        let text = words(&output.stdout);
        assert!(code(&output) == 0 && !text.is_empty(), "{arguments:?} {text}");
        assert_only_progress(arguments[0], &output);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_command_ends_with_one_summary() {
    let site = Site::start().await;
    for arguments in COMMANDS {
        let url = "postgres://u@127.0.0.1:1/d";
        let output = site.command_at(url, &with_json(arguments)).output().await.unwrap();
        let summary = summary(&output);
        assert_eq!((code(&output), &summary["outcome"]), (1, &json!("failed")), "{arguments:?} {summary:#}");
        let error = summary["error"].as_str().unwrap();
        assert!(error.contains("cannot use the database at 127.0.0.1:1"), "{error}");
        assert!(summary["next_step"].as_str().is_some_and(|next| !next.is_empty()), "{summary:#}");
        // the same text for people, once
        let output = site.command_at(url, arguments).output().await.unwrap();
        assert_eq!((code(&output), words(&output.stdout).as_str()), (1, ""), "{arguments:?}");
        assert_eq!(words(&output.stderr).matches("error: cannot use the database").count(), 1, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_command_names_its_wait_and_the_next_step() {
    let mut site = Site::start().await;
    site.lock().await;
    let commands = COMMANDS.iter().zip([true, false].into_iter().cycle());
    all(commands.map(|(arguments, is_json)| interrupt(&site, arguments, is_json))).await;
}

/// Interrupts a command that waits for the database: by SIGINT with `--json`, otherwise by SIGTERM.
async fn interrupt(site: &Site, arguments: &[&str], is_json: bool) {
    let signal = if is_json { Signal::SIGINT } else { Signal::SIGTERM };
    let mut command = site.command(&if is_json { with_json(arguments) } else { arguments.to_vec() });
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    // the wait is explained after two seconds; starting may take as long on a busy machine
    tokio::time::sleep(Duration::from_secs(6)).await;
    kill(pid, signal).unwrap();
    let output = child.wait_with_output().await.unwrap();
    let (errors, text) = (words(&output.stderr), words(&output.stdout));
    let waits = format!("{}: starting: waiting for the database, ", arguments[0]);
    assert!(errors.contains(&waits), "{arguments:?} {errors}");
    assert!(!errors.contains(" 0 s"), "{errors}");
    if is_json {
        let summary = summary(&output);
        assert_eq!((code(&output), &summary["outcome"]), (130, &json!("interrupted")), "{summary:#}");
        assert_eq!(summary["error"], "interrupted by SIGINT");
        assert!(summary["next_step"].as_str().is_some_and(|next| !next.is_empty()), "{summary:#}");
    } else {
        assert_eq!(code(&output), 143, "{arguments:?} {text}");
        assert_eq!(text.matches("interrupted by SIGTERM: ").count(), 1, "{arguments:?} {text}");
    }
}

/// Runs all futures at the same time.
async fn all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_waited_for_and_named() {
    let site = Site::start().await;
    let commands: [(&[&str], &str); 3] =
        [(&["backfill"], "/v1/coupons"), (&["verify"], "/v1/coupons"), (&["reconcile"], "/v1/events")];
    for (arguments, path) in commands {
        site.stripe.fail_next_under(path, 1, Fault::TooManyRequests { retry_after: Some(3) });
        let output = site.run(arguments).await;
        let errors = words(&output.stderr);
        assert_eq!(code(&output), 0, "{arguments:?} {errors}");
        assert!(errors.contains("waiting for Stripe's rate limit, "), "{arguments:?} {errors}");
        site.stripe.recover();
    }
    // longer than a request waits: the page is requested again later
    site.stripe.fail_next_under("/v1/coupons", 1, Fault::TooManyRequests { retry_after: Some(7) });
    let output = site.run(&["backfill"]).await;
    let errors = words(&output.stderr);
    assert!(code(&output) == 0 && errors.contains("waiting for Stripe's rate limit, "), "{errors}");
}

/// A terminal, and what was written to it.
pub(super) struct Terminal {
    master: Arc<File>,
    written: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Terminal {
    /// Opens a terminal; the second value is its other end.
    pub(super) fn open(columns: u16) -> (Self, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (master, written) = (Arc::new(File::from(master)), Arc::new(Mutex::new(Vec::new())));
        let (source, sink) = (Arc::clone(&master), Arc::clone(&written));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // reading fails once all other ends are closed
            while let Ok(length @ 1..) = (&*source).read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        let terminal = Self { master, written, reader };
        terminal.resize(columns);
        (terminal, slave)
    }

    fn resize(&self, columns: u16) {
        tcsetwinsize(&*self.master, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// The lines written since the last call.
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.written.lock().unwrap());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split(['\r', '\n']).filter(|line| !line.trim().is_empty()).map(ToOwned::to_owned).collect()
    }

    /// Types this text.
    pub(super) fn write(&self, text: &[u8]) {
        (&*self.master).write_all(text).unwrap();
    }

    /// All lines, once all other ends are closed.
    pub(super) fn last_lines(self) -> Vec<String> {
        let Self { master, written, reader } = self;
        reader.join().unwrap();
        drop(master);
        let text = String::from_utf8_lossy(&written.lock().unwrap()).into_owned();
        text.split(['\r', '\n']).map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_is_wider_than_the_terminal() {
    let mut site = Site::start().await;
    site.lock().await;
    let (terminal, slave) = Terminal::open(80);
    let mut command = site.command(&["backfill", "--json"]);
    let child = command.stderr(Stdio::from(slave)).stdout(Stdio::piped()).spawn().unwrap();
    drop(command);
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    for columns in [80, 40, 24, 10] {
        terminal.resize(columns);
        // a line that was written for the width before
        tokio::time::sleep(Duration::from_secs(1)).await;
        terminal.lines();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let lines = terminal.lines();
        assert!(lines.len() > 3, "{lines:?}");
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns), "{lines:?}");
        let last = lines.last().unwrap();
        assert!(last.contains("waiting for the database") || last.contains('…'), "{lines:?}");
    }
    kill(pid, Signal::SIGINT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((code(&output), &summary(&output)["outcome"]), (130, &json!("interrupted")));
    terminal.reader.join().unwrap();
    // the line is removed: spaces stand between two carriage returns, and only the log of the slow statement follows
    let written = String::from_utf8_lossy(&terminal.written.lock().unwrap()).into_owned();
    let segments: Vec<&str> = written.split('\r').collect();
    let removed = segments.iter().rposition(|line| !line.is_empty() && line.trim().is_empty());
    let removed = removed.unwrap_or_else(|| panic!("{written:?}"));
    let after = segments[removed + 1..].concat();
    assert!(after.is_empty() || after.contains("slow statement"), "{written:?}");
    assert!(!after.contains("waiting f"), "{written:?}");
}
