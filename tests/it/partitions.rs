//! Events of months without a partition are stored in the default partition, and moved when the month's partition is
//! created, while events are delivered, processed and read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use billing_sync::base::clock;
use billing_sync::database::Pool;
use billing_sync::metrics::database;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPoolOptions;
use time::{OffsetDateTime, Time};

use crate::support::app::TestApp;
use crate::support::cluster::{self, TestDatabase, number};
use crate::support::events::{START, customer, event};
use crate::support::process::Server;

/// The first second of the month that is this many months away from the current one.
fn month(ahead: i32) -> OffsetDateTime {
    let mut first = clock::now().replace_day(1).unwrap().replace_time(Time::MIDNIGHT);
    for _ in 0..ahead.abs() {
        let step = time::Duration::days(if ahead > 0 { 32 } else { -1 });
        first = (first + step).replace_day(1).unwrap();
    }
    first
}

fn suffix(ahead: i32) -> String {
    let month = month(ahead);
    format!("{}_{:02}", month.year(), u8::from(month.month()))
}

/// An event about its own customer, created this many seconds after the start of a month.
fn dated(id: &str, ahead: i32, second: i64) -> Value {
    let created = month(ahead).unix_timestamp() + second;
    event(id, "customer.created", created - START, &customer(&format!("cus_{id}"), "Ada"), None)
}

/// Number of rows of a month that are in the table's default partition.
async fn rows_in_default(pool: &Pool, table: &str, ahead: i32) -> i64 {
    let (from, to) = (month(ahead), month(ahead + 1));
    let query = format!("SELECT count(*) FROM billing.{table}_default WHERE created >= '{from}' AND created < '{to}'");
    number(pool, &query).await
}

async fn assert_made(pool: &Pool, months: &[i32]) {
    for table in ["events", "outbox"] {
        for ahead in months {
            let name = format!("billing.{table}_{}", suffix(*ahead));
            let attached = format!(
                "SELECT count(*) FROM pg_inherits WHERE inhrelid = to_regclass('{name}')
                    AND inhparent = 'billing.{table}'::regclass"
            );
            assert_eq!(number(pool, &attached).await, 1, "{name} is no partition");
            assert_eq!(rows_in_default(pool, table, *ahead).await, 0, "{name}");
        }
        let split = format!("SELECT count(*) FROM pg_class WHERE relname LIKE '{table}\\_split%' AND relkind <> 'i'");
        assert_eq!(number(pool, &split).await, 0, "tables left by the split of {table}");
        let checks = "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'split%'";
        assert_eq!(number(pool, checks).await, 0);
    }
}

/// Asserts that every event is in `events` and in `outbox` exactly once.
async fn assert_once(pool: &Pool, ids: &BTreeSet<String>) {
    for table in ["events", "outbox"] {
        let query = format!("SELECT event_id FROM billing.{table} WHERE event_id LIKE 'evt%' ORDER BY event_id");
        let stored: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await.unwrap();
        assert_eq!(stored, ids.iter().cloned().collect::<Vec<_>>(), "billing.{table}");
    }
}

#[tokio::test]
async fn future_and_past_events_move_to_the_partition_of_their_month() {
    let app = TestApp::start().await;
    let mut ids = BTreeSet::new();
    let mut events = Vec::new();
    for ahead in [-30, -12, -3, 0, 2, 5, 6, 9] {
        for (number, second) in [0, 1, 86_400, 27 * 86_400].into_iter().enumerate() {
            let id = format!("evt_{}_{number}", ahead + 100);
            events.push(dated(&id, ahead, second));
            ids.insert(id);
        }
    }
    for event in &events {
        app.deliver(event).await;
    }
    assert_eq!(app.text("SELECT billing.create_partitions(6)::text").await.as_deref(), Some("10"));
    assert_made(&app.pool, &[-12, -3, 0, 1, 2, 3, 4, 5, 6]).await;
    for table in ["events", "outbox"] {
        for beyond in [-30, 9] {
            assert_eq!(rows_in_default(&app.pool, table, beyond).await, 4, "{table} {beyond}");
        }
    }
    let reported = database::default_partitions(&mut app.pool.acquire().await.unwrap()).await.unwrap();
    for partition in reported {
        assert_eq!((partition.rows, partition.is_splitting), (8, false), "{partition:?}");
        assert_eq!(partition.newest.map(OffsetDateTime::date), Some((month(9) + time::Duration::days(27)).date()));
    }
    for event in &events {
        app.deliver(event).await;
    }
    assert_once(&app.pool, &ids).await;
    assert_eq!(app.text("SELECT billing.create_partitions(6)::text").await.as_deref(), Some("0"));
    app.drain().await;
    assert_eq!(number(&app.pool, "SELECT count(*) FROM billing.outbox WHERE state = 'done'").await, 32);
    app.finish().await;
}

