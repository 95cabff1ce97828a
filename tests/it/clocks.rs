//! The database's clock ran ahead and was corrected, or an event has a time in the future: nothing waits for that time.

use std::time::Duration;

use crate::support::app::TestApp;
use crate::support::events::{customer, event, thin};

/// Rows written while the clock was a year ahead.
const A_YEAR_AHEAD: &str = "
    UPDATE billing.outbox SET run_at = run_at + interval '1 year', received_at = received_at + interval '1 year';
    INSERT INTO billing.jobs (kind, account, object_type, object_id, run_at)
        VALUES ('reproject', '', 'customer', 'cus_9', clock_timestamp() + interval '1 year')";

const LEFT: &str = "SELECT concat_ws(' ', (SELECT count(*) FROM billing.outbox WHERE state <> 'done'),
    (SELECT count(*) FROM billing.jobs))";

#[tokio::test]
async fn events_stored_by_a_fast_clock_are_processed_once_corrected() {
    let app = TestApp::start().await;
    for (id, customer_id) in [("evt_1", "cus_1"), ("evt_2", "cus_2")] {
        app.deliver(&event(id, "customer.created", 0, &customer(customer_id, "Ada"), None)).await;
    }
    // one new event, and one that waits for a retry
    app.execute("UPDATE billing.outbox SET isolated = true, attempts = 1 WHERE event_id = 'evt_2'").await;
    app.execute(A_YEAR_AHEAD).await;
    app.drain().await;
    assert_eq!(app.text(LEFT).await.as_deref(), Some("0 0"));
    app.finish().await;
}

#[tokio::test]
async fn a_delay_within_the_settings_is_kept() {
    let mut app = TestApp::start().await;
    app.context.config.retry_max = Duration::from_hours(2);
    app.deliver(&event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None)).await;
    let waits =
        "UPDATE billing.outbox SET isolated = true, attempts = 1, run_at = clock_timestamp() + interval '119 min';
        INSERT INTO billing.jobs (kind, account, object_type, object_id, run_at)
            VALUES ('reproject', '', 'customer', 'cus_9', clock_timestamp() + interval '119 min')";
    app.execute(waits).await;
    app.drain().await;
    assert_eq!(app.text(LEFT).await.as_deref(), Some("1 1"));
    app.leave_pending();
    app.finish().await;
}

#[tokio::test]
async fn a_future_thin_event_requests_a_read_for_now() {
    let mut app = TestApp::start().await;
    app.context = app.context.clone().with_fetches(Duration::from_secs(10));
    let of_2100 = thin("evt_1", "v1.customer.updated", "2100-01-01T00:00:00Z", "customer", "cus_1");
    app.deliver(&of_2100).await;
    app.drain().await;
    let asked = "SELECT count(*)::text FROM billing.jobs WHERE kind = 'fetch' AND run_at <= clock_timestamp()
        AND newer_than BETWEEN clock_timestamp() AND clock_timestamp() + interval '5 min'";
    assert_eq!(app.text(asked).await.as_deref(), Some("1"));
    app.finish().await;
}
