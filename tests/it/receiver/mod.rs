//! The receiver over HTTP, with a real PostgreSQL. This module: a receiver with its own database.

mod deliveries;
mod limits;
mod storage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use billing_sync::base::clock;
use billing_sync::config::receiver::ReceiverConfig;
use billing_sync::config::secret::WebhookSecret;
use billing_sync::database::{Connection, Pool, Transaction};
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::receiver::signature;
use billing_sync::receiver::{PATH, Receiver};
use prometheus::{Registry, TextEncoder};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::app::{SECRET, receiver_config as config};
use crate::support::client::{Client, Reply, post};
use crate::support::cluster::{self, TestDatabase};

struct App {
    addr: SocketAddr,
    database: TestDatabase,
    /// Connections of the test, separate from the receiver's.
    pool: Pool,
    registry: Registry,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

async fn app() -> App {
    app_with(config()).await
}

async fn app_with(config: ReceiverConfig) -> App {
    let database = cluster::database().await;
    let registry = Registry::new();
    let metrics = Arc::new(ProcessMetrics::new(&registry).unwrap());
    let own = Pool::from(PgPoolOptions::new().max_connections(4).connect_lazy_with(database.options.clone()));
    let receiver = Receiver::bind(&config, own, metrics).await.unwrap();
    let addr = receiver.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(receiver.run(shutdown.clone()));
    let pool =
        Pool::from(PgPoolOptions::new().max_connections(4).connect_with(database.options.clone()).await.unwrap());
    App { addr, database, pool, registry, shutdown, server }
}

impl App {
    async fn send(&self, request: &[u8]) -> Reply {
        let mut client = Client::connect(self.addr).await;
        client.send(request).await;
        client.reply().await.expect("an answer")
    }

    async fn deliver(&self, body: &[u8]) -> Reply {
        self.send(&signed(body)).await
    }

    async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&self.pool).await.unwrap()
    }

    async fn payload(&self, id: &str) -> Vec<u8> {
        let query = "SELECT payload FROM billing.events WHERE event_id = $1";
        sqlx::query_scalar(query).bind(id).fetch_one(&self.pool).await.unwrap()
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    fn outcomes(&self, outcome: &str) -> u64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let series = format!("billing_sync_webhook_requests_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    }

    /// Sets whether the database accepts connections.
    async fn database_is_there(&self, there: bool) {
        let name = self.database.options.get_database().unwrap().to_owned();
        let mut conn = Connection::from(
            sqlx::PgConnection::connect_with(&self.database.options.clone().database("postgres")).await.unwrap(),
        );
        let sql = format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS {there};
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND NOT {there}"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    }

    /// Locks `events`, so that no event is stored until the transaction ends.
    async fn lock_events(&self) -> Transaction<'static> {
        let mut lock = self.pool.begin().await.unwrap();
        sqlx::raw_sql("LOCK TABLE billing.events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        lock
    }

    /// Waits until a statement of the receiver waits for a lock.
    async fn a_statement_waits(&self) {
        let query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database =
            (SELECT oid FROM pg_database WHERE datname = current_database()))";
        for _ in 0..500 {
            if sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("no statement waits");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(Duration::from_secs(10), self.server).await.expect("the receiver ends").unwrap();
    }
}

fn now() -> i64 {
    clock::now().unix_timestamp()
}

fn sign(body: &[u8]) -> String {
    signature::sign(&WebhookSecret::new(SECRET).unwrap(), now(), body)
}

fn signed(body: &[u8]) -> Vec<u8> {
    post(PATH, &sign(body), body)
}

fn event(id: &str, members: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"{id}","object":"event","type":"customer.updated","created":1700000000,"livemode":false,
        "data":{{"object":{{"id":"cus_1","object":"customer"{members}}}}}}}"#
    )
    .into_bytes()
}
