//! The minimum SQL with the same writes: upserts the rows of a backfill, a hundred at a time, into tables with the same
//! columns and indexes, over the same number of connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Row};
use tokio::task::JoinSet;

use super::support::run;

/// Rows in one statement: as many as objects on a page.
const PAGE: usize = 100;

/// The tables that a backfill writes, each with its key.
const TABLES: [(&str, &str); 8] = [
    ("stripe_objects", "account, object_type, object_id"),
    ("billing_contacts", "id"),
    ("subscriptions", "id"),
    ("charge_facts", "account, charge_id"),
    ("payment_facts", "account, invoice_id, payment_type, payment_id"),
    ("invoice_facts", "account, invoice_id"),
    ("subscription_timeline", "account, subscription_id, stated_at, source"),
    ("row_changes", "id"),
];

/// Result of the minimum writes.
pub(crate) struct Bare {
    pub(crate) took: Duration,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// The positions of rows, and their contents.
type Contents = (Vec<i64>, Vec<Option<Vec<u8>>>);

/// A statement and a page of rows as JSON. The contents of mirror rows are separate, as we send them.
struct Page {
    statement: Arc<str>,
    rows: String,
    contents: Option<Contents>,
}

/// Loads the existing rows, and measures how long writing them again takes.
pub(crate) async fn upserts(conn: &mut Connection, options: &PgConnectOptions, connections: u32) -> Bare {
    run(conn, "DROP SCHEMA IF EXISTS bare CASCADE; CREATE SCHEMA bare").await;
    let mut bare = Bare { took: Duration::ZERO, rows: 0, bytes: 0 };
    let mut pages = Vec::new();
    for (table, key) in TABLES {
        run(conn, format!("CREATE TABLE bare.{table} (LIKE billing.{table} INCLUDING ALL EXCLUDING IDENTITY)")).await;
        pages.extend(load(conn, table, key, &mut bare).await);
    }
    run(conn, "CHECKPOINT").await;
    // related rows were written at about the same time
    let pages = Arc::new(std::sync::Mutex::new(pages));
    let mut writers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..connections {
        let (mut conn, pages) = (Connection::from(options.connect().await.unwrap()), Arc::clone(&pages));
        writers.spawn(async move {
            while let Some(page) = { pages.lock().unwrap().pop() } {
                write(&mut conn, page).await;
            }
        });
    }
    writers.join_all().await;
    bare.took = began.elapsed();
    bare
}

async fn load(conn: &mut Connection, table: &str, key: &str, bare: &mut Bare) -> Vec<Page> {
    let is_mirror = table == "stripe_objects";
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = ('billing.' || $1)::regclass AND attnum > 0
            AND NOT attisdropped",
    )
    .bind(table)
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let set: Vec<String> = columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let update = format!("ON CONFLICT ({key}) DO UPDATE SET {}", set.join(", "));
    let shown: Vec<String> = (columns.iter())
        .map(|column| if is_mirror && column == "content" { "c.content".to_owned() } else { format!("r.{column}") })
        .collect();
    let from = if is_mirror {
        "json_populate_recordset(NULL::bare.stripe_objects, $1::json) WITH ORDINALITY AS r
        JOIN unnest($2::bigint[], $3::bytea[]) AS c (place, content) ON c.place = r.ordinality"
            .to_owned()
    } else {
        format!("json_populate_recordset(NULL::bare.{table}, $1::json) AS r")
    };
    let statement: Arc<str> =
        format!("INSERT INTO bare.{table} ({}) SELECT {} FROM {from} {update}", columns.join(", "), shown.join(", "))
            .into();
    let query = if is_mirror {
        "SELECT (to_jsonb(t) - 'content')::text, t.content FROM billing.stripe_objects AS t".to_owned()
    } else {
        format!("SELECT to_jsonb(t)::text, NULL::bytea FROM billing.{table} AS t")
    };
    let rows: Vec<(String, Option<Vec<u8>>)> = sqlx::query(AssertSqlSafe(query))
        .try_map(|row: sqlx::postgres::PgRow| Ok((row.try_get(0)?, row.try_get(1)?)))
        .fetch_all(conn)
        .await
        .unwrap();
    bare.rows += rows.len();
    bare.bytes += rows.iter().map(|(row, content)| row.len() + content.as_ref().map_or(0, Vec::len)).sum::<usize>();
    let page = |rows: &[(String, Option<Vec<u8>>)]| Page {
        statement: Arc::clone(&statement),
        rows: format!("[{}]", rows.iter().map(|(row, _)| row.as_str()).collect::<Vec<_>>().join(",")),
        contents: is_mirror.then(|| {
            let positions = (1..=i64::try_from(rows.len()).unwrap()).collect();
            (positions, rows.iter().map(|(_, content)| content.clone()).collect())
        }),
    };
    rows.chunks(PAGE).map(page).collect()
}

async fn write(conn: &mut Connection, page: Page) {
    let query = sqlx::query(AssertSqlSafe(page.statement.to_string())).bind(page.rows);
    let query = match page.contents {
        Some((positions, contents)) => query.bind(positions).bind(contents),
        None => query,
    };
    query.execute(conn).await.unwrap();
}
