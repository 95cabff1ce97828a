//! A newly filled table has no statistics, and PostgreSQL assumes that it is small. No statement of the worker may scan
//! such a table or a large part of an index. Otherwise the cost of an event would grow with the number of customers.

use billing_sync::database::Connection;
use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::harness::{OwnServer, until};
use crate::support::events::{customer, event, price, subscription, with};
use crate::support::process::Server;

const CUSTOMERS: i64 = 250;

/// Rows read by sequential scans and by index scans, in tables with more than 200 inserted rows.
const READ: &str = "
    SELECT relname::text, coalesce(seq_tup_read, 0), coalesce(idx_tup_fetch, 0)
    FROM pg_stat_user_tables
    WHERE schemaname = 'billing' AND n_tup_ins > 200
    ORDER BY relname";

async fn reads(conn: &mut Connection) -> Vec<(String, i64, i64)> {
    // a session reports its reads when it ends
    until(conn, "SELECT (count(*) = 1)::int::bigint FROM pg_stat_activity WHERE backend_type = 'client backend'").await;
    sqlx::query_as(AssertSqlSafe(READ)).fetch_all(conn).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_statistics_the_worker_looks_rows_up_by_their_keys() {
    let mut own = OwnServer::start(&[("autovacuum", "off")]).await;
    let server = Server::start_on(&own.cluster.url(), "receiver,worker", &[]).await;
    assert_eq!(server.deliver(&event("evt_p", "price.created", 0, &price("price_basic", 1900), None)).await, Some(200));
    for n in 1..=CUSTOMERS {
        let (payer, bought) = (format!("cus_{n}"), format!("sub_{n}"));
        let invoice = json!({ "id": format!("in_{n}"), "object": "invoice", "customer": payer, "status": "paid",
            "subscription": bought, "payment_intent": format!("pi_{n}"), "charge": format!("ch_{n}"), "total": 1900 });
        let charge = json!({ "id": format!("ch_{n}"), "object": "charge", "customer": payer, "status": "succeeded",
            "invoice": format!("in_{n}"), "payment_method_details": { "type": "sepa_debit", "sepa_debit": {} } });
        let bought = with(&subscription(&bought, &payer), json!({ "latest_invoice": format!("in_{n}") }));
        for (index, (kind, object)) in [
            ("customer.subscription.created", &bought),
            ("charge.succeeded", &charge),
            ("invoice.paid", &invoice),
            ("customer.created", &customer(&payer, "Ada")),
        ]
        .into_iter()
        .enumerate()
        {
            let event = event(&format!("evt_{n}_{index}"), kind, n, object, None);
            assert_eq!(server.deliver(&event).await, Some(200));
        }
    }
    until(&mut own.conn, "SELECT (count(*) = 0)::int::bigint FROM billing.outbox WHERE state = 'pending'").await;
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await, Some(0));
    let events = 4 * CUSTOMERS;
    let reads = reads(&mut own.conn).await;
    assert!(reads.len() >= 6, "the tables are measured: {reads:?}");
    for (table, whole, by_key) in reads {
        // plans for tables with few rows may scan them; the wait for pending events above scans the queue too
        let limit = if table.starts_with("outbox") { 40 * events } else { events };
        assert!(whole <= limit, "{table}: {whole} rows were read by sequential scans for {events} events");
        assert!(by_key <= 60 * events, "{table}: {by_key} rows were read by index scans for {events} events");
    }
}
