//! Roles and databases with other defaults than PostgreSQL's: each session sets what our statements depend on.

use std::process::Command;

use billing_sync::database::Connection;
use serde_json::json;
use sqlx::ConnectOptions;

use super::harness::{execute, number, until};
use crate::support::cluster::{self, TestDatabase};
use crate::support::events::{customer, event, price, subscription, update, with};
use crate::support::process::Server;

/// Defaults of the database, each of which would break a statement. The timeouts are long enough for the first
/// statement of a session, which replaces them, on a loaded machine.
const DEFAULTS: [(&str, &str); 19] = [
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("TimeZone", "Pacific/Chatham"),
    ("DateStyle", "German"),
    ("IntervalStyle", "sql_standard"),
    ("bytea_output", "escape"),
    ("standard_conforming_strings", "off"),
    ("transform_null_equals", "on"),
    ("jit", "on"),
    ("jit_above_cost", "0"),
    ("random_page_cost", "1"),
    ("plan_cache_mode", "force_generic_plan"),
    ("statement_timeout", "250ms"),
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "20ms"),
    ("idle_session_timeout", "2s"),
    ("client_min_messages", "debug1"),
    ("synchronous_commit", "off"),
    ("extra_float_digits", "-15"),
];

/// Functions and an operator in the first schema of the path, which shadow PostgreSQL's own.
const SHADOWS: &str = "
    CREATE SCHEMA hostile;
    CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1999-01-01' $$;
    CREATE FUNCTION hostile.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'no' $$;
    CREATE FUNCTION hostile.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'no' $$;
    CREATE FUNCTION hostile.to_char(timestamp, text) RETURNS text LANGUAGE sql AS $$ SELECT 'no' $$;
    CREATE FUNCTION hostile.never(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.never);";

async fn odd_database() -> (TestDatabase, Connection) {
    let database = cluster::empty_database().await;
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    execute(&mut conn, SHADOWS).await;
    for (name, value) in DEFAULTS {
        execute(&mut conn, &format!("ALTER DATABASE {} SET {name} = '{value}'", database.name)).await;
    }
    execute(&mut conn, &format!("ALTER DATABASE {} SET search_path = hostile, pg_catalog, public", database.name))
        .await;
    (database, conn)
}

fn run(command: &str, database: &TestDatabase) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_billing-sync"))
        .args(command.split(' '))
        .env_clear()
        .envs([("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_x")])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_processed_under_any_database_defaults() {
    let (database, mut conn) = odd_database().await;
    let (code, text) = run("migrate", &database);
    assert_eq!(code, Some(0), "{text}");
    let workers = ("BILLING_SYNC_WORKERS", "2");
    let servers = [
        Server::start(&database, "receiver,worker,renewals", &[workers]).await,
        Server::start(&database, "receiver,worker,renewals", &[workers]).await,
    ];
    let price = with(&price("price_basic", 1900), json!({ "metadata": { "limit_words": "1000" } }));
    assert_eq!(servers[0].deliver(&event("evt_price", "price.created", 0, &price, None)).await, Some(200));
    let customers = 20;
    for number in 0..customers {
        let (customer_id, before) = (format!("cus_{number}"), customer(&format!("cus_{number}"), "Ada"));
        let mut subscribed = subscription(&format!("sub_{number}"), &customer_id);
        subscribed["items"]["data"][0]["price"] = price.clone();
        let after = with(&before, json!({ "name": "Grace" }));
        for (turn, event) in [
            event(&format!("evt_{number}_c"), "customer.created", 0, &before, None),
            event(&format!("evt_{number}_s"), "customer.subscription.created", 1, &subscribed, None),
            update(&format!("evt_{number}_u"), "customer.updated", 2, &before, &after),
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(servers[turn % 2].deliver(event).await, Some(200), "{event}");
        }
    }
    until(&mut conn, "SELECT (count(*) = 61 AND bool_and(state = 'done'))::int::bigint FROM billing.outbox").await;
    until(&mut conn, "SELECT (count(*) = 20)::int::bigint FROM billing.subscription_limits").await;
    let named = "SELECT count(*) FROM billing.billing_contacts WHERE name OPERATOR(pg_catalog.=) 'Grace'";
    assert_eq!(number(&mut conn, named).await, customers);
    assert_eq!(number(&mut conn, "SELECT count(*) FROM billing.outbox WHERE attempts > 0").await, 0);
    for command in ["doctor", "outbox list", "explain cus_1", "renew --dry-run"] {
        let (code, text) = run(command, &database);
        // a warning does not make doctor fail
        assert_eq!(code, Some(0), "{command}: {text}");
    }
    // moves the events, which belong to an old month, to a new partition
    let mut maintenance = Server::start(&database, "maintenance", &[]).await;
    maintenance.log_line("created monthly partitions").await;
    for server in servers.into_iter().chain([maintenance]) {
        assert_eq!(server.ask("/readyz").await.status, 200);
        server.signal(nix::sys::signal::Signal::SIGTERM);
        let (code, log) = server.ended_with_log().await;
        assert_eq!(code, Some(0));
        let signs = ["40001", "57014", "55P03", "ERROR", "a batch failed"];
        let lines: Vec<&str> = log.lines().filter(|line| signs.iter().any(|sign| line.contains(sign))).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
}
