//! `migrate`: applied migrations, and refusals.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use billing_sync::database::Connection;
use sqlx::ConnectOptions;

use super::{binary, code, migrated, run, words};
use crate::support::cluster;

/// A migration of a release after this one.
const LATER: &str = "INSERT INTO billing.schema_migrations VALUES (9999, 'later', now(), true, '', 0)";

#[tokio::test]
async fn migrate_reports_what_it_applied_and_then_nothing_to_do() {
    let database = cluster::empty_database().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let first = run(&["migrate"], &environment);
    assert_eq!(code(&first), 0);
    assert!(words(&first.stdout).starts_with("applied 0001 events outbox applied 0002 mirror jobs"));
    let second = run(&["migrate"], &environment);
    assert_eq!(code(&second), 0);
    assert!(words(&second.stdout).starts_with("nothing to do: all"));
}

#[tokio::test]
async fn every_table_and_column_of_the_migrated_schema_has_a_comment() {
    let (_database, mut conn) = migrated().await;
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || coalesce('.' || a.attname, '') FROM pg_class c \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT c.relispartition \
         WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p') \
         AND (obj_description(c.oid, 'pg_class') IS NULL \
              OR a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL)",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert!(bare.is_empty(), "{bare:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_accepted_unchanged() {
    let (database, mut conn) = migrated().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    sqlx::query(LATER).execute(&mut conn).await.unwrap();
    let newer = run(&["migrate"], &environment);
    assert_eq!(code(&newer), 0, "{}", words(&newer.stderr));
    assert!(words(&newer.stdout).starts_with("nothing to do"), "{}", words(&newer.stdout));
    assert!(words(&newer.stderr).contains("newer ones by a newer release (9999)"), "{}", words(&newer.stderr));
    // a missing older migration may conflict with changes of the newer release
    sqlx::query("DELETE FROM billing.schema_migrations WHERE version = 1").execute(&mut conn).await.unwrap();
    let torn = run(&["migrate"], &environment);
    assert_eq!(code(&torn), 1);
    assert!(words(&torn.stderr).contains("(9999)"), "{}", words(&torn.stderr));
}

#[tokio::test]
async fn a_database_with_changed_migrations_is_refused() {
    let (database, mut conn) = migrated().await;
    sqlx::query(LATER).execute(&mut conn).await.unwrap();
    let sql = "UPDATE billing.schema_migrations SET checksum = '' WHERE version = 1";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let changed = run(&["migrate"], &[("DATABASE_URL", &database.url)]);
    assert_eq!(code(&changed), 1);
    assert!(words(&changed.stderr).contains("changed after they were applied (1)"), "{}", words(&changed.stderr));
}

#[tokio::test]
async fn the_holder_of_the_migration_lock_is_reported() {
    let database = cluster::empty_database().await;
    let mut stranger = Connection::from(database.options.connect().await.unwrap());
    let hold =
        "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger; SET ROLE stranger; SELECT pg_advisory_lock(1651076204)";
    sqlx::raw_sql(hold).execute(&mut stranger).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut stranger).await.unwrap();
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut process = binary(&["migrate"], &environment).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let text = lines.next().unwrap().unwrap();
    assert!(text.contains("holds the lock of migrations") && text.contains(&pid.to_string()), "{text}");
    assert_eq!(process.try_wait().unwrap(), None, "migrate waits");
    sqlx::raw_sql("SELECT pg_advisory_unlock_all(); RESET ROLE; DROP ROLE stranger")
        .execute(&mut stranger)
        .await
        .unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn concurrent_migrations_wait_for_each_other() {
    let database = cluster::empty_database().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let start = || binary(&["migrate"], &environment).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    for process in [start(), start(), start()] {
        let output = process.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    }
}
