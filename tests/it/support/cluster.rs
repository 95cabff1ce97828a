//! STAND-IN of the branch `cli`: a fresh, empty database on the engineers' server at /tmp/mig. The embedded branch
//! brings the real one, with the same two fields.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

pub(crate) struct Database {
    pub(crate) options: PgConnectOptions,
    pub(crate) url: String,
}

pub(crate) async fn database() -> Database {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("cli_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let server = PgConnectOptions::new_without_pgpass().socket("/tmp/mig").username("postgres").database("postgres");
    let mut conn = server.connect().await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut conn).await.unwrap();
    let url = format!("postgres:///{name}?host=/tmp/mig&user=postgres");
    Database { options: server.database(&name), url }
}
