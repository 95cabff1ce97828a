//! The private PostgreSQL with real servers: starts, ends of every kind, and the start after them.
//!
//! Where a test needs a process to be killed, it runs this test binary again with [`holder`] as its only test.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use billing_sync::embedded::{Cluster, EmbeddedError, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::support::cluster::{self, options};

/// A temp directory that the server's user may pass, as a clone in an ordinary place is.
fn open_dir() -> TempDir {
    dir_with_mode(0o711)
}

fn dir_with_mode(mode: u32) -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempdir().unwrap()
}

async fn execute(cluster: &Cluster, statement: &'static str) {
    let mut connection = cluster.connect_options().connect().await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn number(cluster: &Cluster, query: &'static str) -> i64 {
    let mut connection = cluster.connect_options().connect().await.unwrap();
    sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
}

fn socket_dir(cluster: &Cluster) -> PathBuf {
    cluster.connect_options().get_socket().unwrap().clone()
}

/// A zombie has ended, though its parent has yet to look.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

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

/// The text of every link of the error, as the commands print it.
fn refusal(result: Result<Cluster, EmbeddedError>) -> String {
    result.expect_err("a refusal").to_string()
}

/// Not a test: a process that holds the cluster in the directory named on its stdin until it is killed.
#[tokio::test]
#[ignore = "run by other tests, as a process of its own"]
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
    this.args(["embedded::holder", "--exact", "--ignored", "--nocapture"]);
    let mut child = this.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", dir.display()).unwrap();
    child
}

