//! Behind a real pgbouncer: session mode works, transaction mode works if it is declared ([`transaction`]), and what is
//! not declared is refused at the start.
//!
//! Needs pgbouncer; `make test-pooler` installs it and runs these.

mod transaction;

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use billing_sync::database::Connection;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::support::cluster::{self, TestDatabase};
use crate::support::process::Server;

/// A pgbouncer in front of a test's database. It refuses root, so root starts it as another user.
struct Pooler {
    url: String,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Pooler {
    async fn start(database: &TestDatabase, mode: &str, pool_size: u32) -> Self {
        Self::start_as(database.options.get_username(), database, mode, pool_size).await
    }

    /// Starts one whose sessions have this login.
    async fn start_as(user: &str, database: &TestDatabase, mode: &str, pool_size: u32) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let options = &database.options;
        let host = options.get_socket().map_or(options.get_host().to_owned(), |path| path.display().to_string());
        let file: PathBuf = folder.path().join("pgbouncer.ini");
        let name = &database.name;
        // only the required settings; all others are pgbouncer's defaults
        let settings = format!(
            "[databases]\n{name} = host={host} port={} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
             default_pool_size = {pool_size}\n",
            options.get_port()
        );
        std::fs::write(&file, settings).unwrap();
        let mut command = std::process::Command::new("pgbouncer");
        command.arg(&file).env("PATH", "/usr/sbin:/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin");
        if nix::unistd::Uid::effective().is_root() {
            let owner =
                ["postgres", "nobody"].iter().find_map(|name| nix::unistd::User::from_name(name).ok().flatten());
            let owner = owner.unwrap();
            std::os::unix::fs::chown(folder.path(), Some(owner.uid.as_raw()), None).unwrap();
            command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
        }
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().expect("pgbouncer is not installed: make test-pooler");
        let url = format!("postgres://{user}@127.0.0.1:{port}/{name}");
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Self { url, _child: child, _folder: folder };
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("pgbouncer does not start");
    }
}

async fn run(arguments: &[&str], url: &str) -> (Option<i32>, String) {
    run_with(arguments, url, &[]).await
}

async fn run_with(arguments: &[&str], url: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    command.args(arguments).env_clear().env("DATABASE_URL", url).env("STRIPE_WEBHOOK_SECRET", "whsec_x");
    command.env("BILLING_SYNC_LISTEN", "127.0.0.1:0").env("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0");
    command.envs(environment.iter().copied());
    let output = command.kill_on_drop(true).stdin(Stdio::null()).output().await.unwrap();
    let text = format!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[tokio::test]
#[ignore = "needs pgbouncer: make test-pooler"]
async fn session_mode_works_from_migration_to_processed_event() {
    let database = cluster::empty_database().await;
    let pooler = Pooler::start(&database, "session", 30).await;
    let (exit, text) = run(&["migrate"], &pooler.url).await;
    assert_eq!(exit, Some(0), "{text}");
    let (_, text) = run(&["doctor"], &pooler.url).await;
    assert!(!text.contains("pooler"), "{text}");
    let server = Server::start_at(&pooler.url, "receiver,worker,renewals,maintenance", &[]).await;
    let event = json!({ "id": "evt_1", "object": "event", "type": "customer.created", "created": 1_790_000_000,
        "livemode": false, "api_version": "2025-08-27.basil",
        "data": { "object": { "id": "cus_1", "object": "customer", "created": 1_790_000_000, "livemode": false } } });
    assert_eq!(server.deliver(&event).await, Some(200));
    let mut conn = Connection::from(sqlx::PgConnection::connect_with(&database.options).await.unwrap());
    let done = "SELECT count(*) FROM billing.outbox WHERE state = 'done'";
    for _ in 0..200 {
        if sqlx::query_scalar::<_, i64>(done).fetch_one(&mut conn).await.unwrap() == 1 {
            return server.kill().await;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the event is not processed");
}

#[tokio::test]
#[ignore = "needs pgbouncer: make test-pooler"]
async fn a_pooler_that_shares_sessions_is_refused_before_any_write() {
    for (mode, pool_size) in [("transaction", 1), ("transaction", 20), ("statement", 1), ("statement", 20)] {
        let database = cluster::empty_database().await;
        let pooler = Pooler::start(&database, mode, pool_size).await;
        for command in
            [&["migrate"][..], &["serve", "--migrate"], &["serve"], &["doctor", "--json"], &["outbox", "list"]]
        {
            let (exit, text) = run(command, &pooler.url).await;
            assert_eq!(exit, Some(1), "{mode} {pool_size} {command:?}: {text}");
            assert!(
                text.contains("a pooler in transaction or statement mode, which is not declared"),
                "{mode} {pool_size} {command:?}: {text}"
            );
            assert!(text.contains("pool_mode = session"), "{mode} {command:?}: {text}");
        }
        let mut conn = Connection::from(sqlx::PgConnection::connect_with(&database.options).await.unwrap());
        let exists: bool =
            sqlx::query_scalar("SELECT to_regnamespace('billing') IS NOT NULL").fetch_one(&mut conn).await.unwrap();
        assert!(!exists, "{mode}: the schema was created");
    }
}

#[tokio::test]
#[ignore = "needs pgbouncer: make test-pooler"]
async fn doctor_reports_the_pooler_with_its_fix() {
    let database = cluster::database().await;
    let pooler = Pooler::start(&database, "transaction", 20).await;
    let (_, text) = run(&["doctor", "--json"], &pooler.url).await;
    let line = text.split_inclusive('}').find(|line| line.contains("pooler")).unwrap().trim();
    let check: Value = serde_json::from_str(line).unwrap_or_default();
    assert!(check["fix"].as_str().is_some_and(|fix| fix.contains("session mode")), "{text}");
}
