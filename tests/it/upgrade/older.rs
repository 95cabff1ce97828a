//! The database was migrated by an older release: migrations of this release are missing.

use std::process::Stdio;
use std::time::Duration;

use billing_sync::database::{Connection, Pool};
use billing_sync::migrations;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::cli::{binary, code, run, words};
use crate::support::app::{sync_config, worker_config};
use crate::support::cluster::{self, TestDatabase, number};
use crate::support::events::{customer, event};
use crate::support::process::Server;

/// The migrations of this release, in order.
fn versions() -> Vec<i64> {
    migrations::migrator().iter().map(|migration| migration.version).collect()
}

/// A database with the migrations up to this one.
async fn migrated_to(version: i64) -> (TestDatabase, Connection) {
    let database = cluster::empty_database().await;
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    sqlx::raw_sql("CREATE SCHEMA billing").execute(&mut conn).await.unwrap();
    migrate_to(&mut conn, version).await;
    (database, conn)
}

async fn migrate_to(conn: &mut Connection, version: i64) {
    let mut migrator = migrations::migrator();
    migrator.dangerous_set_table_name("billing.schema_migrations");
    migrator.set_locking(false);
    migrator.run_direct(Some(version), conn.as_sqlx(), false).await.unwrap();
}

/// Everything in the schema: tables, columns, indexes, constraints, functions, triggers and migrations.
async fn everything(conn: &mut Connection) -> Vec<String> {
    let query = "
        SELECT c.relkind::text || ' ' || c.relname || coalesce(' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod), '')
        FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'billing'::regnamespace
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc
            WHERE pronamespace = 'billing'::regnamespace AND prokind <> 'a'
        UNION ALL SELECT conrelid::regclass::text || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'billing'::regnamespace
        UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid
            WHERE c.relnamespace = 'billing'::regnamespace AND NOT tgisinternal
        UNION ALL SELECT 'migration ' || version FROM billing.schema_migrations
        ORDER BY 1";
    sqlx::query_scalar(query).fetch_all(conn).await.unwrap()
}

#[tokio::test]
async fn a_database_of_an_older_release_is_refused_until_it_is_migrated() {
    let [.., before, last] = versions()[..] else { panic!("there are two migrations") };
    let (database, mut conn) = migrated_to(before).await;
    let found = everything(&mut conn).await;
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
        ("BILLING_SYNC_LISTEN", "127.0.0.1:0"),
        ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0"),
    ];
    let missing = format!("migrations are missing ({last}): run `billing-sync migrate`");
    for (arguments, exit) in [
        (&["serve"][..], 2),
        (&["status"], 2),
        (&["tail"], 2),
        (&["outbox", "list"], 2),
        (&["outbox", "retry", "--all-dead", "--yes"], 2),
        (&["rebuild"], 2),
        (&["redact", "cus_1", "--yes"], 2),
        (&["renew"], 2),
    ] {
        let output = run(arguments, &environment);
        let text = words(&output.stderr);
        assert!(code(&output) == exit && text.contains(&missing), "{arguments:?}: {text}");
    }
    let report = words(&run(&["doctor"], &environment).stdout);
    assert!(report.contains(&format!("FAIL migrations migrations are missing ({last})")), "{report}");
    assert_eq!(everything(&mut conn).await, found, "a refused command changes nothing");

    let output = run(&["migrate"], &environment);
    let text = words(&output.stdout);
    assert!(code(&output) == 0 && text.starts_with(&format!("applied {last:04} ")), "{text}");
    assert!(text.ends_with("1 migration applied; the schema is up to date"), "{text}");
    let server = Server::start(&database, "receiver,worker", &[]).await;
    assert_eq!(server.ask("/readyz").await.text, "ready: all migrations are applied\n");
    server.kill().await;
}

