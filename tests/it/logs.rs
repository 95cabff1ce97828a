//! The log of the real binary stays readable during repeated failures: one line a second for each cause, and every
//! event is logged or counted.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::cluster::database_with_pool;
use crate::support::events::{customer, event};
use crate::support::process::Server;

/// The lines with this message.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.filter(|entry| entry["message"] == message).collect()
}

/// Number of events that the lines represent: one each, or the count that a line contains.
fn represented_events(lines: &[Value]) -> u64 {
    lines.iter().map(|line| line["left_out"].as_u64().unwrap_or(1)).sum()
}

fn assert_a_second_apart(lines: &[Value]) {
    let times: Vec<OffsetDateTime> = lines
        .iter()
        .map(|line| OffsetDateTime::parse(line["timestamp"].as_str().unwrap(), &Rfc3339).unwrap())
        .collect();
    for pair in times.windows(2) {
        let apart = (pair[1] - pair[0]).as_seconds_f64();
        assert!(apart > 0.9, "{apart} s apart: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_receiver_logs_once_a_second_and_counts_the_rest() {
    let (database, pool) = database_with_pool().await;
    let server = Server::start(&database, "receiver", &[]).await;
    sqlx::raw_sql("ALTER TABLE billing.events RENAME TO lost").execute(&pool).await.unwrap();
    let (began, mut refused) = (Instant::now(), 0);
    while began.elapsed().as_secs_f64() < 2.5 {
        let one = event(&format!("evt_{refused}"), "customer.created", 0, &customer("cus_1", "Ada"), None);
        assert_eq!(server.deliver(&one).await, Some(503));
        refused += 1;
    }
    // at shutdown the counts of the last second are logged too
    server.signal(Signal::SIGTERM);
    let (code, log) = server.ended_with_log().await;
    assert_eq!(code, Some(0));
    let lines = lines(&log, "could not store events");
    assert!(refused > 20, "only {refused} deliveries");
    assert!((3..=5).contains(&lines.len()), "{lines:?}");
    assert_eq!(represented_events(&lines), refused, "{lines:?}");
    assert_a_second_apart(&lines[..lines.len() - 1]);
    assert!(lines.iter().all(|line| line["error"].as_str().unwrap().contains("42P01")), "{lines:?}");
}

/// Refuses each customer with a different message.
const POISON: &str = "
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no space for %', NEW.stripe_customer_id; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON billing.billing_contacts FOR EACH ROW EXECUTE FUNCTION public.refuse()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_events_of_one_cause_share_their_log_lines() {
    const EVENTS: u64 = 40;
    let (database, pool) = database_with_pool().await;
    sqlx::raw_sql(POISON).execute(&pool).await.unwrap();
    let server = Server::start(&database, "receiver,worker", &[("BILLING_SYNC_MAX_ATTEMPTS", "2")]).await;
    for number in 0..EVENTS {
        let id = format!("cus_{number}");
        let one = event(&format!("evt_{number}"), "customer.created", 0, &customer(&id, "Ada"), None);
        assert_eq!(server.deliver(&one).await, Some(200));
    }
    let dead = "SELECT count(*) FROM billing.outbox WHERE state = 'dead'";
    for _ in 0..600 {
        if u64::try_from(sqlx::query_scalar::<_, i64>(dead).fetch_one(&pool).await.unwrap()).unwrap() == EVENTS {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // the counts are logged without another event
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    server.signal(Signal::SIGKILL);
    let log = server.rest_of_the_log().await;
    for message in ["an event failed; it will be retried", "an event is dead: see `billing-sync outbox show`"] {
        let lines = lines(&log, message);
        assert_eq!(represented_events(&lines), EVENTS, "{lines:?}");
        assert_a_second_apart(&lines);
        let counts: Vec<&Value> = lines.iter().filter(|line| line["left_out"].is_u64()).collect();
        assert!(!counts.is_empty(), "{lines:?}");
        assert!(counts.iter().all(|line| line["last"].as_str().unwrap().contains("event.id=evt_")), "{counts:?}");
    }
}

#[tokio::test]
async fn a_server_without_durability_is_logged_once_at_start() {
    let (database, _pool) = database_with_pool().await;
    let server = Server::start(&database, "receiver", &[]).await;
    server.signal(Signal::SIGTERM);
    let (_, log) = server.ended_with_log().await;
    let message =
        "the database runs without durability; a power failure may lose events that were acknowledged to Stripe";
    let lines = lines(&log, message);
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!((&lines[0]["level"], &lines[0]["settings"]), (&"WARN".into(), &"fsync".into()));
}

/// Each contact takes two seconds to write.
const SLOW: &str = "
    CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON billing.billing_contacts FOR EACH ROW EXECUTE FUNCTION public.slow()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_statement_is_logged_by_its_name() {
    let (database, pool) = database_with_pool().await;
    sqlx::raw_sql(SLOW).execute(&pool).await.unwrap();
    let mut server = Server::start(&database, "receiver,worker", &[]).await;
    let one = event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None);
    assert_eq!(server.deliver(&one).await, Some(200));
    let line = server.log_line("slow statement: store.save_billing_contacts").await;
    assert_eq!((&line["level"], &line["statement"]), (&"WARN".into(), &"store.save_billing_contacts".into()));
    assert!(line["elapsed_seconds"].as_f64().unwrap() >= 2.0, "{line}");
    server.signal(Signal::SIGTERM);
    let (_, log) = server.ended_with_log().await;
    assert!(!log.contains("INSERT INTO"), "the text of the statement is not logged: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_are_logged_in_one_line() {
    let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap();
    let server = Server::start_embedded(dir.path()).await;
    server.signal(Signal::SIGTERM);
    let (_, log) = server.ended_with_log().await;
    let applied = lines(&log, "applied migrations");
    assert_eq!(applied.len(), 1, "{log}");
    assert_eq!(applied[0]["first"], 1, "{log}");
    assert_eq!(applied[0]["count"], applied[0]["last"], "{log}");
}
