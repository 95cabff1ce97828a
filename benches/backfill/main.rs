//! Cost of a backfill: its writes compared with minimum upserts of the same rows, its memory at two sizes, and its use
//! of the request budget. Runs the real binary against a fake Stripe that generates its objects on request.
//!
//! `make bench`. Nothing is asserted, because results depend on the machine and the time: the ratios matter. Uses a
//! temporary private PostgreSQL with default settings and fsync on.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark panics with the reason, and prints")]

mod bare;
#[path = "../support/memory.rs"]
mod memory;
mod stripe;
#[path = "../support/mod.rs"]
mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use billing_sync::migrations;
use clap::Parser;
use sqlx::ConnectOptions;
use tokio::process::Command;

use self::stripe::{Shop, Stripe};
use self::support::report::{Aim, Report};
use self::support::run;

/// Measures a backfill.
#[derive(Parser)]
struct Args {
    /// Customers, each with a subscription, an invoice, a payment and a charge.
    #[arg(long, default_value_t = 10_000)]
    customers: u32,
    /// Customers with a subscription only, to measure the memory for a big account.
    #[arg(long, default_value_t = 1_000_000)]
    many: u32,
    /// Requests a second, to measure the used share.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Concurrent pages, and connections of the minimum writes.
    #[arg(long, default_value_t = 8)]
    concurrency: u32,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Result of one run of the binary.
struct Ran {
    took: Duration,
    /// Peak resident memory, in MB.
    resident: f64,
    report: serde_json::Value,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let (cluster, _dir) = support::cluster(&[]).await;

    let mut report = Report::new("backfill");
    writing(&cluster, &args, &mut report).await;
    budget(&cluster, &args, &mut report).await;
    memory(&cluster, &args, &mut report).await;
    cluster.stop().await.unwrap();
    report.finish();
}

/// Recreates an empty schema.
async fn begin_anew(cluster: &Cluster) -> Connection {
    let mut conn = Connection::from(cluster.connect_options().connect().await.unwrap());
    run(&mut conn, "DROP SCHEMA IF EXISTS billing CASCADE").await;
    migrations::run(&mut conn).await.unwrap();
    run(&mut conn, "CHECKPOINT").await;
    conn
}

/// Runs `billing-sync backfill` to its end.
async fn backfill(cluster: &Cluster, stripe: &Stripe, concurrency: u32, rate: u32) -> Ran {
    let began = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_billing-sync"))
        .args(["backfill", "--json"])
        .env_clear()
        .env("DATABASE_URL", cluster.url())
        .env("STRIPE_SECRET_KEY", "sk_test_bench")
        .env("STRIPE_API_BASE", stripe.base())
        .env("BILLING_SYNC_STRIPE_RATE", rate.to_string())
        .env("BILLING_SYNC_STRIPE_CONCURRENCY", concurrency.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = child.id().unwrap();
    let watch = tokio::spawn(async move {
        let mut most = 0.0;
        while let Some(peak) = memory::megabytes(pid, "VmHWM") {
            most = peak;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        most
    });
    let output = child.wait_with_output().await.unwrap();
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("{text}"));
    assert!(output.status.success() && report["complete"] == true, "{report:#}");
    Ran { took, resident: watch.await.unwrap(), report }
}

async fn writing(cluster: &Cluster, args: &Args, report: &mut Report) {
    let stripe = Stripe::open(Shop { customers: args.customers, with_past: true, page: 100 }).await;
    let reading = stripe.read_all(args.concurrency).await;
    let mut conn = begin_anew(cluster).await;
    let ours = backfill(cluster, &stripe, args.concurrency, 10_000).await;
    let bare = bare::upserts(&mut conn, &cluster.connect_options(), args.concurrency).await;
    let listing: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM (SELECT max(changed_at) FROM billing.stripe_objects) - started_at)::float8
        FROM billing.backfill_runs",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let (objects, pages) = (&ours.report["objects"], &ours.report["pages"]);
    println!("{} customers: {objects} objects on {pages} pages; bare: {} rows", args.customers, bare.rows);
    let bare_took = bare.took.as_secs_f64();
    report.ratio("backfill, pages", listing, "s", ("bare upserts of the same rows", bare_took), Aim::AtMost(2.5));
    report.figure("of it reading the pages only", reading.as_secs_f64(), "s", None);
    report.figure("the whole run, with the rows computed again", ours.took.as_secs_f64(), "s", None);
    report.figure("its peak resident memory", ours.resident, "MB", Aim::AtMost(64.0));
}

/// A request takes 30 ms and a page has ten objects, so that requests and not writes take the time.
async fn budget(cluster: &Cluster, args: &Args, report: &mut Report) {
    let stripe = Stripe::open(Shop { customers: 1500, with_past: true, page: 10 }).await;
    stripe.answer_after(Duration::from_millis(30));
    begin_anew(cluster).await;
    let ran = backfill(cluster, &stripe, args.concurrency, args.rate).await;
    let used = stripe.used_in_the_middle(args.rate);
    println!("{} requests in {:.1} s", stripe.request_count(), ran.took.as_secs_f64());
    let budget = ("the budget", f64::from(args.rate));
    report.ratio(
        "requests a second, where answers take 30 ms",
        used * f64::from(args.rate),
        "/s",
        budget,
        Aim::AtLeast(0.95),
    );
}

async fn memory(cluster: &Cluster, args: &Args, report: &mut Report) {
    for customers in [args.customers, args.many] {
        let stripe = Stripe::open(Shop { customers, with_past: false, page: 100 }).await;
        begin_anew(cluster).await;
        let ran = backfill(cluster, &stripe, args.concurrency, 10_000).await;
        let rate = ran.report["objects"].as_f64().unwrap() / ran.took.as_secs_f64();
        println!("{customers} customers with a subscription each: {rate:.0} objects a second");
        let what = format!("peak resident memory, {customers} customers");
        report.figure(what, ran.resident, "MB", Aim::AtMost(64.0));
    }
}
