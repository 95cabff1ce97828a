//! The embedded PostgreSQL with real servers: start and stop, privacy, and data directories.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use billing_sync::database::Connection;
use billing_sync::embedded::{Cluster, EmbeddedError, Options};
use nix::unistd::Uid;
use sqlx::ConnectOptions;
use tempfile::TempDir;

use crate::support::cluster::{self, options};

mod crash;

/// A temporary directory that the server's user may enter, like an ordinary clone.
fn open_dir() -> TempDir {
    dir_with_mode(0o711)
}

fn dir_with_mode(mode: u32) -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempdir().unwrap()
}

async fn execute(cluster: &Cluster, statement: &'static str) {
    let mut connection = Connection::from(cluster.connect_options().connect().await.unwrap());
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn number(cluster: &Cluster, query: &'static str) -> i64 {
    let mut connection = Connection::from(cluster.connect_options().connect().await.unwrap());
    sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
}

fn socket_dir(cluster: &Cluster) -> PathBuf {
    cluster.connect_options().get_socket().unwrap().clone()
}

/// Whether the process runs. A zombie has ended, although its parent has not waited for it yet.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

fn refusal(result: Result<Cluster, EmbeddedError>) -> String {
    result.expect_err("a refusal").to_string()
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
async fn a_cluster_is_private_and_durable_by_default() {
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
    Connection::from(parsed.connect().await.unwrap()).close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_clean_stop_leaves_no_process_and_no_socket_directory() {
    let dir = open_dir();
    let cluster = Cluster::start(&options(dir.path())).await.unwrap();
    let (pid, socket) = (cluster.pid(), socket_dir(&cluster));
    assert!(alive(pid) && socket.is_dir());
    let _open_session = Connection::from(cluster.connect_options().connect().await.unwrap());
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
async fn a_server_that_does_not_start_shows_its_log_and_the_fix() {
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
async fn a_cluster_of_a_missing_postgres_version_is_refused() {
    let dir = open_dir();
    Cluster::start(&options(dir.path())).await.unwrap().stop().await.unwrap();
    fs::write(dir.path().join("data/postgres/PG_VERSION"), "99\n").unwrap();
    let text = refusal(Cluster::start(&options(dir.path())).await);
    assert!(text.contains("made by PostgreSQL 99") && text.contains("postgresql-99"), "{text}");
}

/// Runs as root only: only root starts the server as another user.
#[tokio::test]
async fn root_in_a_closed_directory_uses_another_and_stays_there() {
    if !Uid::effective().is_root() {
        return;
    }
    let closed = dir_with_mode(0o700); // as `/root` has
    let cluster = Cluster::start(&options(closed.path())).await.unwrap();
    let used = cluster.data_dir().to_owned();
    assert!(!used.starts_with(closed.path()), "{}", used.display());
    assert!(!closed.path().join("data").exists());
    execute(&cluster, "CREATE TABLE kept AS SELECT 9::int8 AS n").await;
    cluster.stop().await.unwrap();

    // also after the directory is opened, because the data is in the other one
    fs::set_permissions(closed.path(), Permissions::from_mode(0o711)).unwrap();
    let cluster = Cluster::start(&options(closed.path())).await.unwrap();
    assert_eq!(cluster.data_dir(), used);
    assert_eq!(number(&cluster, "SELECT n FROM kept").await, 9);
    cluster.stop().await.unwrap();
    fs::remove_dir_all(&used).unwrap();
    let _ = fs::remove_dir(used.parent().unwrap()); // if it is empty
}

#[tokio::test]
async fn an_inaccessible_cluster_is_not_replaced_by_an_empty_one() {
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
    let mut connection = Connection::from(one.options.connect().await.unwrap());
    sqlx::raw_sql("CREATE TABLE mine ()").execute(&mut connection).await.unwrap();
    let mut other = Connection::from(two.options.connect().await.unwrap());
    sqlx::raw_sql("CREATE TABLE mine ()").execute(&mut other).await.unwrap();
    let gone = one.options.clone();
    drop(one);
    gone.connect().await.unwrap_err();
}

/// Runs as root only: other users cannot start the server as another user.
#[test]
fn root_refuses_a_directory_prepared_by_another_user() {
    if !Uid::effective().is_root() {
        return;
    }
    let dir = open_dir();
    let prepared = dir.path().join("prepared");
    fs::create_dir_all(prepared.join("postgres")).unwrap();
    for path in [&prepared, &prepared.join("postgres")] {
        std::os::unix::fs::chown(path, Some(65_533), None).unwrap();
    }
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    for (data_dir, expected) in [(prepared, "belongs to the user 65533"), (open.join("data"), "open can be written by")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_billing-sync"))
            .args(["serve", "--embedded"])
            .env_clear()
            .env("PATH", cluster::search_path())
            .env("BILLING_SYNC_DATA_DIR", &data_dir)
            .env("BILLING_SYNC_LISTEN", "127.0.0.1:0")
            .env("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0")
            .env("STRIPE_WEBHOOK_SECRET", "whsec_x")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("is not safe for root") && errors.contains(expected), "{errors}");
        assert!(!data_dir.join("postgres/PG_VERSION").exists());
    }
}
