//! `status`, the first command at night, through the real binary.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::outbox::size;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{binary, code, migrated, run, store, words};
use crate::support::cluster::{self, TestDatabase};
use crate::support::process::Server;

const ALL_ROLES: &str = "receiver,worker,renewals,reconcile,maintenance";

async fn execute(conn: &mut Connection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

/// The figures, by `--json`.
fn figures(url: &str) -> Value {
    let output = run(&["status", "--json"], &[("DATABASE_URL", url)]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The screen; every line fits.
fn screen(url: &str) -> String {
    let output = run(&["status"], &[("DATABASE_URL", url)]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() <= 30, "{text}");
    text
}

fn kinds(figures: &Value) -> Vec<&str> {
    figures["problems"].as_array().unwrap().iter().map(|problem| problem["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_empty_database_has_no_process_and_nothing_known() {
    let (database, _conn) = migrated().await;
    let text = screen(&database.url);
    assert!(text.starts_with("1 thing needs attention:\n! no process of `serve` is connected"), "{text}");
    for part in [
        "events     0/min arrived, 0/min finished in the last 5 min; none ever",
        "delay      unknown: no event was done in the last 5 min",
        "queue      0 events pending; 0 dead",
        "watermark  unknown: no event was ever compared",
        "drift      unknown: no sample of rows",
        "30 days    ?????????????????????????????? today is the last",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = figures(&database.url);
    assert_eq!((found["verdict"].as_str(), kinds(&found)), (Some("attention"), vec!["no_process"]));
    for unknown in [
        &found["events"]["delay_p99_seconds"],
        &found["events"]["last_finished_age_seconds"],
        &found["queue"]["oldest_pending_age_seconds"],
        &found["limits"]["oldest_due_age_seconds"],
        &found["reconcile"]["watermark_age_seconds"],
        &found["drift"],
        &found["size"]["growth_bytes_per_day"],
    ] {
        assert!(unknown.is_null(), "{found}");
    }
    assert_eq!(found["events"]["arrived"], 0);
    let check = run(&["status", "--check"], &[("DATABASE_URL", &database.url)]);
    assert_eq!(code(&check), 1);
}

#[tokio::test]
async fn a_database_without_our_schema_is_refused_with_the_fix() {
    let database = cluster::empty_database().await;
    for arguments in [&["status"][..], &["status", "--watch"], &["tail"]] {
        let output = run(arguments, &[("DATABASE_URL", &database.url)]);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(words(&output.stderr).contains("run `billing-sync migrate`"), "{}", words(&output.stderr));
    }
}

#[tokio::test]
async fn running_processes_and_their_roles_are_found() {
    let (database, mut conn) = migrated().await;
    let first = Server::start(&database, "receiver,worker", &[]).await;
    let second = Server::start(&database, "renewals,reconcile,maintenance", &[]).await;
    // the maintenance connects a moment later, and measures the size
    let measured = "SELECT EXISTS (SELECT FROM billing.size_days)";
    while !sqlx::query_scalar::<_, bool>(measured).fetch_one(&mut conn).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let found = figures(&database.url);
    let mut roles: Vec<Value> =
        found["processes"].as_array().unwrap().iter().map(|process| process["roles"].clone()).collect();
    roles.sort_by_key(ToString::to_string);
    assert_eq!(roles, [json!(["receiver", "worker"]), json!(["renewals", "reconcile", "maintenance"])], "{found}");
    assert!(found["processes"].as_array().unwrap().iter().all(|one| one["connections"].as_i64() > Some(0)), "{found}");
    let text = screen(&database.url);
    assert!(text.starts_with("All is well.\n"), "{text}");
    assert_eq!(code(&run(&["status", "--check"], &[("DATABASE_URL", &database.url)])), 0);
    first.kill().await;
    // the server notices the closed sockets
    let began = Instant::now();
    while kinds(&figures(&database.url)) != ["no_role", "no_role"] {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", figures(&database.url));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    second.kill().await;
}

#[tokio::test]
async fn sessions_with_a_chosen_name_are_unknown_processes() {
    let (database, _conn) = migrated().await;
    let separator = if database.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}application_name=mine", database.url);
    let server = Server::start_on(&url, ALL_ROLES, &[]).await;
    let found = figures(&url);
    assert!(found["processes"].is_null(), "{found}");
    assert_eq!(kinds(&found), ["unknown"], "{found}");
    server.kill().await;
}

#[tokio::test]
async fn rates_and_delays_are_those_of_the_last_minutes() {
    let (database, mut conn) = migrated().await;
    for (event_id, state) in
        [("evt_1", "done"), ("evt_2", "done"), ("evt_3", "dead"), ("evt_4", "pending"), ("evt_5", "done")]
    {
        store(&mut conn, event_id, state).await;
    }
    execute(
        &mut conn,
        "UPDATE billing.outbox SET received_at = finished_at - interval '2 s' WHERE event_id = 'evt_1';
        UPDATE billing.outbox SET received_at = finished_at - interval '4 s' WHERE event_id = 'evt_2';
        UPDATE billing.outbox SET received_at = received_at - interval '1 h', finished_at = finished_at - interval '1 h'
        WHERE event_id = 'evt_5'",
    )
    .await;
    let events = &figures(&database.url)["events"];
    assert_eq!((&events["arrived"], &events["finished"]), (&json!(4), &json!(3)), "{events}");
    assert_eq!(events["delay_p50_seconds"], 3.0, "{events}");
    assert!((3.9..=4.0).contains(&events["delay_p99_seconds"].as_f64().unwrap()), "{events}");
    let found = figures(&database.url);
    assert_eq!(kinds(&found), ["no_process", "dead"], "{found}");
    assert_eq!(found["queue"]["pending"], 1);
}

#[tokio::test]
async fn a_locked_table_is_unknown_and_not_waited_for() {
    let (database, mut conn) = migrated().await;
    let mut transaction = conn.begin().await.unwrap();
    execute(&mut transaction, "LOCK TABLE billing.jobs IN ACCESS EXCLUSIVE MODE").await;
    let began = Instant::now();
    let found = figures(&database.url);
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(found["jobs"].is_null() && found["queue"]["pending"] == 0, "{found}");
    assert!(screen(&database.url).contains("jobs       unknown: another session holds a lock on it"));
    transaction.rollback().await.unwrap();
}

/// A login that may only connect, and what it is granted.
async fn login(database: &TestDatabase, conn: &mut Connection, grant: &str) -> (String, String) {
    let name = format!("status_{}_{}", grant.len(), database.name);
    execute(
        conn,
        &format!("CREATE ROLE {name} LOGIN PASSWORD 'x'; ALTER ROLE {name} SET default_transaction_read_only = on"),
    )
    .await;
    if !grant.is_empty() {
        execute(conn, &format!("GRANT {grant} TO {name}")).await;
    }
    let options = &database.options;
    let host = options.get_socket().map_or(options.get_host().to_owned(), |path| path.display().to_string());
    let url = format!("host='{host}' port={} dbname={} user={name} password=x", options.get_port(), database.name);
    (url, name)
}

#[tokio::test]
async fn a_read_only_login_sees_what_it_may_read() {
    let (database, mut conn) = migrated().await;
    let (reader, name_of_reader) = login(&database, &mut conn, "pg_read_all_data").await;
    let (nothing, name_of_nothing) = login(&database, &mut conn, "").await;
    assert_eq!(kinds(&figures(&reader)), ["no_process"]);
    let found = figures(&nothing);
    assert!(found["queue"].is_null() && found["processes"].is_array(), "{found}");
    assert!(kinds(&found).contains(&"unknown"), "{found}");
    assert!(screen(&nothing).contains("queue      unknown: the role may not read it"));
    execute(&mut conn, &format!("DROP ROLE {name_of_reader}, {name_of_nothing}")).await;
}

#[tokio::test]
async fn the_growth_is_measured_over_days() {
    let (database, mut conn) = migrated().await;
    size::measure(&mut conn).await.unwrap();
    size::measure(&mut conn).await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM billing.size_days").fetch_one(&mut conn).await.unwrap();
    assert_eq!(count, 1);
    execute(
        &mut conn,
        "UPDATE billing.size_days SET day = day - 2, measured_at = measured_at - interval '2 days', bytes = 0;
        INSERT INTO billing.size_days (day, measured_at, bytes) VALUES ('2020-01-01', '2020-01-01', 1)",
    )
    .await;
    let found = figures(&database.url)["size"].clone();
    let (growth, bytes) = (found["growth_bytes_per_day"].as_f64().unwrap(), found["schema_bytes"].as_f64().unwrap());
    assert!((growth * 2.0 / bytes - 1.0).abs() < 0.01, "{found}");
    size::measure(&mut conn).await.unwrap();
    let oldest: i32 =
        sqlx::query_scalar("SELECT current_date - min(day) FROM billing.size_days").fetch_one(&mut conn).await.unwrap();
    assert!(oldest <= 40, "{oldest}");
}

#[test]
fn an_unreachable_database_is_a_failure_and_watched_until_a_signal() {
    let environment = [("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d")];
    for command in ["status", "tail"] {
        let output = run(&[command], &environment);
        let errors = words(&output.stderr);
        assert_eq!(code(&output), 1);
        assert!(errors.contains("cannot use the database at 127.0.0.1:1"), "{errors}");
        assert!(
            errors.contains("start the server, or correct host and port in DATABASE_URL")
                && !errors.contains("hunter2"),
            "{errors}"
        );
    }
    let mut child = binary(&["status", "--watch", "1", "--json"], &environment).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let (first, second) = (next(), next());
    assert_eq!((first["verdict"].as_str(), &first["since"]), (Some("unreachable"), &second["since"]));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_watch_prints_a_block_each_time_and_survives_a_lost_connection() {
    let (database, mut conn) = migrated().await;
    let mut child = binary(&["status", "--watch=1", "--json"], &[("DATABASE_URL", &database.url)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut verdicts = Vec::new();
    for round in 0..4 {
        let line = lines.next().unwrap().unwrap();
        verdicts.push(serde_json::from_str::<Value>(&line).unwrap()["verdict"].as_str().unwrap().to_owned());
        if round == 0 {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'billing-sync'";
            execute(&mut conn, end).await;
        }
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(verdicts, ["attention", "unreachable", "attention", "attention"]);
}
