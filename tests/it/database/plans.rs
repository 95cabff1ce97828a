//! A table that has just been filled has no statistics, and PostgreSQL then takes it for a small one. No statement of the
//! worker may read such a table whole, or look into an index that leads past many rows: events would cost the more, the
//! more customers there are.

use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::harness::{Own, until};
use crate::support::events::{customer, event, price, subscription, with};
use crate::support::process::Server;

const CUSTOMERS: i64 = 250;

/// Rows that were read in whole tables, and over indexes; `row_changes` and the catalogue are not asked by key.
const READ: &str = "
    SELECT relname::text, coalesce(seq_tup_read, 0), coalesce(idx_tup_fetch, 0)
    FROM pg_stat_user_tables
    WHERE schemaname = 'billing' AND n_tup_ins > 200
    ORDER BY relname";

async fn reads(conn: &mut PgConnection) -> Vec<(String, i64, i64)> {
    // a session reports what it has read when it ends
    until(conn, "SELECT (count(*) = 1)::int::bigint FROM pg_stat_activity WHERE backend_type = 'client backend'").await;
    sqlx::query_as(AssertSqlSafe(READ)).fetch_all(conn).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_statistics_the_worker_looks_rows_up_by_their_keys() {
    let mut own = Own::start(&[("autovacuum", "off")]).await;
    let server = Server::start_on(&own.cluster.url(), "receiver,worker", &[]).await;
    assert_eq!(server.deliver(&event("evt_p", "price.created", 0, &price("price_basic", 1900), None)).await, Some(200));
    for n in 1..=CUSTOMERS {
        let (payer, bought) = (format!("cus_{n}"), format!("sub_{n}"));
        let invoice = json!({ "id": format!("in_{n}"), "object": "invoice", "customer": payer, "status": "paid",
            "subscription": bought, "payment_intent": format!("pi_{n}"), "charge": format!("ch_{n}"), "total": 1900 });
        let charge = json!({ "id": format!("ch_{n}"), "object": "charge", "customer": payer, "status": "succeeded",
            "invoice": format!("in_{n}"), "payment_method_details": { "type": "sepa_debit", "sepa_debit": {} } });
        let bought = with(&subscription(&bought, &payer), json!({ "latest_invoice": format!("in_{n}") }));
        for (place, (kind, object)) in [
            ("customer.subscription.created", &bought),
            ("charge.succeeded", &charge),
            ("invoice.paid", &invoice),
            ("customer.created", &customer(&payer, "Ada")),
        ]
        .into_iter()
        .enumerate()
        {
            let event = event(&format!("evt_{n}_{place}"), kind, n, object, None);
            assert_eq!(server.deliver(&event).await, Some(200));
        }
    }
    until(&mut own.conn, "SELECT (count(*) = 0)::int::bigint FROM billing.outbox WHERE state = 'pending'").await;
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await, Some(0));
    let events = 4 * CUSTOMERS;
    let reads = reads(&mut own.conn).await;
    assert!(reads.len() >= 6, "the tables are there: {reads:?}");
    for (table, whole, by_key) in reads {
        // plans made for tables of a few rows may read those rows; the wait for the end above reads the queue itself
        let limit = if table.starts_with("outbox") { 40 * events } else { events };
        assert!(whole <= limit, "{table}: {whole} rows were read in whole tables by {events} events");
        assert!(by_key <= 60 * events, "{table}: {by_key} rows were read over its indexes by {events} events");
    }
}
