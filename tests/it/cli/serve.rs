//! `serve`: refused starts and their errors.

use billing_sync::database::Connection;
use nix::sys::signal::Signal;
use sqlx::ConnectOptions;

use super::{code, migrated, run, words};
use crate::support::cluster;
use crate::support::process::Server;

const SECRET: (&str, &str) = ("STRIPE_WEBHOOK_SECRET", "whsec_x");
const LISTEN: (&str, &str) = ("BILLING_SYNC_LISTEN", "127.0.0.1:0");
const OPS_LISTEN: (&str, &str) = ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0");

#[tokio::test]
async fn a_database_without_the_schema_is_refused_with_both_fixes() {
    let database = cluster::empty_database().await;
    let output = run(&["serve"], &[("DATABASE_URL", &database.url), SECRET, LISTEN, OPS_LISTEN]);
    assert_eq!(code(&output), 2);
    let errors = words(&output.stderr);
    let fix = "has no tables of billing-sync: run `billing-sync migrate`, or start with --migrate";
    assert!(errors.contains(&format!("error: the database {} ", database.name)), "{errors}");
    assert!(errors.ends_with(fix), "{errors}");
}

#[tokio::test]
async fn changed_migrations_are_refused_and_migrate_is_not_the_fix() {
    let (database, mut conn) = migrated().await;
    let sql = "UPDATE billing.schema_migrations SET checksum = '' WHERE version = 1";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let output = run(&["serve"], &[("DATABASE_URL", &database.url), SECRET, LISTEN, OPS_LISTEN]);
    assert_eq!(code(&output), 2);
    let errors = words(&output.stderr);
    assert!(errors.contains("use the release that applied them") && !errors.contains("--migrate"), "{errors}");
}

#[test]
fn both_listeners_on_one_address_is_a_wrong_setting() {
    let same = ("BILLING_SYNC_LISTEN", "0.0.0.0:9464");
    for command in [&["serve"][..], &["demo", "--keep"]] {
        let output = run(command, &[("DATABASE_URL", "postgres://h/d"), SECRET, same]);
        let errors = words(&output.stderr);
        assert_eq!(code(&output), 2, "{errors}");
        assert!(errors.contains("BILLING_SYNC_LISTEN, BILLING_SYNC_OPS_LISTEN wrong are 0.0.0.0:9464"), "{errors}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_reported_before_any_schema_change() {
    let database = cluster::empty_database().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [("DATABASE_URL", database.url.as_str()), SECRET, LISTEN, ("BILLING_SYNC_OPS_LISTEN", &address)];
    let output = run(&["serve", "--migrate"], &environment);
    assert_eq!(code(&output), 1);
    assert!(words(&output.stderr).contains("BILLING_SYNC_OPS_LISTEN"), "{}", words(&output.stderr));
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    assert!(!billing_sync::migrations::pending(&mut conn).await.unwrap().is_current());
}

#[tokio::test]
async fn the_serving_line_names_roles_workers_and_the_database() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver,worker", &[("BILLING_SYNC_WORKERS", "3")]).await;
    let serving = server.serving().clone();
    assert_eq!((&serving["roles"], &serving["workers"]), (&"receiver,worker".into(), &3.into()), "{serving}");
    let server_name = serving["database"].as_str().unwrap();
    assert!(server_name.contains(&format!("database {}, user ", database.name)), "{server_name}");
    server.kill().await;
    let server = Server::start(&database, "maintenance", &[]).await;
    assert!(server.serving().get("workers").is_none(), "{}", server.serving());
    server.kill().await;
}

#[tokio::test]
async fn lost_pool_connections_are_not_logged() {
    let database = cluster::database().await;
    let server = Server::start(&database, "maintenance", &[]).await;
    assert!(server.get_metrics().await.contains("billing_sync_database_up 1\n"));
    let mut conn = database.options.clone().application_name("test").connect().await.unwrap();
    let sql = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let lost: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
    assert!(lost > 0);
    assert!(server.get_metrics().await.contains("billing_sync_database_up 1\n"), "the pool connects again");
    server.signal(Signal::SIGTERM);
    let (code, log) = server.ended_with_log().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("sqlx_core"), "{log}");
}
