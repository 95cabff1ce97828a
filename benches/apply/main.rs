//! Cost of applying events: the real binary processes a queue of realistic events, compared with minimum SQL that does
//! the same final writes on the same PostgreSQL right afterwards.
//!
//! `make bench BENCH=apply`. Nothing is asserted, because results depend on the machine and the time: the ratio
//! matters. Uses a temporary private PostgreSQL with default settings and fsync on.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark panics with the reason, and prints")]

mod bare;
mod bystander;
mod events;
mod grown;
mod processor;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use billing_sync::migrations;
use clap::{Parser, ValueEnum};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::process::{Child, Command};

use self::bystander::Bystander;
use self::support::report::{Aim, Report};
use self::support::run;

/// Measures how fast a full queue is processed.
#[derive(Parser)]
struct Args {
    /// Customers, each with ten events.
    #[arg(long, default_value_t = 5_000)]
    customers: u32,
    /// Run only these scenes; `one` always runs, because the others are compared with it.
    #[arg(long)]
    only: Vec<Scene>,
    /// Existing customers in the scene `grown`, each with ten events in the archive.
    #[arg(long, default_value_t = 50_000)]
    grown: u32,
    /// Events applied since the snapshot was taken, in the scene `snapshot`: as many as in a few minutes.
    #[arg(long, default_value_t = 1_000_000)]
    since: u32,
    /// `BILLING_SYNC_BATCH_SIZE`, if not the default.
    #[arg(long)]
    batch: Option<u32>,
    /// Additional PostgreSQL settings, each as `name=value`.
    #[arg(long)]
    set: Vec<String>,
    /// Print the duration of each statement (needs `--set shared_preload_libraries=pg_stat_statements`).
    #[arg(long)]
    statements: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Conditions under which the queue is processed.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Scene {
    /// One process with one worker.
    One,
    /// One process with two workers.
    Workers,
    /// Two processes with one worker each.
    Processes,
    /// Another session holds a snapshot. Many events were applied since, and their old rows cannot be removed.
    Snapshot,
    /// One worker sends statements as a pooler in transaction mode needs them. No pooler is in between.
    Pooler,
    /// Customers and archived events exist already.
    Grown,
}

/// Measurements of processing the queue.
struct Applied {
    events: f64,
    took: Duration,
    /// Events a second in each tenth of the queue.
    tenths: Vec<f64>,
    /// Seconds of processor time.
    worker_cpu: f64,
    postgres_cpu: f64,
    /// Bytes of write-ahead log.
    wal: f64,
    commits: f64,
    /// Dead rows of the queue at the end.
    dead: f64,
    /// Median duration of a query by key meanwhile.
    bystander: Duration,
}

impl Applied {
    fn rate(&self) -> f64 {
        self.events / self.took.as_secs_f64()
    }
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let (cluster, _dir) = support::cluster(&args.set).await;
    let mut report = Report::new("apply");
    let (one, mut conn) = play(&cluster, &args, Scene::One).await;
    let bare = bare::writes(&mut conn, i64::from(10 * args.customers)).await;
    let bare = one.events / bare.as_secs_f64();
    conn.close().await.unwrap();
    report.ratio("apply, one worker", one.rate(), "events/s", ("bare writes", bare), Aim::AtLeast(0.8));
    report.figure("worker's processor time an event", one.worker_cpu * 1e6 / one.events, "µs", None);
    report.figure("PostgreSQL's processor time an event", one.postgres_cpu * 1e6 / one.events, "µs", None);
    report.figure("write-ahead log an event", one.wal / one.events, "bytes", Aim::AtMost(3800.0));
    report.figure("commits for 500 events", one.commits * 500.0 / one.events, "", None);
    for scene in [Scene::Workers, Scene::Processes, Scene::Snapshot, Scene::Pooler, Scene::Grown] {
        if !args.only.is_empty() && !args.only.contains(&scene) {
            continue;
        }
        let (applied, conn) = play(&cluster, &args, scene).await;
        conn.close().await.unwrap();
        let beside_one = ("one worker", one.rate());
        match scene {
            Scene::One => {}
            Scene::Workers => {
                report.ratio("two workers", applied.rate(), "events/s", beside_one, Aim::AtLeast(1.3));
            }
            Scene::Processes => {
                report.ratio("two processes", applied.rate(), "events/s", beside_one, Aim::AtLeast(1.3));
            }
            Scene::Pooler => {
                report.ratio("as behind a pooler", applied.rate(), "events/s", beside_one, Aim::AtLeast(0.7));
            }
            Scene::Snapshot => {
                report.ratio("while a snapshot is held", applied.rate(), "events/s", beside_one, Aim::AtLeast(0.95));
                let micros = |one: &Applied| one.bystander.as_secs_f64() * 1e6;
                let without = ("without", micros(&one));
                report.ratio("a query by key meanwhile", micros(&applied), "µs", without, Aim::AtMost(1.1));
                let all = applied.events + f64::from(args.since);
                report.figure("dead rows of the queue an event", applied.dead / all, "", Aim::AtMost(2.0));
            }
            Scene::Grown => {
                let cost = |one: &Applied| (one.worker_cpu + one.postgres_cpu) * 1e6 / one.events;
                let what = format!("processor time an event beside {} customers", args.grown);
                report.ratio(what, cost(&applied), "µs", ("beside none", cost(&one)), Aim::AtMost(1.2));
                report.ratio("its rate", applied.rate(), "events/s", beside_one, Aim::AtLeast(0.83));
            }
        }
    }
    cluster.stop().await.unwrap();
    report.finish();
}

/// Runs one scene in a new schema. The connection can still read the schema afterwards.
async fn play(cluster: &Cluster, args: &Args, scene: Scene) -> (Applied, Connection) {
    let mut conn = Connection::from(cluster.connect_options().connect().await.unwrap());
    run(&mut conn, "DROP SCHEMA IF EXISTS billing CASCADE; DROP SCHEMA IF EXISTS bare CASCADE").await;
    migrations::run(&mut conn).await.unwrap();
    if scene == Scene::Grown {
        grown::grow(cluster, &mut conn, args).await;
        run(&mut conn, "CHECKPOINT").await;
    }
    let mut holder = Connection::from(cluster.connect_options().connect().await.unwrap());
    if scene == Scene::Snapshot {
        run(&mut holder, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
        apply_before(&mut conn, args.since).await;
    }
    events::fill(&mut conn, 0, args.customers).await;
    run(&mut conn, "CHECKPOINT").await;
    if args.statements {
        let reset = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()";
        run(&mut conn, reset).await;
    }
    let processes = match scene {
        Scene::Workers => vec![worker(cluster, args, 2, "session")],
        Scene::Processes => vec![worker(cluster, args, 1, "session"), worker(cluster, args, 1, "session")],
        Scene::Pooler => vec![worker(cluster, args, 1, "transaction")],
        Scene::One | Scene::Snapshot | Scene::Grown => vec![worker(cluster, args, 1, "session")],
    };
    let applied = apply(cluster, &mut conn, processes, 10 * args.customers).await;
    let tenths = applied.tenths.iter().map(|one| format!("{one:.0}")).collect::<Vec<_>>().join(" ");
    println!("    events a second in each tenth: {tenths}");
    if args.statements {
        print_statements(&mut conn, 10 * args.customers).await;
    }
    holder.close().await.unwrap();
    (applied, conn)
}

/// Adds earlier, applied events to the queue.
async fn apply_before(conn: &mut Connection, events: u32) {
    for first in (0..events).step_by(50_000) {
        run(
            conn,
            format!(
                "INSERT INTO billing.outbox (event_id, created, type, format, object_type, object_id, customer_id)
                SELECT 'evt_before_' || n, now(), 'invoice.paid', 'snapshot', 'invoice', 'in_before_' || n, 'cus_before_' || n / 10
                FROM generate_series({first}, {}) AS n",
                first + 49_999
            ),
        )
        .await;
        let done = "UPDATE billing.outbox SET state = 'done', outcome = 'applied', finished_at = clock_timestamp()
            WHERE state = 'pending'";
        run(conn, done).await;
    }
}

/// Waits until nothing is pending, and ends the processes.
async fn apply(cluster: &Cluster, conn: &mut Connection, mut processes: Vec<Child>, events: u32) -> Applied {
    let (began, wal_before, commits_before) = (Instant::now(), wal(conn).await, commits(conn).await);
    let (postgres_before, mut worker_cpu) = (processor::of_postgres(cluster), 0.0);
    let bystander = Bystander::start(cluster, events / 10).await;
    // keeps each check cheap: a bitmap scan would read all pending rows
    run(conn, "SET enable_bitmapscan = off").await;
    let pending = "SELECT EXISTS (SELECT FROM billing.outbox WHERE state = 'pending' AND NOT isolated)
        OR EXISTS (SELECT FROM billing.outbox WHERE state = 'pending' AND isolated)";
    let mut looks = 0.0;
    while sqlx::query_scalar(pending).fetch_one(&mut *conn).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        looks += 1.0;
        let spent: Vec<f64> = processes.iter().filter_map(|child| processor::of_process(child.id().unwrap())).collect();
        if spent.len() == processes.len() {
            worker_cpu = spent.iter().sum();
        }
    }
    let (took, postgres_cpu) = (began.elapsed(), processor::of_postgres(cluster) - postgres_before);
    for child in &mut processes {
        child.kill().await.unwrap();
    }
    let (queries, median) = bystander.result();
    drop(bystander);
    // sessions report their statistics with some delay
    tokio::time::sleep(Duration::from_secs(1)).await;
    let not_ours = looks + u32::try_from(queries).map_or(0.0, f64::from);
    let commits = commits(conn).await - commits_before - not_ours;
    // the time from one tenth of the done events to the next, except the first, which includes the process start
    let tenths: Vec<f64> = sqlx::query_scalar(
        "SELECT ($1 / 10) / extract(epoch FROM t - lag(t) OVER (ORDER BY t))::float8
        FROM unnest((SELECT percentile_disc(ARRAY[0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1])
            WITHIN GROUP (ORDER BY finished_at) FROM billing.outbox
            WHERE finished_at > clock_timestamp() - $2 * interval '1 second')) AS t OFFSET 1",
    )
    .bind(f64::from(events))
    .bind(took.as_secs_f64() + 2.0)
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let dead = "SELECT coalesce(sum(n_dead_tup), 0)::float8 FROM pg_stat_user_tables
        WHERE schemaname = 'billing' AND relname LIKE 'outbox%'";
    Applied {
        events: f64::from(events),
        took,
        tenths,
        worker_cpu,
        postgres_cpu,
        wal: wal(conn).await - wal_before,
        commits,
        dead: sqlx::query_scalar(dead).fetch_one(&mut *conn).await.unwrap(),
        bystander: median,
    }
}
/// Prints the statements by total duration.
async fn print_statements(conn: &mut Connection, events: u32) {
    let query =
        "SELECT coalesce(substring(query FROM '-- ([a-z_.]+)'), left(regexp_replace(query, '\\s+', ' ', 'g'), 50)),
            calls, total_exec_time + total_plan_time, rows::float8
        FROM pg_stat_statements ORDER BY 3 DESC LIMIT 40";
    let rows: Vec<(String, i64, f64, f64)> = sqlx::query_as(AssertSqlSafe(query)).fetch_all(conn).await.unwrap();
    for (name, calls, milliseconds, rows) in rows {
        println!(
            "    {name:50} {calls:8} calls {:8.1} µs an event {:6.2} rows",
            milliseconds * 1e3 / f64::from(events),
            rows / f64::from(events)
        );
    }
}

fn worker(cluster: &Cluster, args: &Args, workers: u32, pooler: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    command
        .args(["serve", "--roles", "worker"])
        .env_clear()
        .env("DATABASE_URL", cluster.url())
        .env("BILLING_SYNC_WORKERS", workers.to_string())
        .env("BILLING_SYNC_POOLER", pooler)
        .env("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0")
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true);
    if let Some(batch) = args.batch {
        command.env("BILLING_SYNC_BATCH_SIZE", batch.to_string());
    }
    command.spawn().unwrap()
}

async fn wal(conn: &mut Connection) -> f64 {
    sqlx::query_scalar("SELECT (pg_current_wal_lsn() - '0/0')::float8").fetch_one(conn).await.unwrap()
}

async fn commits(conn: &mut Connection) -> f64 {
    let query = "SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(query).fetch_one(conn).await.unwrap()
}
