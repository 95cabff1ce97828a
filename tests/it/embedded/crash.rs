//! Two processes on one data directory, killed processes, and the next start.
//!
//! A test that needs another process runs this test binary with [`holder`] as its only test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::ConnectOptions;

use super::{alive, execute, number, open_dir, socket_dir};
use crate::support::cluster::options;
use crate::support::process::Server;

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn within(limit: Duration, what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Not a test: a process that runs the cluster in the directory given on its stdin until it is killed.
#[tokio::test]
#[ignore = "run by other tests as a separate process"]
async fn holder() {
    let mut dir = String::new();
    std::io::stdin().read_line(&mut dir).unwrap();
    match Cluster::start(&options(Path::new(dir.trim()))).await {
        Ok(cluster) => println!("\nholding {} {}", cluster.pid(), socket_dir(&cluster).display()),
        Err(e) => return println!("\nrefused {e}"),
    }
    std::future::pending::<()>().await;
}

fn hold(dir: &Path) -> Child {
    let mut this = Command::new(std::env::current_exe().unwrap());
    this.args(["embedded::crash::holder", "--exact", "--ignored", "--nocapture"]);
    let mut child = this.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", dir.display()).unwrap();
    child
}

/// The first answer of a holder: `(holding, …)` or `(refused, …)`.
fn answer(holder: &mut Child) -> (String, String) {
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("holding ") || line.starts_with("refused "));
    let line = line.expect("an answer of the holder");
    let (word, rest) = line.split_once(' ').unwrap();
    (word.to_owned(), rest.to_owned())
}

fn held(holder: &mut Child) -> (u32, PathBuf) {
    let (word, rest) = answer(holder);
    assert_eq!(word, "holding", "{rest}");
    let (pid, socket) = rest.split_once(' ').unwrap();
    (pid.parse().unwrap(), socket.into())
}

fn kill_hard(mut holder: Child) {
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_pid_of_the_first() {
    let dir = open_dir();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    let mut second = hold(dir.path());
    let (word, text) = answer(&mut second);
    assert_eq!(word, "refused");
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    assert!(text.contains("BILLING_SYNC_DATA_DIR"), "{text}");
    second.wait().unwrap();
    cluster.stop().await.unwrap();
}

#[test]
fn of_two_concurrent_starts_on_a_new_directory_one_wins() {
    let dir = open_dir();
    let mut both = [hold(dir.path()), hold(dir.path())];
    let mut words: Vec<_> = both.iter_mut().map(|holder| answer(holder).0).collect();
    words.sort();
    assert_eq!(words, ["holding", "refused"]);
    both.into_iter().for_each(kill_hard);
}

#[tokio::test]
async fn a_start_after_kill_9_of_the_postmaster_recovers_the_data() {
    let dir = open_dir();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    execute(&cluster, "CREATE TABLE kept AS SELECT 8::int8 AS n").await;
    let _orphan = Connection::from(cluster.connect_options().connect().await.unwrap());
    send(cluster.pid(), Signal::SIGKILL);
    within(Duration::from_secs(5), "the end of the postmaster", || !alive(cluster.pid()));
    cluster.stop().await.unwrap();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    assert_eq!(number(&cluster, "SELECT n FROM kept").await, 8);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_postmaster_is_reported_with_its_log() {
    let dir = open_dir();
    let mut cluster = Cluster::start(&options(dir.path())).await.unwrap();
    let soon = Duration::from_millis(300);
    assert!(tokio::time::timeout(soon, cluster.ended()).await.is_err(), "the cluster still runs");
    send(cluster.pid(), Signal::SIGKILL);
    let ended = tokio::time::timeout(Duration::from_secs(5), cluster.ended()).await.unwrap().to_string();
    assert!(ended.contains("signal: 9") && ended.contains("postgres.log"), "{ended}");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_right_after_kill_9_of_its_owner_works() {
    let dir = open_dir();
    let mut first = hold(dir.path());
    let (pid, _) = held(&mut first);
    kill_hard(first);
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    assert!(!alive(pid), "the old postmaster still runs");
    assert_eq!(number(&cluster, "SELECT 1::int8").await, 1);
    // by then the watcher of the first has ended, without harm to the second
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(number(&cluster, "SELECT 1::int8").await, 1);
    cluster.stop().await.unwrap();
}

#[test]
fn a_postmaster_whose_owner_is_killed_ends_by_itself() {
    let dir = open_dir();
    // the socket is then in the temporary directory, which only the watcher cleans up
    let long = dir.path().join("d".repeat(100));
    fs::create_dir(&long).unwrap();
    let mut owner = hold(&long);
    let (pid, socket) = held(&mut owner);
    assert!(alive(pid) && socket.is_dir());
    kill_hard(owner);
    within(Duration::from_secs(20), "the end of the postmaster", || !alive(pid));
    within(Duration::from_secs(5), "the end of the socket directory", || !socket.exists());
}

#[tokio::test]
async fn a_server_left_running_is_stopped_and_replaced() {
    let dir = open_dir();
    let mut first = hold(dir.path());
    let (pid, _) = held(&mut first);
    for watcher in watchers_of(pid) {
        send(watcher, Signal::SIGKILL); // so that only the next start stops the server
    }
    kill_hard(first);
    assert!(alive(pid));
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    assert!(!alive(pid));
    assert_ne!(cluster.pid(), pid);
    cluster.stop().await.unwrap();
}

fn watchers_of(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let name = format!("billing-sync-watcher\0{pid}\0");
    pids.filter(|p: &u32| fs::read_to_string(format!("/proc/{p}/cmdline")).is_ok_and(|l| l.contains(&name))).collect()
}

#[tokio::test]
async fn a_stale_pid_file_of_a_live_process_does_not_stop_a_start() {
    let dir = open_dir();
    Cluster::start(&options(dir.path())).await.unwrap().stop().await.unwrap();
    let cluster = dir.path().join("data/postgres");
    let stale = format!("{}\n{}\n1700000000\n5432\n/gone\n\n  1 2\nready\n", std::process::id(), cluster.display());
    fs::write(cluster.join("postmaster.pid"), stale).unwrap();
    fs::write(dir.path().join("data/lock"), "1\n").unwrap();
    Cluster::start(&options(dir.path())).await.unwrap().stop().await.unwrap();
}

fn unfinished(data_dir: &Path) -> usize {
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("postgres.new-")).count()
}

#[tokio::test]
async fn a_start_after_kill_9_during_initdb_begins_anew() {
    let dir = open_dir();
    let data_dir = dir.path().join("data");
    let first = hold(dir.path());
    within(Duration::from_secs(10), "initdb", || unfinished(&data_dir) == 1);
    kill_hard(first);
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    assert_eq!(number(&cluster, "SELECT 1::int8").await, 1);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn serve_ends_with_its_private_server_and_logs_why() {
    let dir = open_dir();
    let data_dir = dir.path().join("data");
    let server = Server::start_embedded(&data_dir).await;
    let pid = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).unwrap();
    send(pid.lines().next().unwrap().parse().unwrap(), Signal::SIGKILL);
    let (code, log) = server.ended_with_log().await;
    assert_eq!(code, Some(1), "{log}");
    let is_the_end = |line: &&str| line.contains("\"ERROR\"") && line.contains("ended unexpectedly");
    let error = log.lines().find(is_the_end).expect(&log);
    assert!(error.contains("postgres.log"), "{error}");
}
