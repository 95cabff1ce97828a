//! The operator's commands through the real binary: what they print, what they change, how they exit.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sqlx::{ConnectOptions, PgConnection};

use crate::support::cluster::{self, Database};

/// The binary with nothing of our environment but what the test gives it.
fn binary(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    binary(arguments, environment).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Standard output, or error, with its line breaks taken as blanks.
fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn migrated() -> (Database, PgConnection) {
    let database = cluster::database().await;
    let mut conn = database.options.connect().await.unwrap();
    billing_sync::migrations::run(&mut conn).await.unwrap();
    (database, conn)
}

/// Stores one event in the given state, which has failed three times unless it is done.
async fn store(conn: &mut PgConnection, event_id: &str, state: &str) {
    let sql = "INSERT INTO billing.outbox (event_id, created, type, format, state, outcome, alone, attempts, \
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

async fn column(conn: &mut PgConnection, event_id: &str, expression: &'static str) -> Option<String> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT ({expression})::text FROM billing.outbox WHERE event_id = $1"));
    sqlx::query_scalar(sql).bind(event_id).fetch_one(conn).await.unwrap()
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    assert_eq!(code(&run(&["frobnicate"], &[])), 2);
}

#[test]
fn help_names_the_variable_the_default_and_the_secrets() {
    let help = words(&run(&["serve", "--help"], &[]).stdout);
    for part in ["--workers <N>", "[env: BILLING_SYNC_WORKERS] [default: 1]", "STRIPE_WEBHOOK_SECRET", "NAME_FILE"] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn every_wrong_setting_is_reported_at_once_and_no_secret_is_shown() {
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
    assert!(errors.contains("the nearest one is BILLING_SYNC_WORKERS"), "{errors}");
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
fn a_receiver_without_a_secret_refuses_and_names_where_to_find_one() {
    let output = run(&["serve"], &[("DATABASE_URL", "postgres://h/d")]);
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 2);
    assert!(errors.contains("Developers > Webhooks") && errors.contains("`stripe listen`"), "{errors}");
}

#[test]
fn an_unreachable_database_is_a_failure_that_shows_no_password() {
    for command in [&["migrate"][..], &["doctor"], &["outbox", "list"]] {
        let output = run(command, &[("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d")]);
        let said = words(&output.stdout) + &words(&output.stderr);
        assert_eq!(code(&output), 1, "{command:?}");
        assert!(said.contains("cannot reach the database at 127.0.0.1:1, database d, user u"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn migrate_says_what_it_did_and_then_that_nothing_is_to_do() {
    let database = cluster::database().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let first = run(&["migrate"], &environment);
    assert_eq!(code(&first), 0);
    assert!(words(&first.stdout).starts_with("applied 0001 schema applied 0002 events"));
    let second = run(&["migrate"], &environment);
    assert_eq!(code(&second), 0);
    assert!(words(&second.stdout).starts_with("nothing to do: all"));
}

#[tokio::test]
async fn every_table_and_column_of_the_migrated_schema_has_a_comment() {
    let (_database, mut conn) = migrated().await;
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || coalesce('.' || a.attname, '') FROM pg_class c \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT c.relispartition \
         WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p') \
         AND (obj_description(c.oid, 'pg_class') IS NULL \
              OR a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL)",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert!(bare.is_empty(), "{bare:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_release_or_with_changed_migrations_is_left_alone() {
    let (database, mut conn) = migrated().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    sqlx::query("INSERT INTO billing.schema_migrations VALUES (9999, 'later', now(), true, '', 0)")
        .execute(&mut conn)
        .await
        .unwrap();
    let newer = run(&["migrate"], &environment);
    assert_eq!(code(&newer), 1);
    assert!(words(&newer.stderr).contains("(9999)"), "{}", words(&newer.stderr));
    sqlx::query("UPDATE billing.schema_migrations SET checksum = '' WHERE version = 1")
        .execute(&mut conn)
        .await
        .unwrap();
    let changed = run(&["migrate"], &environment);
    assert_eq!(code(&changed), 1);
    assert!(words(&changed.stderr).contains("changed after they were applied (1)"), "{}", words(&changed.stderr));
}

#[tokio::test]
async fn processes_that_migrate_at_once_wait_for_each_other() {
    let database = cluster::database().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let start = || binary(&["migrate"], &environment).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    for process in [start(), start(), start()] {
        let output = process.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    }
}

#[tokio::test]
async fn doctor_fails_before_migrating_and_passes_after() {
    let database = cluster::database().await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_hunter2,whsec_b")];
    let before = run(&["doctor"], &environment);
    assert_eq!(code(&before), 1);
    assert!(words(&before.stdout).contains("mend: run `billing-sync migrate`"), "{}", words(&before.stdout));
    assert_eq!(code(&run(&["migrate"], &environment)), 0);
    let after = run(&["doctor"], &environment);
    let report = String::from_utf8(after.stdout.clone()).unwrap();
    assert_eq!(code(&after), 0, "{report}");
    assert!(report.contains("set (2 entries)") && !report.contains("hunter2"), "{report}");
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
}

#[tokio::test]
async fn doctor_reports_wrong_settings_instead_of_refusing() {
    let (database, _conn) = migrated().await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("BILLING_SYNC_WORKERS", "0")];
    let output = run(&["doctor", "--json"], &environment);
    assert_eq!(code(&output), 1);
    let lines: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let failed = |line: &&Value| line["check"] == "settings" && line["status"] == "failed";
    assert_eq!(lines.iter().filter(failed).count(), 2, "{lines:?}");
}

#[tokio::test]
async fn doctor_warns_of_dead_events() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_1", "dead").await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_x")];
    let output = run(&["doctor"], &environment);
    assert_eq!(code(&output), 0);
    assert!(words(&output.stdout).contains("0 pending, 1 dead, 0 done warn outbox"), "{}", words(&output.stdout));
}

#[tokio::test]
async fn an_empty_outbox_says_so() {
    let (database, _conn) = migrated().await;
    let output = run(&["outbox", "list", "--state", "dead"], &[("DATABASE_URL", &database.url)]);
    assert_eq!((code(&output), words(&output.stdout).as_str()), (0, "There are no dead events in the outbox."));
}

#[tokio::test]
async fn a_database_without_the_schema_is_named_with_the_mend() {
    let database = cluster::database().await;
    let output = run(&["outbox", "list"], &[("DATABASE_URL", &database.url)]);
    assert_eq!(code(&output), 1);
    assert!(words(&output.stderr).contains("run `billing-sync migrate`"), "{}", words(&output.stderr));
}

#[tokio::test]
async fn list_shows_the_states_asked_for() {
    let (database, mut conn) = migrated().await;
    for (event_id, state) in [("evt_p", "pending"), ("evt_x", "dead"), ("evt_d", "done")] {
        store(&mut conn, event_id, state).await;
    }
    let environment = [("DATABASE_URL", database.url.as_str())];
    let all = words(&run(&["outbox", "list"], &environment).stdout);
    assert!(all.contains("evt_p") && all.contains("evt_x") && all.contains("evt_d"), "{all}");
    let output = run(&["outbox", "list", "--state", "dead", "--json"], &environment);
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&row["event_id"], &row["attempts"], &row["last_error"]),
        (&"evt_x".into(), &3.into(), &"a cause".into())
    );
}

#[tokio::test]
async fn show_explains_and_gives_the_payload_only_on_demand_and_without_secrets() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_x", "dead").await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let plain = words(&run(&["outbox", "show", "evt_x"], &environment).stdout);
    assert!(plain.contains("last_error a cause") && plain.contains("billing-sync outbox retry evt_x"), "{plain}");
    assert!(!plain.contains("client_secret"), "{plain}");
    let payload = words(&run(&["outbox", "show", "evt_x", "--payload"], &environment).stdout);
    assert!(payload.contains(r#""client_secret": "[redacted]""#) && !payload.contains("hunter2"), "{payload}");
    assert_eq!(code(&run(&["outbox", "show", "evt_none"], &environment)), 1);
}

#[tokio::test]
async fn retry_gives_a_dead_event_all_its_attempts_back_and_keeps_its_error() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_x", "dead").await;
    let output = run(&["outbox", "retry", "evt_x"], &[("DATABASE_URL", &database.url)]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    let row = "state || ' ' || attempts || ' ' || alone || ' ' || last_error || ' ' || (finished_at IS NULL) || ' ' || \
               (run_at <= clock_timestamp())";
    assert_eq!(column(&mut conn, "evt_x", row).await.as_deref(), Some("pending 0 true a cause true true"));
}

#[tokio::test]
async fn what_is_not_dead_is_refused_and_the_dead_ones_are_still_decided_on() {
    let (database, mut conn) = migrated().await;
    for (event_id, state) in [("evt_p", "pending"), ("evt_x", "dead"), ("evt_y", "dead"), ("evt_d", "done")] {
        store(&mut conn, event_id, state).await;
    }
    let environment = [("DATABASE_URL", database.url.as_str())];
    let retry = run(&["outbox", "retry", "evt_x", "evt_d", "evt_none"], &environment);
    assert_eq!(code(&retry), 1);
    let errors = words(&retry.stderr);
    assert!(errors.contains("evt_d is done, not dead") && errors.contains("evt_none is not in the outbox"), "{errors}");
    assert_eq!(column(&mut conn, "evt_x", "state").await.as_deref(), Some("pending"));
    let discard = run(&["outbox", "discard", "evt_y", "evt_p"], &environment);
    assert_eq!(code(&discard), 1);
    assert_eq!(column(&mut conn, "evt_p", "state || attempts").await.as_deref(), Some("pending3"));
    let row = "state || ' ' || outcome || ' ' || reason";
    assert_eq!(column(&mut conn, "evt_y", row).await.as_deref(), Some("done ignored discarded"));
}

#[tokio::test]
async fn retry_of_all_dead_events_leaves_the_others_alone() {
    let (database, mut conn) = migrated().await;
    for (event_id, state) in [("evt_p", "pending"), ("evt_x", "dead"), ("evt_y", "dead"), ("evt_d", "done")] {
        store(&mut conn, event_id, state).await;
    }
    let environment = [("DATABASE_URL", database.url.as_str())];
    let output = run(&["outbox", "retry", "--all-dead"], &environment);
    assert_eq!((code(&output), words(&output.stdout).as_str()), (0, "2 dead events are pending again."));
    assert_eq!(column(&mut conn, "evt_p", "attempts").await.as_deref(), Some("3"));
    assert_eq!(column(&mut conn, "evt_d", "state").await.as_deref(), Some("done"));
    assert_eq!(code(&run(&["outbox", "retry"], &environment)), 2);
}

#[test]
fn health_of_nobody_is_a_failure_that_names_the_setting() {
    let output = run(&["health"], &[("BILLING_SYNC_OPS_LISTEN", "0.0.0.0:1")]);
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 1);
    assert!(errors.contains("127.0.0.1:1") && errors.contains("BILLING_SYNC_OPS_LISTEN"), "{errors}");
}

/// An endpoint that answers every request alike and hands back what it was sent.
fn endpoint(answer: &'static str, requests: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/webhooks/stripe", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 65_536];
            let mut request = Vec::new();
            while !String::from_utf8_lossy(&request).ends_with("}") {
                let read = std::io::Read::read(&mut stream, &mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            seen.push(String::from_utf8(request).unwrap());
        }
        seen
    });
    (url, thread)
}

