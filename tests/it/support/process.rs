//! The real binary running `serve`, so that it can be killed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use billing_sync::base::clock;
use billing_sync::config::secret::WebhookSecret;
use billing_sync::receiver::PATH;
use billing_sync::receiver::signature;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::app::SECRET;
use super::client::{Client, Reply, get, post};
use super::cluster::{self, TestDatabase};

fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    command.arg("serve").args(arguments).env_clear().kill_on_drop(true).env("STRIPE_WEBHOOK_SECRET", SECRET);
    command.env("BILLING_SYNC_LISTEN", "127.0.0.1:0").env("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0");
    command.env("BILLING_SYNC_POLL_INTERVAL", "100ms").env("BILLING_SYNC_RETRY_INITIAL", "100ms");
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Timeout: longer than any step takes on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An event's signature header and its bytes.
pub(crate) fn signed(event: &Value) -> (String, Vec<u8>) {
    let body = event.to_string().into_bytes();
    let now = clock::now().unix_timestamp();
    (signature::sign(&WebhookSecret::new(SECRET).unwrap(), now, &body), body)
}

pub(crate) struct Server {
    child: Child,
    /// Lines of the log, read continuously, because a full pipe would block the process.
    log: mpsc::UnboundedReceiver<String>,
    /// The log line that reports that the process serves.
    serving: Value,
    webhooks: Option<SocketAddr>,
    ops: SocketAddr,
    /// The log read so far.
    seen: String,
}

impl Server {
    /// Starts `serve` with these roles and waits until the log reports that it serves.
    pub(crate) async fn start(database: &TestDatabase, roles: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_on(&database.url, roles, environment).await
    }

    /// The same with a database that does not belong to a test.
    pub(crate) async fn start_on(url: &str, roles: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = serve(&["--roles", roles]);
        command.env("DATABASE_URL", url).envs(environment.iter().copied());
        Self::spawn(command).await
    }

    /// Starts `serve` with these roles and arguments, and another connection string than the test's.
    pub(crate) async fn start_at(url: &str, roles: &str, arguments: &[&str]) -> Self {
        let mut command = serve(&["--roles", roles]);
        command.args(arguments).env("DATABASE_URL", url);
        Self::spawn(command).await
    }

    /// Starts `serve` with these roles, arguments and settings.
    pub(crate) async fn start_with(roles: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = serve(&["--roles", roles]);
        command.args(arguments).envs(environment.iter().copied());
        Self::spawn(command).await
    }

    /// Starts `serve --embedded` with this data directory.
    pub(crate) async fn start_embedded(data_dir: &Path) -> Self {
        let mut command = serve(&["--embedded"]);
        command.env("BILLING_SYNC_DATA_DIR", data_dir).env("PATH", cluster::search_path());
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(line);
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, log, serving: Value::Null, webhooks: None, ops: nowhere, seen: String::new() };
        let serving = server.log_line("serving").await;
        server.ops = serving["ops"].as_str().unwrap().parse().unwrap();
        let url = serving["webhooks"].as_str().map(|url| url.trim_start_matches("http://").trim_end_matches(PATH));
        server.webhooks = url.map(|address| address.parse().unwrap());
        server.serving = serving;
        server
    }

    /// The log line that reports that the process serves.
    pub(crate) fn serving(&self) -> &Value {
        &self.serving
    }

    /// The next line of the log with this message.
    pub(crate) async fn log_line(&mut self, message: &str) -> Value {
        let found = timeout(TIMEOUT, async {
            while let Some(line) = self.log.recv().await {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                self.seen += &(line + "\n");
                if entry["message"] == message {
                    return Some(entry);
                }
            }
            None
        });
        found.await.ok().flatten().unwrap_or_else(|| panic!("{message:?} is not in the log: {}", self.seen))
    }

    /// The whole log, once the process has ended.
    pub(crate) async fn rest_of_the_log(mut self) -> String {
        let read = async {
            while let Some(line) = self.log.recv().await {
                self.seen += &(line + "\n");
            }
        };
        timeout(TIMEOUT, read).await.expect("it does not end");
        self.seen
    }

    /// The answer of the ops listener.
    pub(crate) async fn ask(&self, path: &str) -> Reply {
        let mut client = Client::connect(self.ops).await;
        client.send(&get(path, &[])).await;
        client.reply().await.unwrap()
    }

    /// The metrics, as Prometheus reads them.
    pub(crate) async fn get_metrics(&self) -> String {
        self.ask("/metrics").await.text
    }

    /// The value of one series.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.get_metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{series} is not among the metrics")).parse().unwrap()
    }

    /// Peak memory of the process, in MB.
    pub(crate) fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// The address of the ops listener.
    pub(crate) fn ops(&self) -> SocketAddr {
        self.ops
    }

    /// The address of the public listener.
    pub(crate) fn webhooks(&self) -> SocketAddr {
        self.webhooks.unwrap()
    }

    /// Delivers a signed event; `None` without an answer.
    pub(crate) async fn deliver(&self, event: &Value) -> Option<u16> {
        let (header, body) = signed(event);
        let mut client = Client::try_connect(self.webhooks.unwrap()).await?;
        client.try_send(&post(PATH, &header, &body)).await?;
        client.reply().await.map(|reply| reply.status)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
        }
    }

    /// Waits for the end and returns the exit code, `None` if it was killed.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        timeout(TIMEOUT, self.child.wait()).await.expect("it does not end").unwrap().code()
    }

    /// The same, with the whole log.
    pub(crate) async fn ended_with_log(mut self) -> (Option<i32>, String) {
        let code = timeout(TIMEOUT, self.child.wait()).await.expect("it does not end").unwrap().code();
        (code, self.rest_of_the_log().await)
    }

    /// `kill -9`.
    pub(crate) async fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }
}
