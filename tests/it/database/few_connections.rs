//! Fewer connections than the parts may use: the receiver and the probes keep theirs, and the other parts take turns.

use std::process::Command;
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::Connection as _;
use tokio::time::sleep;

use super::harness::{deliver, execute, number, until, until_ready_is};
use crate::support::cluster::{self, TestDatabase};
use crate::support::process::Server;

const SHORT: &str = "database connections are running short; idle background connections are closed and parts take turns; \
                     raise the limit";

const ALL: &str = "receiver,worker,renewals,reconcile,maintenance";

/// A migrated database, and a login with a limited number of connections.
struct LimitedDatabase {
    database: TestDatabase,
    admin: Connection,
    login: String,
}

impl LimitedDatabase {
    async fn to(connections: u32) -> Self {
        let database = cluster::empty_database().await;
        let mut admin = Connection::from(sqlx::PgConnection::connect_with(&database.options).await.unwrap());
        let login = format!("few_{}", database.name);
        execute(&mut admin, &format!("CREATE ROLE {login} LOGIN PASSWORD 'x'")).await;
        execute(&mut admin, &format!("GRANT CREATE, CONNECT, TEMPORARY ON DATABASE {} TO {login}", database.name))
            .await;
        let mut limited = Self { database, admin, login };
        let migrated = limited.run("migrate");
        assert!(migrated.status.success(), "{migrated:?}");
        execute(&mut limited.admin, &format!("ALTER ROLE {} CONNECTION LIMIT {connections}", limited.login)).await;
        limited
    }

    fn url(&self) -> String {
        let options = &self.database.options;
        let host = options.get_socket().map_or(options.get_host().to_owned(), |path| path.display().to_string());
        let (port, name, login) = (options.get_port(), &self.database.name, &self.login);
        format!("host='{host}' port={port} dbname={name} user={login} password=x")
    }

    fn run(&self, command: &str) -> std::process::Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
        process.arg(command).env_clear().env("DATABASE_URL", self.url());
        process.env("STRIPE_WEBHOOK_SECRET", "whsec_of_the_test").output().unwrap()
    }

    /// Waits until this many events are stored and all are processed.
    async fn processed(&mut self, events: usize) {
        let done =
            format!("SELECT (count(*) FILTER (WHERE state = 'done') = {events})::int::bigint FROM billing.outbox");
        until(&mut self.admin, &done).await;
    }

    /// Ends the sessions of this login; those of other tests on the same server continue.
    async fn end_sessions(&mut self) {
        let end =
            format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'", self.login);
        number(&mut self.admin, &end).await;
    }

    /// Drops the role: it belongs to the server and would remain.
    async fn finish(mut self) {
        execute(&mut self.admin, &format!("DROP OWNED BY {} CASCADE", self.login)).await;
        execute(&mut self.admin, &format!("DROP ROLE {}", self.login)).await;
    }
}

