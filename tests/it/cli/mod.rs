//! The operator's commands through the real binary: output, changes and exit codes.

mod backfill;
mod completions;
mod connection;
mod doctor;
mod doctor_disk;
mod doctor_endpoints;
mod doctor_fix;
mod errors;
mod explain;
mod migrate;
mod multiple_hosts;
mod orphans;
mod outbox;
mod privileges;
mod progress;
mod rebuild;
mod reconcile;
mod renew;
mod send;
mod serve;
mod status;
mod tail;
mod tls;
mod token;
mod writes;

use std::process::{Command, Output};

use billing_sync::database::Connection;
use serde_json::Value;
use sqlx::ConnectOptions;

use crate::support::cluster::{self, TestDatabase};

/// The binary with only the environment that the test sets.
pub(crate) fn binary(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command
}

pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    binary(arguments, environment).output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Standard output or error, with line breaks replaced by spaces.
pub(crate) fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The objects on standard output, one a line.
pub(crate) fn json_lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn migrated() -> (TestDatabase, Connection) {
    let database = cluster::database().await;
    let conn = Connection::from(database.options.connect().await.unwrap());
    (database, conn)
}

/// Stores an event in the given state. It has failed three times, unless it is done.
async fn store(conn: &mut Connection, event_id: &str, state: &str) {
    let sql = "INSERT INTO billing.outbox (event_id, created, type, format, state, outcome, isolated, attempts, \
               last_error, finished_at) \
               SELECT $1, date_trunc('second', clock_timestamp()), 'customer.subscription.updated', 'snapshot', $2, \
               CASE WHEN $2 = 'done' THEN 'applied' END, $2 <> 'done', CASE WHEN $2 <> 'done' THEN 3 ELSE 0 END, \
               CASE WHEN $2 <> 'done' THEN 'a cause' END, CASE WHEN $2 <> 'pending' THEN clock_timestamp() END";
    sqlx::query(sql).bind(event_id).bind(state).execute(&mut *conn).await.unwrap();
    let payload = format!(r#"{{"id":"{event_id}","data":{{"object":{{"client_secret":"pi_hunter2"}}}}}}"#);
    let sql = "INSERT INTO billing.events (event_id, created, payload) \
               SELECT event_id, created, $2 FROM billing.outbox WHERE event_id = $1";
    sqlx::query(sql).bind(event_id).bind(payload.into_bytes()).execute(conn).await.unwrap();
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    assert_eq!(code(&run(&["frobnicate"], &[])), 2);
}

#[test]
fn help_names_the_variable_the_default_and_the_secrets() {
    let help = words(&run(&["serve", "--help"], &[]).stdout);
    for part in ["--workers <N>", "[env: BILLING_SYNC_WORKERS] [default: 2]", "STRIPE_WEBHOOK_SECRET", "NAME_FILE"] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn all_wrong_settings_are_reported_at_once_without_secrets() {
    let environment = [
        ("BILLING_SYNC_WORKERS", "0"),
        ("BILLING_SYNC_WORKRES", "1"),
        ("STRIPE_WEBHOOK_SECRET", "sk_live_hunter2"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
    ];
    let output = run(&["serve", "--retry-max", "never"], &environment);
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 2);
    for part in ["BILLING_SYNC_WORKERS wrong", "--retry-max wrong", "STRIPE_WEBHOOK_SECRET wrong", "DATABASE_URL wrong"]
    {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(errors.contains("the most similar setting is BILLING_SYNC_WORKERS"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn serve_without_a_database_refuses_and_names_both_ways() {
    let output = run(&["serve"], &[("STRIPE_WEBHOOK_SECRET", "whsec_x")]);
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 2);
    assert!(errors.contains("DATABASE_URL") && errors.contains("--embedded"), "{errors}");
}

#[test]
fn serve_with_two_databases_refuses() {
    let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_x"), ("DATABASE_URL", "postgres://h/d")];
    assert_eq!(code(&run(&["serve", "--embedded"], &environment)), 2);
}

#[test]
fn serve_without_a_signing_secret_names_where_to_find_it() {
    let output = run(&["serve"], &[("DATABASE_URL", "postgres://h/d")]);
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 2);
    assert!(errors.contains("Developers > Webhooks") && errors.contains("`stripe listen`"), "{errors}");
}

#[test]
fn an_unreachable_database_is_a_failure_that_shows_no_password() {
    let environment = [
        ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
        ("BILLING_SYNC_LISTEN", "127.0.0.1:0"),
        ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0"),
    ];
    for command in [&["migrate"][..], &["doctor"], &["outbox", "list"], &["serve"]] {
        let output = run(command, &environment);
        let text = words(&output.stdout) + &words(&output.stderr);
        assert_eq!(code(&output), 1, "{command:?}");
        assert!(text.contains("cannot use the database at 127.0.0.1:1, database d, user u"), "{text}");
        assert_eq!(text.matches("start the server, or correct host and port in DATABASE_URL").count(), 1, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn health_without_a_server_is_a_failure_naming_the_setting() {
    let output = run(&["health"], &[("BILLING_SYNC_OPS_LISTEN", "0.0.0.0:1")]);
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 1);
    assert!(
        errors.contains("127.0.0.1:1/readyz could not be reached (Connection refused (os error 111)); check"),
        "{errors}"
    );
    assert!(errors.ends_with("with this BILLING_SYNC_OPS_LISTEN"), "{errors}");
}
