//! Databases of other encodings: refused if they cannot store every text from Stripe.

use std::process::Command;

use billing_sync::database::Connection;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::harness::{OwnServer, execute, number, until};
use crate::support::events::{customer, event};
use crate::support::process::Server;

/// Creates another database on the server. Returns its URL.
async fn other(own: &mut OwnServer, name: &str, encoding: &str) -> String {
    execute(&mut own.conn, &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"))
        .await;
    own.cluster.url().replace("/billing?", &format!("/{name}?"))
}

fn run(command: &str, url: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_billing-sync"))
        .args(command.split(' '))
        .env_clear()
        .envs([("DATABASE_URL", url), ("STRIPE_WEBHOOK_SECRET", "whsec_x")])
        .envs([("BILLING_SYNC_LISTEN", "127.0.0.1:0"), ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0")])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoding_that_cannot_store_every_text_is_refused() {
    let mut own = OwnServer::start(&[]).await;
    let url = other(&mut own, "latin", "LATIN1").await;
    for command in ["migrate", "serve --migrate", "serve", "doctor"] {
        let (code, text) = run(command, &url);
        assert_ne!(code, Some(0), "{command}");
        assert!(text.contains("encoding is LATIN1") && text.contains("ENCODING 'UTF8'"), "{command}: {text}");
    }
    let mut conn = Connection::from(url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap());
    let made =
        number(&mut conn, "SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text = 'billing'").await;
    assert_eq!(made, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_an_encoding_stores_utf_8() {
    let mut own = OwnServer::start(&[]).await;
    let url = other(&mut own, "ascii", "SQL_ASCII").await;
    let (code, text) = run("migrate", &url);
    assert_eq!(code, Some(0), "{text}");
    let server = Server::start_on(&url, "receiver,worker", &[]).await;
    let name = "Zoë Łukasz 北京";
    let escaped = event("evt_1", "customer.created", 0, &customer("cus_1", name), None);
    assert_eq!(server.deliver(&escaped).await, Some(200));
    let mut conn = Connection::from(url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap());
    until(&mut conn, "SELECT count(*) FROM billing.billing_contacts").await;
    let stored: String =
        sqlx::query_scalar("SELECT name FROM billing.billing_contacts").fetch_one(&mut conn).await.unwrap();
    assert_eq!(stored, name);
}
