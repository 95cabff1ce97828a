//! STAND-IN, to be replaced by the real test cluster: one private PostgreSQL for this test process, one database
//! for each test, with the two tables that the receiver writes.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

/// Holds the server's life: when this process ends, its pipe closes and the shell stops the server.
static SERVER: OnceLock<(Child, String)> = OnceLock::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

const SCRIPT: &str = r#"
set -e
dir=$1; bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1); cd /
mkdir -m 700 "$dir"
"$bin/initdb" -D "$dir/data" -U postgres -N -A trust --no-locale -E UTF8 >/dev/null
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=off -c max_connections=200 >"$dir/log" 2>&1 &
server=$!
cat >/dev/null || true
kill -QUIT $server; wait $server || true; rm -rf "$dir"
"#;

const TABLES: &str = r#"
CREATE SCHEMA billing;
CREATE TABLE billing.events (event_id text COLLATE "C" NOT NULL, created timestamptz NOT NULL, payload bytea NOT NULL,
    PRIMARY KEY (event_id, created)) PARTITION BY RANGE (created);
CREATE TABLE billing.events_default PARTITION OF billing.events DEFAULT;
CREATE TABLE billing.outbox (event_id text COLLATE "C" NOT NULL, created timestamptz NOT NULL, type text NOT NULL,
    format text NOT NULL, object_type text, object_id text COLLATE "C", customer_id text COLLATE "C",
    account text COLLATE "C" NOT NULL DEFAULT '', livemode boolean, api_version text,
    source text NOT NULL DEFAULT 'webhook', state text NOT NULL DEFAULT 'pending', outcome text, reason text,
    attempts integer NOT NULL DEFAULT 0, run_at timestamptz NOT NULL DEFAULT clock_timestamp(), last_error text,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(), finished_at timestamptz,
    PRIMARY KEY (event_id, created)) PARTITION BY RANGE (created);
CREATE TABLE billing.outbox_default PARTITION OF billing.outbox DEFAULT;
"#;

/// A database of its own.
pub(crate) struct TestDatabase {
    pub(crate) options: PgConnectOptions,
}

/// A new database with the schema in it.
pub(crate) async fn database() -> TestDatabase {
    let (_, dir) = SERVER.get_or_init(start);
    let server = PgConnectOptions::new_without_pgpass().host(dir).username("postgres").database("postgres");
    let mut conn = connect(&server).await;
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut conn).await.unwrap();
    let options = server.database(&name);
    sqlx::raw_sql(TABLES).execute(&mut connect(&options).await).await.unwrap();
    TestDatabase { options }
}

fn start() -> (Child, String) {
    let dir = format!("/tmp/bsr-{}", std::process::id());
    let shell = Command::new("setpriv")
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "sh", "-c", SCRIPT, "sh", &dir])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    (shell, dir)
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    for _ in 0..200 {
        if let Ok(conn) = PgConnection::connect_with(options).await {
            return conn;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the test cluster does not answer");
}
