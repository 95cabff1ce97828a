//! JIT compilation takes longer than any of our statements. On a server with PostgreSQL's defaults no statement is
//! compiled, neither in our sessions nor in the product's.

use billing_sync::database::Connection;
use serde_json::json;
use sqlx::ConnectOptions;

use super::harness::{OwnServer, execute, number, until};
use crate::support::events::{customer, event, price, subscription, with};
use crate::support::process::Server;

const WORKSPACE: &str = "6e2b4e0c-93d4-4f25-a4b1-8d2f6f0f7c11";

/// Number of functions compiled for all executed statements, including statements inside of functions.
const COMPILED: &str = "SELECT coalesce(sum(jit_functions), 0)::bigint FROM public.pg_stat_statements";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_is_compiled_by_jit() {
    let mut own =
        OwnServer::start(&[("shared_preload_libraries", "pg_stat_statements"), ("pg_stat_statements.track", "all")])
            .await;
    execute(&mut own.conn, "CREATE EXTENSION pg_stat_statements SCHEMA public").await;
    assert_eq!(number(&mut own.conn, "SELECT (current_setting('jit') = 'on')::int::bigint").await, 1);
    let server = Server::start_on(&own.cluster.url(), "receiver,worker,renewals", &[]).await;
    let price = with(&price("price_basic", 1900), json!({ "metadata": { "limit_words": "1000" } }));
    let mut subscribed = with(&subscription("sub_1", "cus_1"), json!({ "metadata": { "workspace_id": WORKSPACE } }));
    subscribed["items"]["data"][0]["price"] = price.clone();
    for (id, kind, object) in [
        ("evt_1", "price.created", &price),
        ("evt_2", "customer.created", &customer("cus_1", "Ada")),
        ("evt_3", "customer.subscription.created", &subscribed),
    ] {
        assert_eq!(server.deliver(&event(id, kind, 0, object, None)).await, Some(200));
    }
    until(&mut own.conn, "SELECT count(*) FROM billing.subscription_limits").await;
    // the product's calls use sessions with the server's defaults
    let mut product = Connection::from(own.cluster.connect_options().connect().await.unwrap());
    for call in ["consume('{}', 'words', 5)", "remaining('{}', 'words')", "grant_bonus('{}', 'words', 5, 'a gift')"] {
        execute(&mut product, &format!("SELECT billing.{}", call.replace("{}", WORKSPACE))).await;
    }
    for view in ["workspace_limits", "workspace_billing", "subscription_words", "live_subscriptions", "orphans"] {
        execute(&mut product, &format!("SELECT * FROM billing.{view}")).await;
    }
    execute(&mut product, "SELECT billing.create_limits(array_agg(id)) FROM billing.subscriptions").await;
    assert!(
        number(&mut own.conn, "SELECT count(*) FROM public.pg_stat_statements").await > 20,
        "statements are counted"
    );
    assert_eq!(number(&mut own.conn, COMPILED).await, 0);
}
