//! The ops listener: metrics in a format that promtool accepts, and readiness.

use std::time::Duration;

use billing_sync::config::ops::OpsConfig;
use billing_sync::database::shortage::Shortage;
use billing_sync::database::{Connection, Pool, Session, pool};
use billing_sync::metrics::connections::ListenerName;
use billing_sync::metrics::database;
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::ops::Ops;
use prometheus::{IntCounter, Registry};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::support::cluster;

struct OpsServer {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn serve(options: PgConnectOptions) -> OpsServer {
    let registry = Registry::new();
    registry.register(Box::new(IntCounter::new("billing_sync_counted_total", "A count.").unwrap())).unwrap();
    let config = OpsConfig { listen: "127.0.0.1:0".parse().unwrap() };
    let connections = ProcessMetrics::new(&registry).unwrap().connections.of(ListenerName::Ops);
    let ops =
        Ops::bind(&config, &options.into(), registry, connections, Vec::new(), Shortage::default()).await.unwrap();
    let (address, stop) = (ops.local_addr(), CancellationToken::new());
    OpsServer { address, task: tokio::spawn(ops.run(CancellationToken::new(), stop.clone())), stop }
}

impl OpsServer {
    /// Status and body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

/// Options for an address at which no server listens.
fn nowhere() -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(1).username("u").password("hunter2")
}

#[tokio::test]
async fn a_process_is_ready_once_the_schema_is_current() {
    let database = cluster::empty_database().await;
    let served = serve(database.options.clone()).await;
    let (status, reason) = served.ask("GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("has no tables of billing-sync: run `billing-sync migrate`"), "{reason}");
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    billing_sync::migrations::run(&mut conn).await.unwrap();
    assert_eq!(served.ask("GET", "/readyz").await, (200, "ready: all migrations are applied\n".to_owned()));
    // a newer release is rolled out at the same time and has migrated already
    sqlx::query("INSERT INTO billing.schema_migrations VALUES (9999, 'later', now(), true, '', 0)")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(served.ask("GET", "/readyz").await.0, 200);
}

#[tokio::test]
async fn without_a_database_a_process_is_live_and_not_ready() {
    let served = serve(nowhere()).await;
    assert_eq!(served.ask("GET", "/livez").await, (200, "live\n".to_owned()));
    let (status, reason) = served.ask("GET", "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(
        reason,
        "not ready: the database at 127.0.0.1:1, database u, user u cannot be reached: Connection refused (os error 111)\n"
    );
}

#[tokio::test]
async fn metrics_contain_the_states_of_the_outbox() {
    let database = cluster::database().await;
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    sqlx::query(
        "INSERT INTO billing.outbox (event_id, created, type, format, isolated, received_at) VALUES \
         ('evt_1', now(), 't', 'snapshot', false, now()), \
         ('evt_2', now(), 't', 'snapshot', true, now() - interval '1 hour')",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let (status, metrics) = serve(database.options.clone()).await.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "billing_sync_counted_total 0",
        "billing_sync_database_up 1",
        "billing_sync_outbox_events{state=\"pending\"} 2",
        "billing_sync_outbox_events{state=\"dead\"} 0",
        "billing_sync_outbox_events{state=\"done\"} 0",
        concat!("billing_sync_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
    let age = metrics.lines().find_map(|it| it.strip_prefix("billing_sync_outbox_oldest_pending_age_seconds "));
    assert!((3600.0..3700.0).contains(&age.unwrap().parse::<f64>().unwrap()), "{metrics}");
}

#[tokio::test]
async fn metrics_contain_the_months_that_have_a_partition() {
    let database = cluster::database().await;
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    let served = serve(database.options.clone()).await;
    let months = async || {
        let (_, metrics) = served.ask("GET", "/metrics").await;
        let months = metrics.lines().filter_map(|line| line.strip_prefix("billing_sync_partition_months"));
        months.collect::<Vec<_>>().join(" ")
    };
    sqlx::query("SELECT billing.create_partitions(3)").execute(&mut conn).await.unwrap();
    assert_eq!(months().await, "{table=\"events\"} 4 {table=\"outbox\"} 4");
    // the month after the next one is missing; a later one does not count
    let gap =
        "SELECT 'DROP TABLE billing.outbox' || to_char(now() AT TIME ZONE 'UTC' + interval '2 months', '_YYYY_MM')";
    let gap: String = sqlx::query_scalar(gap).fetch_one(&mut conn).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(gap)).execute(&mut conn).await.unwrap();
    assert_eq!(months().await, "{table=\"events\"} 4 {table=\"outbox\"} 2");
}

/// Pages of tables and indexes of the schema that its sessions have read so far, from memory or disk.
async fn pages_read(conn: &mut Connection) -> i64 {
    // a session reports its reads when it is idle, or on request
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&mut *conn).await.unwrap();
    let query = "SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))::bigint
        FROM pg_statio_user_tables WHERE schemaname = 'billing'";
    sqlx::query_scalar(query).fetch_one(conn).await.unwrap()
}

/// Pages that one scrape reads.
async fn pages_of_a_scrape(pool: &Pool) -> i64 {
    database::gather(pool).await;
    let before = pages_read(&mut pool.acquire().await.unwrap()).await;
    let families = database::gather(pool).await;
    assert!(families.iter().any(|family| family.name() == "billing_sync_orphans"), "the whole scrape is measured");
    pages_read(&mut pool.acquire().await.unwrap()).await - before
}

/// Fills archive and outbox up to this number of done events, beside 7 pending ones.
async fn fill(pool: &Pool, from: i32, to: i32) {
    let insert = "
        WITH event AS (
            INSERT INTO billing.events (event_id, created, payload)
            SELECT 'evt_' || i, now(), '{}' FROM generate_series($1, $2) AS i
            RETURNING event_id, created
        )
        INSERT INTO billing.outbox (event_id, created, type, format, state, outcome, finished_at)
        SELECT event_id, created, 'customer.updated', 'snapshot', 'done', 'applied', now() FROM event";
    sqlx::query(insert).bind(from + 1).bind(to).execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_scrape_costs_the_same_with_a_long_history_and_pending_counts_are_exact() {
    const FEW: i32 = 1_000;
    const COUNTED: i32 = 50_000;
    const MANY: i32 = 150_000;
    let database = cluster::database().await;
    // one connection, because a session counts its own reads
    let pool = pool(&database.options, Session::BACKGROUND, 1, Duration::from_secs(30));
    // autovacuum would read the tables, too
    let partitions =
        "SELECT string_agg(format('ALTER TABLE %s SET (autovacuum_enabled = off)', inhrelid::regclass), '; ')
        FROM pg_inherits WHERE inhparent IN ('billing.events'::regclass, 'billing.outbox'::regclass)";
    let off: String = sqlx::query_scalar(partitions).fetch_one(&pool).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(off)).execute(&pool).await.unwrap();
    sqlx::query(
        "INSERT INTO billing.outbox (event_id, created, type, format) \
         SELECT 'evt_pending_' || i, now(), 'customer.updated', 'snapshot' FROM generate_series(1, 7) AS i",
    )
    .execute(&pool)
    .await
    .unwrap();
    fill(&pool, 0, FEW).await;
    let with_few = pages_of_a_scrape(&pool).await;
    // done events are counted one by one up to 8 MB, which are 1,024 pages
    fill(&pool, FEW, COUNTED).await;
    let with_exact = pages_of_a_scrape(&pool).await;
    assert!(with_exact <= with_few + 1024, "{with_exact} pages with {COUNTED} events, {with_few} with {FEW}");
    fill(&pool, COUNTED, MANY).await;
    for analysed in [false, true] {
        if analysed {
            sqlx::query("ANALYZE billing.outbox").execute(&pool).await.unwrap();
        }
        let with_many = pages_of_a_scrape(&pool).await;
        assert!(with_many <= with_few, "{with_many} pages with {MANY} events, {with_few} with {FEW}");
        let outbox = database::outbox(&mut pool.acquire().await.unwrap()).await.unwrap();
        assert_eq!((outbox.pending, outbox.dead), (7, 0));
        // before the first ANALYZE the estimate uses only the size
        let tolerance = if analysed { i64::from(MANY / 100) } else { i64::from(MANY / 2) };
        assert!((outbox.done - i64::from(MANY)).abs() <= tolerance, "{outbox:?}");
    }
}

#[tokio::test]
async fn without_a_database_metrics_of_the_process_are_served() {
    let (status, metrics) = serve(nowhere()).await.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("billing_sync_counted_total 0\n"), "{metrics}");
    assert!(metrics.contains("billing_sync_database_up 0\n"), "{metrics}");
    assert!(!metrics.contains("billing_sync_outbox"), "{metrics}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let served = serve(nowhere()).await;
    assert_eq!(served.ask("GET", "/").await.0, 404);
    assert_eq!(served.ask("POST", "/livez").await.0, 405);
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_the_shutdown() {
    let served = serve(nowhere()).await;
    let _idle = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(served.ask("GET", "/livez").await.0, 200);
    served.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), served.task).await.unwrap().unwrap();
}
