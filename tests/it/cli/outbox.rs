//! `outbox`: the listed events, what of a payload is shown, and the effects of `retry` and `discard`.

use std::process::{Output, Stdio};
use std::time::Duration;

use billing_sync::database::Connection;
use billing_sync::outbox::admin::{self, Filter};
use billing_sync::outbox::wake::CHANNEL;
use serde_json::{Value, json};
use sqlx::postgres::PgListener;

use super::progress::Terminal;
use super::{binary, code, json_lines, migrated, run, store, words};
use crate::support::cluster::TestDatabase;

async fn column(conn: &mut Connection, event_id: &str, expression: &'static str) -> Option<String> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT ({expression})::text FROM billing.outbox WHERE event_id = $1"));
    sqlx::query_scalar(sql).bind(event_id).fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn an_empty_outbox_is_reported() {
    let (database, _conn) = migrated().await;
    let output = run(&["outbox", "list", "--state", "dead"], &[("DATABASE_URL", &database.url)]);
    assert_eq!((code(&output), words(&output.stdout).as_str()), (0, "There are no dead events in the outbox."));
}

#[tokio::test]
async fn list_shows_the_requested_states() {
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
async fn a_name_cannot_change_how_the_terminal_shows_the_columns() {
    let (database, mut conn) = migrated().await;
    let hostile = "evt_\u{202E}daed\u{2066}\u{200F}";
    store(&mut conn, hostile, "dead").await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let shown = run(&["outbox", "list"], &environment).stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("evt_\u{FFFD}daed\u{FFFD}\u{FFFD}"), "{shown}");
    let json = String::from_utf8(run(&["outbox", "list", "--json"], &environment).stdout).unwrap();
    assert!(json.contains("evt_\\u202edaed\\u2066\\u200f"), "{json}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["event_id"], hostile);
}

#[tokio::test]
async fn show_prints_the_payload_only_on_request_without_secrets() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_x", "dead").await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let plain = words(&run(&["outbox", "show", "evt_x"], &environment).stdout);
    assert!(plain.contains("last_error a cause") && plain.contains("billing-sync outbox retry evt_x"), "{plain}");
    assert!(!plain.contains("client_secret"), "{plain}");
    sqlx::query("UPDATE billing.events SET payload = $1")
        .bind(&br#"{"id":"evt_x","data":{"object":{"client_secret":"pi_hunter2","name":"Ada","balance":7}}}"#[..])
        .execute(&mut conn)
        .await
        .unwrap();
    let payload = words(&run(&["outbox", "show", "evt_x", "--payload"], &environment).stdout);
    let shown = r#""object": { "client_secret": "[redacted]", "name": "[masked]", "balance": 7 }"#;
    assert!(payload.contains(shown) && payload.contains("--reveal shows it"), "{payload}");
    let payload = words(&run(&["outbox", "show", "evt_x", "--reveal"], &environment).stdout);
    let shown = r#""object": { "client_secret": "[redacted]", "name": "Ada", "balance": 7 }"#;
    assert!(payload.contains(shown) && !payload.contains("--reveal"), "{payload}");
    assert_eq!(code(&run(&["outbox", "show", "evt_none"], &environment)), 1);
}

#[tokio::test]
async fn show_reports_how_often_an_event_failed() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_p", "pending").await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let thrice = words(&run(&["outbox", "show", "evt_p"], &environment).stdout);
    assert!(thrice.contains("It failed 3 times; a worker retries it"), "{thrice}");
    sqlx::query("UPDATE billing.outbox SET attempts = 1").execute(&mut conn).await.unwrap();
    let once = words(&run(&["outbox", "show", "evt_p"], &environment).stdout);
    assert!(once.contains("It failed once; a worker retries it"), "{once}");
}

#[tokio::test]
async fn retry_resets_the_attempts_and_keeps_the_error() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_x", "dead").await;
    let output = run(&["outbox", "retry", "evt_x"], &[("DATABASE_URL", &database.url)]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    let row = "state || ' ' || attempts || ' ' || isolated || ' ' || last_error || ' ' || (finished_at IS NULL) || ' ' || \
               (run_at <= clock_timestamp())";
    assert_eq!(column(&mut conn, "evt_x", row).await.as_deref(), Some("pending 0 true a cause true true"));
}

#[tokio::test]
async fn retry_wakes_the_workers() {
    let (database, mut conn) = migrated().await;
    let mut listener = PgListener::connect(&database.url).await.unwrap();
    listener.listen(CHANNEL).await.unwrap();
    for arguments in [&["outbox", "retry", "evt_x"][..], &["outbox", "retry", "--all-dead", "--yes"]] {
        sqlx::query("DELETE FROM billing.outbox").execute(&mut conn).await.unwrap();
        sqlx::query("DELETE FROM billing.events").execute(&mut conn).await.unwrap();
        store(&mut conn, "evt_x", "dead").await;
        assert_eq!(code(&run(arguments, &[("DATABASE_URL", &database.url)])), 0);
        let woken = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await;
        assert!(woken.is_ok_and(|woken| woken.is_ok()), "{arguments:?}");
    }
}

#[tokio::test]
async fn events_that_are_not_dead_are_refused_and_dead_ones_decided() {
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
    // a pending event becomes due, and its attempts stay counted
    let postpone = "UPDATE billing.outbox SET run_at = clock_timestamp() + interval '1 h' WHERE event_id = 'evt_p'";
    sqlx::query(postpone).execute(&mut conn).await.unwrap();
    let retry = run(&["outbox", "retry", "evt_p", "evt_x"], &environment);
    assert_eq!((code(&retry), words(&retry.stdout).as_str()), (0, "evt_p is due now evt_x was due already"));
    let row = "state || ' ' || attempts || ' ' || (run_at <= clock_timestamp())";
    assert_eq!(column(&mut conn, "evt_p", row).await.as_deref(), Some("pending 3 true"));
    let discard = run(&["outbox", "discard", "evt_y", "evt_p", "--reason", "a test"], &environment);
    assert_eq!(code(&discard), 1);
    assert_eq!(column(&mut conn, "evt_p", "state || attempts").await.as_deref(), Some("pending3"));
    let row = "state || ' ' || outcome || ' ' || reason";
    assert_eq!(column(&mut conn, "evt_y", row).await.as_deref(), Some("done ignored discarded"));
}

#[tokio::test]
async fn retry_of_all_dead_events_does_not_change_others() {
    let (database, mut conn) = migrated().await;
    for (event_id, state) in [("evt_p", "pending"), ("evt_x", "dead"), ("evt_y", "dead"), ("evt_d", "done")] {
        store(&mut conn, event_id, state).await;
    }
    let environment = [("DATABASE_URL", database.url.as_str())];
    let output = run(&["outbox", "retry", "--all-dead", "--yes"], &environment);
    let expected = "2 dead events: 2 of type customer.subscription.updated. 2 dead events are pending again.";
    assert_eq!((code(&output), words(&output.stdout).as_str()), (0, expected));
    assert_eq!(column(&mut conn, "evt_p", "attempts").await.as_deref(), Some("3"));
    assert_eq!(column(&mut conn, "evt_d", "state").await.as_deref(), Some("done"));
    assert_eq!(code(&run(&["outbox", "retry"], &environment)), 2);
}

/// A database with three dead events and a finished one, which differ in everything that a filter compares.
async fn different_events() -> (TestDatabase, Connection) {
    let (database, mut conn) = migrated().await;
    for (event_id, state) in [("evt_a", "dead"), ("evt_b", "dead"), ("evt_c", "dead"), ("evt_d", "done")] {
        store(&mut conn, event_id, state).await;
    }
    let changes = "
        UPDATE billing.outbox SET customer_id = 'cus_1', object_id = 'sub_1', last_error = 'constraint no_ada 100%'
        WHERE event_id IN ('evt_a', 'evt_d');
        UPDATE billing.outbox SET customer_id = 'cus_2', received_at = received_at - interval '3 h' WHERE event_id = 'evt_b';
        UPDATE billing.outbox SET type = 'invoice.paid', received_at = received_at - interval '2 d',
            finished_at = finished_at - interval '1 d'
        WHERE event_id = 'evt_c'";
    sqlx::raw_sql(changes).execute(&mut conn).await.unwrap();
    (database, conn)
}

/// Filters, and the events among [`different_events`] that fit.
const FILTERS: [(&[&str], &[&str]); 10] = [
    (&["--customer", "cus_1"], &["evt_a", "evt_d"]),
    (&["--object", "sub_1"], &["evt_a", "evt_d"]),
    (&["--error", "NO_ADA"], &["evt_a", "evt_d"]),
    (&["--error", "0%"], &["evt_a", "evt_d"]),
    (&["--error", "_"], &["evt_a", "evt_d"]),
    (&["--type", "invoice.paid"], &["evt_c"]),
    (&["--older-than", "2h"], &["evt_b", "evt_c"]),
    (&["--newer-than", "1d"], &["evt_a", "evt_b", "evt_d"]),
    (&["--older-than", "2h", "--newer-than", "1d"], &["evt_b"]),
    (&["--customer", "cus_1", "--older-than", "2h"], &[]),
];

fn listed(database: &TestDatabase, arguments: &[&str]) -> Vec<String> {
    let arguments = [&["outbox", "list", "--json"], arguments].concat();
    let lines = json_lines(&run(&arguments, &[("DATABASE_URL", &database.url)]));
    let mut ids: Vec<String> = lines.iter().map(|line| line["event_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn list_and_retry_select_the_same_events_by_filter() {
    let (database, mut conn) = different_events().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    for (filter, expected) in FILTERS {
        assert_eq!(listed(&database, filter), expected, "{filter:?}");
        let dead: Vec<&str> = expected.iter().copied().filter(|id| *id != "evt_d").collect();
        let before = "UPDATE billing.outbox SET state = 'dead', finished_at = received_at WHERE state = 'pending'";
        let output = run(&[&["outbox", "retry", "--yes"], filter].concat(), &environment);
        assert_eq!(code(&output), 0, "{filter:?}: {}", words(&output.stderr));
        let pending = "SELECT event_id FROM billing.outbox WHERE state = 'pending' ORDER BY event_id";
        let pending: Vec<String> = sqlx::query_scalar(pending).fetch_all(&mut conn).await.unwrap();
        assert_eq!(pending, dead, "{filter:?}");
        sqlx::query(before).execute(&mut conn).await.unwrap();
    }
    let nothing = run(&["outbox", "list", "--customer", "cus_9", "--error", "x"], &environment);
    let expected = "There are no events of customer cus_9 with \"x\" in the error in the outbox.";
    assert_eq!(words(&nothing.stdout), expected);
    // an unset variable of a script must not select everything
    for arguments in
        [&["list", "--customer", ""][..], &["retry", "--yes", "--error", ""], &["retry", "evt_a", "--type", "x"]]
    {
        assert_eq!(code(&run(&[&["outbox"], arguments].concat(), &environment)), 2, "{arguments:?}");
    }
}

/// Scans of the partitions of the outbox by this session.
async fn scans(conn: &mut Connection) -> i64 {
    let scans = "SELECT sum(seq_scan)::bigint FROM pg_stat_xact_user_tables WHERE relname LIKE 'outbox%'";
    sqlx::query_scalar(scans).fetch_one(conn).await.unwrap()
}

/// The whole outbox is read only where the help of `outbox list` says so.
#[tokio::test]
async fn a_filter_with_an_index_scans_no_table() {
    let (_database, mut conn) = different_events().await;
    let text = |text: &str| Some(text.to_owned());
    let day = Some(Duration::from_hours(24));
    for (filter, has_index) in [
        (Filter { event_id: text("evt_a"), ..Filter::default() }, true),
        (Filter { object_id: text("sub_1"), ..Filter::default() }, true),
        (Filter { state: Some("pending"), customer_id: text("cus_1"), ..Filter::default() }, true),
        (Filter { state: Some("dead"), error: text("x"), ..Filter::default() }, true),
        (Filter { newer_than: day, ..Filter::default() }, true),
        (Filter { customer_id: text("cus_1"), ..Filter::default() }, false),
        (Filter { older_than: day, ..Filter::default() }, false),
    ] {
        let mut transaction = conn.begin().await.unwrap();
        // small tables are scanned otherwise
        sqlx::query("SET LOCAL enable_seqscan = off").execute(&mut *transaction).await.unwrap();
        // the counters of a session also contain what it has not yet sent
        let before = scans(&mut transaction).await;
        admin::select(&mut transaction, &filter, Some(50)).await.unwrap();
        let scans = scans(&mut transaction).await - before;
        assert_eq!(scans == 0, has_index, "{filter:?}: {scans} scans");
    }
}

/// Answers the question of a command on a terminal. Returns what the terminal showed, and the result.
fn answered(arguments: &[&str], database: &TestDatabase, answer: &[u8]) -> (String, Output) {
    let (terminal, slave) = Terminal::open(80);
    let mut command = binary(arguments, &[("DATABASE_URL", &database.url)]);
    command.stdin(Stdio::from(slave.try_clone().unwrap())).stderr(Stdio::from(slave)).stdout(Stdio::piped());
    terminal.write(answer);
    let child = command.spawn().unwrap();
    drop(command);
    let output = child.wait_with_output().unwrap();
    (terminal.last_lines().join(" "), output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_changes_nothing_without_a_confirmation() {
    let (database, mut conn) = different_events().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let retry = ["outbox", "retry", "--customer", "cus_1"];
    let discard = ["outbox", "discard", "--all-dead", "--reason", "a test"];
    let none = ["outbox", "retry", "--customer", "cus_9"];
    for (command, count) in
        [(&retry[..], "1 dead event of customer cus_1:"), (&discard, "3 dead events:"), (&none, "There are no")]
    {
        let output = binary(command, &environment).stdin(Stdio::null()).output().unwrap();
        assert_eq!(code(&output), 2, "{command:?}");
        assert!(words(&output.stdout).starts_with(count), "{}", words(&output.stdout));
        assert!(words(&output.stderr).contains("no terminal to ask on: add --yes"), "{}", words(&output.stderr));
    }
    // the end of the input is byte 4 on a terminal
    for answer in [&b"n\n"[..], b"\n", b"\x04"] {
        let (shown, output) = answered(&retry, &database, answer);
        assert!(code(&output) == 1 && shown.contains("nothing was changed"), "{answer:?}: {shown}");
    }
    assert_eq!(listed(&database, &["--state", "dead"]), ["evt_a", "evt_b", "evt_c"]);
    let (shown, output) = answered(&retry, &database, b"y\n");
    assert!(shown.contains("Retry it? [y/N]"), "{shown}");
    let expected =
        "1 dead event of customer cus_1: 1 of type customer.subscription.updated. 1 dead event is pending again.";
    assert_eq!((code(&output), words(&output.stdout).as_str()), (0, expected), "{shown}");
    let (shown, output) = answered(&discard, &database, b"yes\n");
    assert!(code(&output) == 0 && shown.contains("Discard them? [y/N]"), "{shown}");
    assert_eq!(column(&mut conn, "evt_c", "reason").await.as_deref(), Some("discarded"));
    assert_eq!(column(&mut conn, "evt_a", "state").await.as_deref(), Some("pending"));
}

/// While the operator reads the question, another one may decide the same event, and others may die.
#[tokio::test]
async fn only_the_counted_events_that_are_still_dead_are_changed() {
    let (_database, mut conn) = different_events().await;
    let filter = Filter { state: Some("dead"), ..Filter::default() };
    let selected = admin::select(&mut conn, &filter, None).await.unwrap();
    let meanwhile = "UPDATE billing.outbox SET state = 'pending', finished_at = NULL WHERE event_id = 'evt_a'";
    sqlx::query(meanwhile).execute(&mut conn).await.unwrap();
    store(&mut conn, "evt_later", "dead").await;
    assert_eq!(admin::retry(&mut conn, selected.iter().map(|event| &event.key)).await.unwrap(), 2);
    assert_eq!(column(&mut conn, "evt_a", "attempts").await.as_deref(), Some("3"));
    assert_eq!(column(&mut conn, "evt_later", "state").await.as_deref(), Some("dead"));
}

#[tokio::test]
async fn a_discard_is_recorded_with_its_reason_and_its_operator() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_x", "dead").await;
    store(&mut conn, "evt_y", "dead").await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    for (reason, error) in [
        (&[][..], "--reason <TEXT>"),
        (&["--reason", " "], "write one line with 1 to 500 characters"),
        (&["--reason", &"x".repeat(501)], "write one line with 1 to 500 characters"),
        (&["--reason", "ada@example.com is gone"], "it contains an e-mail address"),
    ] {
        let output = run(&[&["outbox", "discard", "evt_x"], reason].concat(), &environment);
        assert!(code(&output) == 2 && words(&output.stderr).contains(error), "{}", words(&output.stderr));
    }
    let reason = "of a test account: \"x\" \u{1F41B}";
    let discard = ["outbox", "discard", "evt_x", "--reason", reason, "--by", "Grace"];
    assert_eq!(code(&run(&discard, &environment)), 0);
    let role: String = sqlx::query_scalar("SELECT session_user::text").fetch_one(&mut conn).await.unwrap();
    let show = words(&run(&["outbox", "show", "evt_x"], &environment).stdout);
    let expected = format!("discarded_by Grace database_role {role} discard_reason {reason}");
    assert!(show.contains(&expected), "{show}");
    let lines = json_lines(&run(&["outbox", "list", "--json", "--state", "done"], &environment));
    let recorded = |line: &Value| json!([line["discarded_by"], line["database_role"], line["discard_reason"]]);
    assert_eq!(recorded(&lines[0]), json!(["Grace", role, reason]));
    let lines = json_lines(&run(&["explain", "evt_x", "--json"], &environment));
    assert_eq!(recorded(&lines[1]), json!(["Grace", role, reason]));
    let explained = words(&run(&["explain", "evt_x"], &environment).stdout);
    let expected = format!("by Grace (database role {role}): {reason}; its last error: a cause");
    assert!(explained.starts_with("evt_x: discarded at ") && explained.contains(&expected), "{explained}");

    // by default it is the user of the operating system
    assert_eq!(code(&run(&["outbox", "discard", "evt_y", "--reason", "a test"], &environment)), 0);
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    let by = "SELECT discarded_by FROM billing.discards WHERE event_id = 'evt_y'";
    assert_eq!(sqlx::query_scalar::<_, String>(by).fetch_one(&mut conn).await.unwrap(), user);

    // an event that was made dead again by SQL and is discarded again: the first record stays, the last one is shown
    let again = "UPDATE billing.outbox SET state = 'dead', outcome = NULL WHERE event_id = 'evt_x'";
    sqlx::query(again).execute(&mut conn).await.unwrap();
    let shown = words(&run(&["outbox", "show", "evt_x"], &environment).stdout);
    assert!(shown.contains("It is dead"), "{shown}");
    let discard = ["outbox", "discard", "evt_x", "--reason", "as before", "--by", "Ada"];
    assert_eq!(code(&run(&discard, &environment)), 0);
    let shown = words(&run(&["outbox", "show", "evt_x"], &environment).stdout);
    assert!(shown.contains("discarded_by Ada") && !shown.contains("Grace"), "{shown}");
    let count = "SELECT count(*) FROM billing.discards WHERE event_id = 'evt_x'";
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut conn).await.unwrap(), 2);

    // both stay when the retention removes the event
    sqlx::query("DELETE FROM billing.outbox").execute(&mut conn).await.unwrap();
    let output = run(&["outbox", "show", "evt_x"], &environment);
    let shown = words(&output.stdout);
    assert!(code(&output) == 1 && shown.contains("by Grace") && shown.contains("as before"), "{shown}");
}