/// Stores an event as every release does, from the first migration on.
async fn store(conn: &mut Connection, event: &Value) {
    let sql = "WITH stored AS (
            INSERT INTO billing.outbox (event_id, created, type, format, object_type, object_id)
            VALUES ($1, to_timestamp($2), $3, 'snapshot', 'customer', $4) RETURNING event_id, created)
        INSERT INTO billing.events (event_id, created, payload) SELECT event_id, created, $5 FROM stored";
    let stored =
        sqlx::query(sql).bind(event["id"].as_str()).bind(event["created"].as_f64()).bind(event["type"].as_str());
    let stored = stored.bind(event["data"]["object"]["id"].as_str()).bind(event.to_string().into_bytes());
    stored.execute(conn).await.unwrap();
}

#[tokio::test]
async fn events_that_were_stored_before_an_upgrade_are_applied_after_it() {
    let versions = versions();
    let (database, mut conn) = migrated_to(versions[0]).await;
    for (version, second) in versions.iter().zip(0..) {
        migrate_to(&mut conn, *version).await;
        let id = format!("cus_{version}");
        store(&mut conn, &event(&format!("evt_{version}"), "customer.created", second, &customer(&id, "Ada"), None))
            .await;
    }
    let pool = Pool::from(sqlx::PgPool::connect_with(database.options.clone()).await.unwrap());
    let metrics = billing_sync::metrics::process::ProcessMetrics::new(&prometheus::Registry::new()).unwrap();
    let context = billing_sync::worker::Context::new(pool.clone(), sync_config(), worker_config(), metrics);
    billing_sync::worker::Worker::new(context).drain(&tokio_util::sync::CancellationToken::new()).await.unwrap();
    let applied =
        number(&pool, "SELECT count(*) FROM billing.outbox WHERE state = 'done' AND outcome = 'applied'").await;
    let rows = number(&pool, "SELECT count(*) FROM billing.billing_contacts WHERE name = 'Ada'").await;
    let all = i64::try_from(versions.len()).unwrap();
    assert_eq!((applied, rows), (all, all));
}

/// Waits until a query returns a number other than 0.
async fn until(conn: &mut Connection, query: &str) {
    for _ in 0..3000 {
        let number: i64 = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut *conn).await.unwrap();
        if number != 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never true: {query}");
}

/// The migration that creates `api_writes` first, and alters `api_requests` then.
const IN_THE_MIDDLE: i64 = 14;

#[tokio::test]
async fn a_migration_that_is_killed_leaves_nothing_and_the_next_one_completes_it() {
    let (database, mut conn) = migrated_to(IN_THE_MIDDLE - 1).await;
    let before = everything(&mut conn).await;
    let mut holder = Connection::from(database.options.connect().await.unwrap());
    sqlx::raw_sql("BEGIN; LOCK TABLE billing.api_requests IN ACCESS SHARE MODE").execute(&mut holder).await.unwrap();
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut process = binary(&["migrate"], &environment).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // it waits in the middle, and holds locks of the tables that it has created
    let waits = "SELECT count(*) FROM pg_locks AS l WHERE NOT l.granted AND l.relation = 'billing.api_requests'::regclass
        AND (SELECT count(*) FROM pg_locks AS own WHERE own.pid = l.pid AND own.mode = 'AccessExclusiveLock' AND own.granted) > 1";
    until(&mut conn, waits).await;
    kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(process.wait().unwrap().code(), None);
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    until(
        &mut conn,
        "SELECT (count(*) = 0)::int::bigint FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'billing-sync%'",
    )
    .await;
    assert_eq!(everything(&mut conn).await, before);

    let output = run(&["migrate"], &environment);
    let text = words(&output.stdout);
    assert!(code(&output) == 0 && text.starts_with(&format!("applied {IN_THE_MIDDLE:04} ")), "{text}");
    let untouched = cluster::database().await;
    let complete = everything(&mut Connection::from(untouched.options.connect().await.unwrap())).await;
    assert_eq!(everything(&mut conn).await, complete);
}