/// What a holder said first: `(holding, …)` or `(refused, …)`.
fn answer(holder: &mut Child) -> (String, String) {
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find(|line| line.starts_with("holding ") || line.starts_with("refused "));
    let said = said.expect("an answer of the holder");
    let (word, rest) = said.split_once(' ').unwrap();
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
async fn the_second_start_finds_the_data_of_the_first() {
    let dir = open_dir();
    let options = Options { settings: vec![], ..options(dir.path()) };
    let began = Instant::now();
    let cluster = Cluster::start(&options).await.unwrap();
    println!("cold start {:?}", began.elapsed());
    execute(&cluster, "CREATE TABLE kept AS SELECT 7::int8 AS n").await;
    cluster.stop().await.unwrap();

    let began = Instant::now();
    let cluster = Cluster::start(&options).await.unwrap();
    println!("second start {:?}", began.elapsed());
    assert_eq!(number(&cluster, "SELECT n FROM kept").await, 7);
    let began = Instant::now();
    cluster.stop().await.unwrap();
    println!("stop {:?}", began.elapsed());
}

#[tokio::test]
async fn a_cluster_is_private_and_durable_unless_told_otherwise() {
    let dir = open_dir();
    let cluster = Cluster::start(&Options { settings: vec![], ..options(dir.path()) }).await.unwrap();
    assert!(cluster.version() >= 15);
    let tcp = "SELECT count(*) FROM pg_settings WHERE name = 'listen_addresses' AND setting <> ''";
    assert_eq!(number(&cluster, tcp).await, 0);
    assert_eq!(number(&cluster, "SELECT count(*) FROM pg_settings WHERE name = 'fsync' AND setting = 'on'").await, 1);
    assert_eq!(fs::metadata(socket_dir(&cluster)).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(cluster.data_dir().join("postgres")).unwrap().mode() & 0o777, 0o700);
    if Uid::effective().is_root() {
        assert_ne!(fs::metadata(cluster.data_dir().join("postgres")).unwrap().uid(), 0);
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_url_serves_other_programs() {
    let dir = open_dir();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    let psql = Command::new("psql").args(["-XAt", "-c", "SELECT current_database()", &cluster.url()]).output();
    if let Ok(psql) = psql {
        assert_eq!(String::from_utf8_lossy(&psql.stdout).trim(), "billing", "{psql:?}");
    }
    let parsed: sqlx::postgres::PgConnectOptions = cluster.url().parse().unwrap();
    parsed.connect().await.unwrap().close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_clean_stop_leaves_no_process_and_no_socket_directory() {
    let dir = open_dir();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    let (pid, socket) = (cluster.pid(), socket_dir(&cluster));
    assert!(alive(pid) && socket.is_dir());
    let _open_session = cluster.connect_options().connect().await.unwrap();
    cluster.stop().await.unwrap();
    assert!(!alive(pid));
    assert!(!socket.exists());
    assert!(!dir.path().join("data/postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn a_cluster_that_is_dropped_is_stopped_too() {
    let dir = open_dir();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    let (pid, socket) = (cluster.pid(), socket_dir(&cluster));
    drop(cluster);
    assert!(!alive(pid));
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_second_process_on_a_directory_is_told_who_the_first_is() {
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
fn of_two_that_start_at_once_on_a_fresh_directory_one_wins() {
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
    let _orphan = cluster.connect_options().connect().await.unwrap();
    send(cluster.pid(), Signal::SIGKILL);
    within(Duration::from_secs(5), "the end of the postmaster", || !alive(cluster.pid()));
    cluster.stop().await.unwrap();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    assert_eq!(number(&cluster, "SELECT n FROM kept").await, 8);
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
    // the watcher of the first is done by now, and has let the second be
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(number(&cluster, "SELECT 1::int8").await, 1);
    cluster.stop().await.unwrap();
}

#[test]
fn a_postmaster_whose_owner_is_killed_ends_by_itself() {
    let dir = open_dir();
    let long = dir.path().join("d".repeat(100)); // the socket is in the temp dir, where nobody else would clean up
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
        send(watcher, Signal::SIGKILL); // so that nobody but the next start cares for the server
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
async fn a_stale_pid_file_that_names_a_living_stranger_does_not_stop_a_start() {
    let dir = open_dir();
    Cluster::start(&options(dir.path())).await.unwrap().stop().await.unwrap();
    let cluster = dir.path().join("data/postgres");
    let stale = format!("{}\n{}\n1700000000\n5432\n/gone\n\n  1 2\nready\n", std::process::id(), cluster.display());
    fs::write(cluster.join("postmaster.pid"), stale).unwrap();
    fs::write(dir.path().join("data/lock"), "1\n").unwrap();
    Cluster::start(&options(dir.path())).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn an_initdb_that_was_killed_half_way_is_done_again() {
    let dir = open_dir();
    fs::create_dir_all(dir.path().join("data/postgres.new/base")).unwrap();
    fs::set_permissions(dir.path().join("data"), Permissions::from_mode(0o711)).unwrap();
    fs::write(dir.path().join("data/postgres.new/PG_VERSION"), "9\n").unwrap();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    assert!(!dir.path().join("data/postgres.new").exists());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_very_long_or_odd_data_directory_gets_a_short_socket() {
    let dir = open_dir();
    let long = dir.path().join("a b,c'd").join("d".repeat(120));
    let cluster = Cluster::start(&options(&long)).await.unwrap();
    assert!(cluster.data_dir().starts_with(fs::canonicalize(dir.path()).unwrap()));
    let socket = socket_dir(&cluster);
    assert!(socket.join(".s.PGSQL.5432").as_os_str().len() <= 107);
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
    assert_eq!(number(&cluster, "SELECT 1::int8").await, 1);
    cluster.stop().await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_server_that_does_not_start_shows_its_log_and_the_mend() {
    let dir = open_dir();
    let mut wrong = options(dir.path());
    wrong.settings.push(("shared_buffers".to_owned(), "nonsense".to_owned()));
    let text = refusal(Cluster::start(&wrong).await);
    for part in ["shared_buffers", "nonsense", "postgres.log", "BILLING_SYNC_DATA_DIR"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    Cluster::start(&options(dir.path())).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_of_a_version_that_is_not_here_says_so() {
    let dir = open_dir();
    Cluster::start(&options(dir.path())).await.unwrap().stop().await.unwrap();
    fs::write(dir.path().join("data/postgres/PG_VERSION"), "99\n").unwrap();
    let text = refusal(Cluster::start(&options(dir.path())).await);
    assert!(text.contains("made by PostgreSQL 99") && text.contains("postgresql-99"), "{text}");
}

/// As root only: anybody else's data directory is closed to them or it is not.
#[tokio::test]
async fn root_in_a_closed_directory_takes_another_and_keeps_to_it() {
    if !Uid::effective().is_root() {
        return;
    }
    let closed = dir_with_mode(0o700); // like /root
    let cluster = Cluster::start(&options(closed.path())).await.unwrap();
    let used = cluster.data_dir().to_owned();
    assert!(!used.starts_with(closed.path()), "{}", used.display());
    assert!(!closed.path().join("data").exists());
    execute(&cluster, "CREATE TABLE kept AS SELECT 9::int8 AS n").await;
    cluster.stop().await.unwrap();

    // also once the way is free: data is not left behind
    fs::set_permissions(closed.path(), Permissions::from_mode(0o711)).unwrap();
    let cluster = Cluster::start(&options(closed.path())).await.unwrap();
    assert_eq!(cluster.data_dir(), used);
    assert_eq!(number(&cluster, "SELECT n FROM kept").await, 9);
    cluster.stop().await.unwrap();
    fs::remove_dir_all(&used).unwrap();
    let _ = fs::remove_dir(used.parent().unwrap()); // if ours was the only one
}

#[tokio::test]
async fn a_cluster_behind_a_door_that_has_been_closed_is_not_replaced_by_an_empty_one() {
    if !Uid::effective().is_root() {
        return;
    }
    let dir = open_dir();
    Cluster::start(&options(dir.path())).await.unwrap().stop().await.unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    let text = refusal(Cluster::start(&options(dir.path())).await);
    assert!(text.contains(&format!("chmod o+x {}", fs::canonicalize(dir.path()).unwrap().display())), "{text}");
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own() {
    let (one, two) = tokio::join!(cluster::database(), cluster::database());
    assert_ne!(one.name, two.name);
    assert!(one.url.contains(&one.name), "{}", one.url);
    let mut connection = one.options.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE mine ()").execute(&mut connection).await.unwrap();
    let mut other = two.options.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE mine ()").execute(&mut other).await.unwrap();
    let gone = one.options.clone();
    drop(one);
    gone.connect().await.unwrap_err();
}