/// Drops the partitions of these months, so that their rows go into the default partition.
async fn drop_months(pool: &Pool, months: &[i32]) {
    for ahead in months {
        let month = suffix(*ahead);
        let query = format!("DROP TABLE billing.events_{month}, billing.outbox_{month}");
        sqlx::query(AssertSqlSafe(query)).execute(pool).await.unwrap();
    }
}

const FILLERS: i64 = 9000;

/// Fills both default partitions with dead events, of three recent months and of 2001, too many to be moved at once.
async fn fill(pool: &Pool) {
    let query = format!(
        "WITH filler AS (
            INSERT INTO billing.events
            SELECT 'filler_' || n,
                (ARRAY['{}', '{}', '{}', '2001-01-01'])[1 + n % 4]::timestamptz + n * interval '1 min',
                (SELECT string_agg(sha512((n * 100 + part)::text::bytea), '') FROM generate_series(1, 30) AS part)
            FROM generate_series(1, {FILLERS}) AS n
            RETURNING event_id, created)
        INSERT INTO billing.outbox (event_id, created, type, format, state, finished_at, last_error)
        SELECT event_id, created, 'x', 'snapshot', 'dead', now(),
            (SELECT string_agg(sha512((event_id || part)::bytea)::text, '') FROM generate_series(1, 15) AS part)
        FROM filler",
        month(0),
        month(1),
        month(2)
    );
    sqlx::query(AssertSqlSafe(query)).execute(pool).await.unwrap();
}

async fn large_default() -> (TestDatabase, Pool) {
    let database = cluster::database().await;
    let pool =
        Pool::from(PgPoolOptions::new().max_connections(6).connect_with(database.options.clone()).await.unwrap());
    drop_months(&pool, &[0, 1, 2]).await;
    fill(&pool).await;
    for table in ["events", "outbox"] {
        let megabytes = number(&pool, &format!("SELECT pg_table_size('billing.{table}_default') >> 20")).await;
        assert!(megabytes > 16, "{table}: {megabytes} MB");
    }
    (database, pool)
}

/// Delivers events of any month, some of them twice, until `stop` is set. Returns their ids and the slowest answer.
async fn deliver_continuously(server: Arc<Server>, stop: Arc<AtomicBool>, sender: u64) -> (BTreeSet<String>, Duration) {
    let mut random = fastrand::Rng::with_seed(sender);
    let (mut ids, mut longest) = (BTreeSet::new(), Duration::ZERO);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("evt_{sender}_{number}");
        let one = dated(&id, random.i32(-14..8), random.i64(0..28 * 86_400));
        for _ in 0..random.u32(1..3) {
            let began = Instant::now();
            assert_eq!(server.deliver(&one).await, Some(200));
            longest = longest.max(began.elapsed());
        }
        ids.insert(id);
    }
    (ids, longest)
}

/// Reads until `stop` is set, and asserts that no row is ever missing or duplicated.
async fn read_continuously(pool: Pool, stop: Arc<AtomicBool>) -> u32 {
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        for table in ["events", "outbox"] {
            let query = format!("SELECT count(*) FROM billing.{table} WHERE event_id LIKE 'filler%'");
            assert_eq!(number(&pool, &query).await, FILLERS, "rows of {table} that a reader sees");
        }
        reads += 1;
    }
    reads
}

