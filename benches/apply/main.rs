//! What applying costs: a queue of realistic events, worked off by the real binary, beside bare SQL that does the same final
//! writes, on the same PostgreSQL right afterwards.
//!
//! `make bench BENCH=apply`. Machines differ and so do hours, so nothing is asserted: the ratio is what counts. A private
//! PostgreSQL with its default settings, fsync on, is made and thrown away.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot run says why, and prints")]

mod bare;
mod events;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use billing_sync::embedded::Cluster;
use billing_sync::migrations;
use clap::Parser;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::process::{Child, Command};

use self::support::report::{Aim, Report};
use self::support::run;

/// Measures how fast a full queue is worked off.
#[derive(Parser)]
struct Args {
    /// Customers, each with ten events.
    #[arg(long, default_value_t = 10_000)]
    customers: u32,
    /// `BILLING_SYNC_WORKERS`.
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// `BILLING_SYNC_BATCH_SIZE`, if not the default.
    #[arg(long)]
    batch: Option<u32>,
    /// Settings of PostgreSQL to add, each as `name=value`.
    #[arg(long)]
    set: Vec<String>,
    /// Says how long each statement took (needs `--set shared_preload_libraries=pg_stat_statements`).
    #[arg(long)]
    statements: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long it took, and what it took.
struct Applied {
    took: Duration,
    /// Events a second in each tenth of the queue.
    tenths: Vec<f64>,
    /// Seconds of processor time of the worker.
    worker_cpu: f64,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let (cluster, _dir) = support::cluster(&args.set).await;
    let mut conn = cluster.connect_options().connect().await.unwrap();
    migrations::run(&mut conn).await.unwrap();
    let bytes = events::fill(&mut conn, 0, args.customers).await;
    let events = 10 * args.customers;
    run(&mut conn, "CHECKPOINT").await;
    if args.statements {
        run(&mut conn, "CREATE EXTENSION pg_stat_statements; SELECT pg_stat_statements_reset()").await;
    }
    let wal = wal(&mut conn).await;
    let applied = apply(&cluster, &mut conn, &args, events).await;
    let wal = self::wal(&mut conn).await - wal;
    let rate = |took: Duration| f64::from(events) / took.as_secs_f64();
    println!("{events} events of {} customers, {} bytes each", args.customers, bytes / u64::from(events));
    let tenths = applied.tenths.iter().map(|one| format!("{one:.0}")).collect::<Vec<_>>().join(" ");
    println!("events a second in each tenth: {tenths}");
    if args.statements {
        print_statements(&mut conn, events).await;
    }
    let bare = bare::writes(&mut conn, i64::from(events)).await;
    let mut report = Report::new("apply");
    report.ratio("apply", rate(applied.took), "events/s", ("bare writes", rate(bare)), Aim::AtLeast(0.8));
    let cpu = applied.worker_cpu * 1e6 / f64::from(events);
    report.figure("worker's processor time an event", cpu, "µs", None);
    report.figure("write-ahead log an event", wal / f64::from(events), "bytes", Aim::AtMost(3800.0));
    report.finish();
    cluster.stop().await.unwrap();
}

/// Starts the worker, and ends it when nothing is pending.
async fn apply(cluster: &Cluster, conn: &mut PgConnection, args: &Args, events: u32) -> Applied {
    let began = Instant::now();
    let mut child = worker(cluster, args);
    let mut worker_cpu = 0.0;
    let pending = "SELECT EXISTS (SELECT FROM billing.outbox WHERE state = 'pending' AND NOT alone)
        OR EXISTS (SELECT FROM billing.outbox WHERE state = 'pending' AND alone)";
    while sqlx::query_scalar(pending).fetch_one(&mut *conn).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(spent) = cpu(child.id().unwrap()) {
            worker_cpu = spent;
        }
    }
    let took = began.elapsed();
    child.kill().await.unwrap();
    // from one tenth of the events done to the next, but for the first, which begins with the process
    let tenths: Vec<f64> = sqlx::query_scalar(
        "SELECT ($1 / 10) / extract(epoch FROM t - lag(t) OVER (ORDER BY t))::float8
        FROM unnest((SELECT percentile_disc(ARRAY[0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1])
            WITHIN GROUP (ORDER BY finished_at) FROM billing.outbox)) AS t OFFSET 1",
    )
    .bind(f64::from(events))
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    Applied { took, tenths, worker_cpu }
}

fn worker(cluster: &Cluster, args: &Args) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    command
        .args(["serve", "--roles", "worker"])
        .env_clear()
        .env("DATABASE_URL", cluster.url())
        .env("BILLING_SYNC_WORKERS", args.workers.to_string())
        .env("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0")
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true);
    if let Some(batch) = args.batch {
        command.env("BILLING_SYNC_BATCH_SIZE", batch.to_string());
    }
    command.spawn().unwrap()
}

/// Seconds of processor time that a process has used.
fn cpu(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
}

async fn wal(conn: &mut PgConnection) -> f64 {
    sqlx::query_scalar("SELECT (pg_current_wal_lsn() - '0/0')::float8").fetch_one(conn).await.unwrap()
}

/// The statements by the time that they took.
async fn print_statements(conn: &mut PgConnection, events: u32) {
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
