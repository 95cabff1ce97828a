//! An installation that has been running for a long time: many customers, and their events in the archive.

use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use sqlx::AssertSqlSafe;

use super::support::run;
use super::{Args, events, worker};

/// Customers created by events; the rest are copies of their rows.
const MADE: u32 = 5_000;

/// Their first number: the copies differ in the digits before the last four.
const FIRST: u32 = 1_000_000;

/// The tables that grow with customers and events.
const TABLES: [&str; 10] = [
    "events",
    "outbox",
    "stripe_objects",
    "billing_contacts",
    "subscriptions",
    "row_changes",
    "invoice_facts",
    "subscription_timeline",
    "subscription_limits",
    "workspaces",
];

/// Lets a worker create some customers, and copies all their rows under other ids.
pub(crate) async fn grow(cluster: &Cluster, conn: &mut Connection, args: &Args) {
    events::fill(conn, FIRST, MADE).await;
    super::apply(cluster, conn, vec![worker(cluster, args, 2, "session")], 10 * MADE).await;
    for table in TABLES {
        let Copying { select, insert } = copying(conn, table).await;
        run(conn, select).await;
        for number in 1..args.grown / MADE {
            run(conn, insert.replace("{number}", &number.to_string())).await;
        }
        run(conn, "DROP TABLE made").await;
    }
    run(conn, "VACUUM ANALYZE").await;
}

/// The statements that copy the rows of a table that a worker created.
struct Copying {
    /// Keeps those rows in a temporary table, so that each copy reads only them.
    select: String,
    /// Inserts one copy; `{number}` is its number.
    insert: String,
}

async fn copying(conn: &mut Connection, table: &str) -> Copying {
    let columns: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(
        "SELECT a.attname::text, format_type(a.atttypid, NULL) FROM pg_attribute AS a
        WHERE a.attrelid = ('billing.' || $1)::regclass AND a.attnum > 0 AND NOT a.attisdropped
            AND a.attidentity = '' AND a.attgenerated = ''",
    ))
    .bind(table)
    .fetch_all(conn)
    .await
    .unwrap();
    let renamed = |text: &str| format!("replace({text}, '_100', '_' || (100 + {{number}}))");
    let (mut values, mut is_copy) = (Vec::new(), Vec::new());
    for (name, kind) in &columns {
        values.push(match kind.as_str() {
            "text" => renamed(name),
            "text[]" => format!("string_to_array({}, ',')", renamed(&format!("array_to_string({name}, ',')"))),
            "uuid" => format!("md5({name}::text || {{number}})::uuid"),
            _ => name.clone(),
        });
        if matches!(kind.as_str(), "text" | "text[]") {
            is_copy.push(format!("{name}::text LIKE '%\\_100____%'"));
        }
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    Copying {
        select: format!("CREATE TEMP TABLE made AS SELECT * FROM billing.{table} WHERE {}", is_copy.join(" OR ")),
        insert: format!(
            "INSERT INTO billing.{table} ({}) SELECT {} FROM made ON CONFLICT DO NOTHING",
            names.join(", "),
            values.join(", ")
        ),
    }
}