async fn wait_until(pool: &Pool, query: &str) {
    for _ in 0..6000 {
        if number(pool, query).await != 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never true: {query}");
}

/// Condition: a split is in progress.
const SPLITTING: &str =
    "to_regclass('billing.events_split') IS NOT NULL OR to_regclass('billing.outbox_split') IS NOT NULL";

/// Kills maintenance during its work three times, then lets it finish.
async fn run_killed_maintenance(database: &TestDatabase, pool: &Pool) {
    // attached, because a split creates the partition of a month, of its own copy, before it has any rows
    let made = format!(
        "NOT ({SPLITTING}) AND (
            SELECT count(*) FROM pg_inherits JOIN pg_class AS partition ON partition.oid = inhrelid
            WHERE (inhparent, partition.relname) IN (
                ('billing.events'::regclass, 'events_{0}'), ('billing.outbox'::regclass, 'outbox_{0}'))) = 2",
        suffix(2)
    );
    for pause in [0, 60, 150] {
        let server = Server::start(database, "maintenance", &[]).await;
        wait_until(pool, &format!("SELECT ({SPLITTING} OR {made})::int::bigint")).await;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        server.kill().await;
    }
    let server = Server::start(database, "maintenance", &[]).await;
    wait_until(pool, &format!("SELECT ({made})::int::bigint")).await;
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_default_partition_is_split_under_load_and_kills() {
    let (database, pool) = large_default().await;
    let server = Arc::new(Server::start(&database, "receiver,worker", &[]).await);
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..2)
        .map(|sender| tokio::spawn(deliver_continuously(Arc::clone(&server), Arc::clone(&stop), sender)))
        .collect();
    let reader = tokio::spawn(read_continuously(pool.clone(), Arc::clone(&stop)));
    run_killed_maintenance(&database, &pool).await;
    stop.store(true, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 0);
    let mut ids = BTreeSet::new();
    for sender in senders {
        let (sent, longest) = sender.await.unwrap();
        assert!(longest < Duration::from_secs(4), "a delivery waited for {longest:?}");
        ids.extend(sent);
    }
    assert!(ids.len() > 20, "{} events were delivered", ids.len());
    assert_made(&pool, &[0, 1, 2, 3]).await;
    assert_once(&pool, &ids).await;
    wait_until(&pool, "SELECT (count(*) = 0)::int::bigint FROM billing.outbox WHERE state = 'pending'").await;
    let done = number(&pool, "SELECT count(*) FROM billing.outbox WHERE state = 'done'").await;
    assert_eq!(usize::try_from(done).unwrap(), ids.len());
    let customers = number(&pool, "SELECT count(*) FROM billing.billing_contacts").await;
    assert_eq!(usize::try_from(customers).unwrap(), ids.len(), "each event was applied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_waits_for_locked_rows_and_older_snapshots() {
    let (database, pool) = large_default().await;
    let mut holder = pool.begin().await.unwrap();
    let hold = "SELECT FROM billing.outbox WHERE event_id = 'filler_4' FOR UPDATE";
    sqlx::query(hold).execute(&mut *holder).await.unwrap();
    let mut snapshot = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::query("SELECT txid_current_snapshot()").execute(&mut *snapshot).await.unwrap();
    let mut server = Server::start(&database, "maintenance", &[]).await;
    let copied = format!("SELECT (count(*) = {FILLERS})::int::bigint FROM billing.events_split");
    wait_until(&pool, "SELECT count(to_regclass('billing.events_split'))").await;
    wait_until(&pool, &copied).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // the old snapshot still sees the rows
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM billing.events").fetch_one(&mut *snapshot).await.unwrap();
    assert_eq!(seen, FILLERS);
    snapshot.commit().await.unwrap();
    while server.log_line("created monthly partitions").await["table"] != "events" {}
    wait_until(&pool, "SELECT count(to_regclass('billing.outbox_split'))").await;
    let but_one = format!("SELECT (count(*) = {})::int::bigint FROM billing.outbox_split", FILLERS - 1);
    wait_until(&pool, &but_one).await;
    let change = "UPDATE billing.outbox SET last_error = 'changed' WHERE event_id = 'filler_4'";
    sqlx::query(change).execute(&mut *holder).await.unwrap();
    holder.commit().await.unwrap();
    while server.log_line("created monthly partitions").await["table"] != "outbox" {}
    assert_made(&pool, &[0, 1, 2]).await;
    let changed = number(&pool, "SELECT count(*) FROM billing.outbox WHERE last_error = 'changed'").await;
    assert_eq!(changed, 1);
    assert_eq!(number(&pool, "SELECT count(*) FROM billing.outbox").await, FILLERS);
    server.kill().await;
}

async fn until_lock_wait(pool: &Pool, table: &str) {
    let waiting = format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'billing.{table}'::regclass");
    let began = Instant::now();
    while number(pool, &waiting).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(2), "no session waits for {table}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The partitions of both tables are created, one after the other, while a delivery waits for them. Each time
/// PostgreSQL must route the row to another partition than before.
#[tokio::test]
async fn a_delivery_during_the_creation_of_its_partition_is_stored() {
    let database = cluster::database().await;
    let pool = Pool::from(PgPoolOptions::new().connect_with(database.options.clone()).await.unwrap());
    let server = Server::start(&database, "receiver", &[]).await;
    let mut making = Vec::new();
    for table in ["events", "outbox"] {
        let mut transaction = pool.begin().await.unwrap();
        let made = sqlx::query_scalar::<_, i32>("SELECT billing.create_partitions($1, 5)").bind(table);
        assert_eq!(made.fetch_one(&mut *transaction).await.unwrap(), 2);
        making.push((format!("{table}_default"), transaction));
    }
    let event = dated("evt_overtaken", 5, 60);
    let commits = async {
        for (table, transaction) in making {
            until_lock_wait(&pool, &table).await;
            transaction.commit().await.unwrap();
        }
    };
    let (status, ()) = tokio::join!(server.deliver(&event), commits);
    assert_eq!(status, Some(200));
    assert_once(&pool, &BTreeSet::from(["evt_overtaken".to_owned()])).await;
    server.kill().await;
    pool.close().await;
}