#[test]
fn send_signs_with_the_first_secret_and_prints_the_answer() {
    let (url, thread) = endpoint("HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nstored", 2);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(br#"{"id":"evt_1"}"#).unwrap();
    let path = file.path().to_str().unwrap();
    let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_a,whsec_b")];
    let output = run(&["send", path, "--to", &url, "--repeat", "2"], &environment);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    assert_eq!(words(&output.stdout), format!("200 {path} (2 times): stored"));
    let request = thread.join().unwrap().remove(0);
    let header = request.lines().find_map(|line| line.strip_prefix("stripe-signature: ")).unwrap();
    let timestamp = header.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
    let secret = billing_sync::receiver::signature::WebhookSecret::new("whsec_a").unwrap();
    let expected = billing_sync::receiver::signature::sign(&secret, timestamp, br#"{"id":"evt_1"}"#);
    assert_eq!(header, expected);
}

#[test]
fn send_fails_where_an_answer_is_not_2xx() {
    let (url, thread) = endpoint("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 1);
    let mut process = binary(&["send", "-", "--to", &url], &[("STRIPE_WEBHOOK_SECRET", "whsec_a")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(b"{}").unwrap();
    let output = process.wait_with_output().unwrap();
    thread.join().unwrap();
    assert_eq!(code(&output), 1);
    assert!(words(&output.stdout).starts_with("404 -"), "{}", words(&output.stdout));
    assert!(words(&output.stderr).contains("/webhooks/stripe"), "{}", words(&output.stderr));
}

#[test]
fn send_without_a_secret_or_with_an_odd_url_is_refused() {
    assert_eq!(code(&run(&["send", "x.json", "--to", "http://h/"], &[])), 2);
    assert_eq!(code(&run(&["send", "x.json", "--to", "h:80"], &[("STRIPE_WEBHOOK_SECRET", "whsec_a")])), 2);
}
