//! Secrets and personal data stay out of logs, metrics, answers and errors, even at the log level `trace`.

use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::ConnectOptions;

use crate::support::app::SECRET;
use crate::support::cluster;
use crate::support::events::{customer, event, subscription, with};
use crate::support::process::Server;

/// Secrets and values of events; none of them may be logged or exposed.
const PRIVATE: [&str; 6] = ["hunter2", "Hauptstr", "pi_secret_of_theirs", "billing@example.com", SECRET, "D-10115"];

#[tokio::test]
async fn nothing_private_is_logged_at_trace_level() {
    let database = cluster::database().await;
    let mut conn = database.options.connect().await.unwrap();
    // one contact is refused by the database, whose message quotes the row
    let refuse = "ALTER TABLE billing.billing_contacts ADD CHECK (stripe_customer_id <> 'cus_2')";
    sqlx::raw_sql(refuse).execute(&mut conn).await.unwrap();
    let settings = [("BILLING_SYNC_LOG", "trace"), ("BILLING_SYNC_MAX_ATTEMPTS", "2")];
    let server = Server::start(&database, "receiver,worker,maintenance", &settings).await;
    for id in ["cus_1", "cus_2"] {
        let mut object = with(&customer(id, "hunter2"), json!({ "client_secret": "pi_secret_of_theirs" }));
        // digits without letters also occur in timestamps
        object["address"]["postal_code"] = json!("D-10115");
        let created = event(&format!("evt_{id}"), "customer.created", 0, &object, None);
        assert_eq!(server.deliver(&created).await, Some(200));
    }
    let broken = with(&subscription("sub_1", "cus_1"), json!({ "status": { "hunter2": 1 } }));
    server.deliver(&event("evt_3", "customer.subscription.created", 0, &broken, None)).await;
    let mut dead: i64 = 0;
    for _ in 0..1000 {
        let query = "SELECT count(*) FROM billing.outbox WHERE state = 'dead'";
        dead = sqlx::query_scalar(query).fetch_one(&mut conn).await.unwrap();
        if dead == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(dead, 2);
    let metrics = server.get_metrics().await;
    assert!(metrics.contains("billing_sync_events_processed_total"));
    let query = "SELECT string_agg(last_error, ' ') FROM billing.outbox WHERE last_error IS NOT NULL";
    let errors: String = sqlx::query_scalar(query).fetch_one(&mut conn).await.unwrap();
    server.signal(Signal::SIGTERM);
    let log = server.rest_of_the_log().await;
    assert!(log.contains("an event is dead"), "the log has the error");
    for private in PRIVATE {
        for (output, text) in [("log", &log), ("metrics", &metrics), ("last_error", &errors)] {
            assert!(!text.contains(private), "{private} is in the {output}: {}", context(text, private));
        }
    }
}

/// The line that contains the value.
fn context<'a>(text: &'a str, found: &str) -> &'a str {
    text.lines().find(|line| line.contains(found)).unwrap_or_default()
}