/// Delivers events until one is stored. Returns the number of the next one.
async fn until_stored(server: &Server, first: usize) -> usize {
    let began = Instant::now();
    for number in first.. {
        if deliver(server, number, 0).await == 200 {
            return number + 1;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no delivery is stored");
    }
    unreachable!("the loop never ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_few_connections_every_delivery_is_stored_and_processed() {
    for connections in [4, 6, 8] {
        let mut limited = LimitedDatabase::to(connections).await;
        let server = Server::start_on(&limited.url(), ALL, &[]).await;
        until_ready_is(&server, 200).await;
        // takes longer than the first search for work of every part
        for number in 0..40 {
            assert_eq!(deliver(&server, number, 0).await, 200, "{connections} connections, delivery {number}");
            sleep(Duration::from_millis(150)).await;
        }
        limited.processed(40).await;
        assert_eq!(server.ask("/readyz").await.status, 200, "{connections} connections");
        server.kill().await;
        limited.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_connections_are_enough_to_store_and_to_be_ready() {
    let limited = LimitedDatabase::to(2).await;
    let server = Server::start_on(&limited.url(), ALL, &[]).await;
    until_ready_is(&server, 200).await;
    // without a pause, so that an event arrives while the previous notification is sent
    for number in 0..200 {
        assert_eq!(deliver(&server, number, 0).await, 200, "delivery {number}");
    }
    until_ready_is(&server, 200).await;
    server.kill().await;
    limited.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_connection_events_are_stored_but_it_is_not_ready() {
    let mut limited = LimitedDatabase::to(3).await;
    let server = Server::start_on(&limited.url(), ALL, &[]).await;
    until_ready_is(&server, 200).await;
    // one of the existing connections may be opened again
    execute(&mut limited.admin, &format!("ALTER ROLE {} CONNECTION LIMIT 1", limited.login)).await;
    limited.end_sessions().await;
    let reason = until_ready_is(&server, 503).await;
    assert!(reason.contains("too many connections for role"), "{reason}");
    let next = until_stored(&server, 0).await;
    for number in next..next + 20 {
        assert_eq!(deliver(&server, number, 0).await, 200, "delivery {number}");
        sleep(Duration::from_millis(150)).await;
    }
    server.kill().await;
    limited.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_gets_connections_beside_a_busy_first_one() {
    let mut limited = LimitedDatabase::to(10).await;
    let first = Server::start_on(&limited.url(), ALL, &[]).await;
    until_ready_is(&first, 200).await;
    assert_eq!(deliver(&first, 0, 0).await, 200);
    limited.processed(1).await;
    // by then all of its parts have searched for work
    sleep(Duration::from_secs(6)).await;
    let second = Server::start_on(&limited.url(), ALL, &[]).await;
    let mut next = until_stored(&second, 100).await;
    until_ready_is(&second, 200).await;
    for server in [&first, &second].repeat(10) {
        assert_eq!(deliver(server, next, 0).await, 200);
        next += 1;
    }
    assert_eq!(first.ask("/readyz").await.status, 200);
    let stored = number(&mut limited.admin, "SELECT count(*) FROM billing.outbox").await;
    limited.processed(usize::try_from(stored).unwrap()).await;
    first.kill().await;
    second.kill().await;
    limited.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_recovers_and_reports_after_others_took_every_connection() {
    let mut limited = LimitedDatabase::to(6).await;
    let mut server = Server::start_on(&limited.url(), ALL, &[]).await;
    until_ready_is(&server, 200).await;
    assert_eq!(deliver(&server, 0, 0).await, 200);
    let line = server.log_line(SHORT).await;
    assert_eq!((line["allowed"].as_i64(), line["wanted"].as_i64()), (Some(6), Some(15)), "{line}");
    // all sessions of the process end, and other sessions take the connections
    execute(&mut limited.admin, &format!("ALTER ROLE {} CONNECTION LIMIT 0", limited.login)).await;
    limited.end_sessions().await;
    let reason = until_ready_is(&server, 503).await;
    assert!(reason.contains("too many connections for role"), "{reason}");
    assert_eq!(deliver(&server, 1, 0).await, 503);
    execute(&mut limited.admin, &format!("ALTER ROLE {} CONNECTION LIMIT 6", limited.login)).await;
    let next = until_stored(&server, 2).await;
    until_ready_is(&server, 200).await;
    for number in next..next + 20 {
        assert_eq!(deliver(&server, number, 0).await, 200);
    }
    server.kill().await;
    limited.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_and_doctor_report_wanted_and_allowed_connections() {
    let limited = LimitedDatabase::to(8).await;
    let server = Server::start_on(&limited.url(), "receiver,worker,renewals,maintenance", &[]).await;
    until_ready_is(&server, 200).await;
    // receiver 2, worker 2 and 1 that listens, renewals 2 and 1 that retries, maintenance 1, ops 2, and 2 spare
    let doctor = limited.run("doctor");
    let report = String::from_utf8_lossy(&doctor.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let limit = format!("CONNECTION LIMIT of the role {}", limited.login);
    assert!(
        report.contains(&format!("warn connections the {limit} allows 8")) && report.contains("up to 15"),
        "{report}"
    );
    server.signal(Signal::SIGKILL);
    let log = server.rest_of_the_log().await;
    let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    let message = "the database allows fewer connections than this process may use; its parts take turns";
    let line = lines.find(|line| line["message"] == message).expect(&log);
    assert_eq!((line["wanted"].as_i64(), line["allowed"].as_i64()), (Some(15), Some(8)), "{line}");
    assert_eq!(line["limit"].as_str(), Some(limit.as_str()));
    limited.finish().await;
}
