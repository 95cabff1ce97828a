//! `outbox`: the listed events, and the effects of `retry` and `discard`.

use std::time::Duration;

use billing_sync::outbox::wake::CHANNEL;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::postgres::PgListener;

use super::{code, migrated, run, store, words};

async fn column(conn: &mut PgConnection, event_id: &str, expression: &'static str) -> Option<String> {
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
    let payload = words(&run(&["outbox", "show", "evt_x", "--payload"], &environment).stdout);
    assert!(payload.contains(r#""client_secret": "[redacted]""#) && !payload.contains("hunter2"), "{payload}");
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
    for arguments in [&["outbox", "retry", "evt_x"][..], &["outbox", "retry", "--all-dead"]] {
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
    let discard = run(&["outbox", "discard", "evt_y", "evt_p"], &environment);
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
    let output = run(&["outbox", "retry", "--all-dead"], &environment);
    assert_eq!((code(&output), words(&output.stdout).as_str()), (0, "2 dead events are pending again."));
    assert_eq!(column(&mut conn, "evt_p", "attempts").await.as_deref(), Some("3"));
    assert_eq!(column(&mut conn, "evt_d", "state").await.as_deref(), Some("done"));
    assert_eq!(code(&run(&["outbox", "retry"], &environment)), 2);
}
