//! Sends the same events to Supabase's stripe-sync-engine and to billing-sync, alternating, each with its own database.
//!
//! `make bench-peer`, which installs the peer into `target/peer`. The peer is a library: `server.mjs` is a minimal HTTP
//! server around it. The peer answers after writing an event; billing-sync answers after storing it and applies it
//! afterwards. So billing-sync is measured until everything is applied.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark panics with the reason, prints, and uses floating point"
)]

#[path = "../support/connection.rs"]
mod connection;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/memory.rs"]
mod memory;
#[path = "../../tests/support/month.rs"]
mod month;
#[path = "../support/service.rs"]
mod service;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use billing_sync::config::secret::WebhookSecret;
use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use billing_sync::migrations;
use clap::Parser;
use sqlx::ConnectOptions;

use self::connection::get;
use self::load::{Events, Target, closed_loop};
use self::service::{SECRET, Service, free_address};
use self::support::report::{Aim, Report};
use self::support::run;

/// Compares billing-sync with Supabase's stripe-sync-engine.
#[derive(Parser)]
struct Args {
    /// Customers, each with ten events.
    #[arg(long, default_value_t = 2_000)]
    customers: u32,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Runs of each, alternating.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A run has no time limit.
const NO_LIMIT: Duration = Duration::MAX;

/// Start timeout of the peer, after which the benchmark fails.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Result of one run.
struct Ran {
    /// Events a second, from the first delivery until everything is written.
    rate: f64,
    /// Events a second, until everything is answered.
    stored: f64,
    /// 99th percentile of the answer time, in milliseconds.
    p99: f64,
    /// Resident memory afterwards, in MB.
    memory: f64,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peer");
    if !folder.join("node_modules/@supabase/stripe-sync-engine").is_dir() {
        println!("the peer is not installed: run `make bench-peer`, which needs node and npm");
        return;
    }
    let (cluster, _dir) = support::cluster(&[]).await;
    let mut conn = Connection::from(cluster.connect_options().connect().await.unwrap());
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        peers.push(peer(&cluster, &mut conn, &folder, &args).await);
        ours.push(our_own(&cluster, &mut conn, &args).await);
    }
    println!(
        "The peer runs as one process with its defaults. It made no request to Stripe: it does not read objects \
         that an event only references, nor complete long lists. Nor does billing-sync without an API key.\n"
    );
    let mean = |runs: &[Ran], of: fn(&Ran) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    let mut report = Report::new("bench-peer");
    let mut compare = |what: &str, unit: &'static str, of: fn(&Ran) -> f64, aim: Aim| {
        report.ratio(what, mean(&ours, of), unit, ("stripe-sync-engine", mean(&peers, of)), aim);
    };
    compare("delivered and applied", "events/s", |run| run.rate, Aim::AtLeast(1.0));
    compare("p99 of the answer", "ms", |run| run.p99, Aim::AtMost(1.0));
    compare("resident memory afterwards", "MB", |run| run.memory, Aim::AtMost(1.0));
    report.figure("delivered and stored, by us", mean(&ours, |run| run.stored), "events/s", None);
    cluster.stop().await.unwrap();
    report.finish();
}

/// Runs billing-sync with all roles until nothing is pending.
async fn our_own(cluster: &Cluster, conn: &mut Connection, args: &Args) -> Ran {
    run(conn, "DROP SCHEMA IF EXISTS billing CASCADE").await;
    migrations::run(conn).await.unwrap();
    run(conn, "CHECKPOINT").await;
    let service = Service::start(&cluster.url(), None);
    let events = Events::of(args.customers);
    let began = Instant::now();
    let outcome = closed_loop(&service.target(), &events, args.connections, NO_LIMIT);
    let pending = "SELECT EXISTS (SELECT FROM billing.outbox WHERE state = 'pending')";
    while sqlx::query_scalar(pending).fetch_one(&mut *conn).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let contacts =
        "SELECT count(*) FROM billing.billing_contacts JOIN billing.subscriptions USING (stripe_customer_id)";
    assert_eq!(count(conn, contacts).await, i64::from(args.customers), "all of them applied");
    assert_eq!(outcome.accepted, 10 * args.customers as usize);
    Ran {
        rate: outcome.accepted as f64 / took.as_secs_f64(),
        stored: outcome.rate(),
        p99: outcome.percentile(0.99),
        memory: service.memory(),
    }
}

async fn peer(cluster: &Cluster, conn: &mut Connection, folder: &Path, args: &Args) -> Ran {
    run(conn, "DROP SCHEMA IF EXISTS stripe CASCADE").await;
    run(conn, "CHECKPOINT").await;
    let peer = Peer::start(&cluster.url(), folder);
    let events = Events::of(args.customers);
    let outcome = closed_loop(&peer.target(), &events, args.connections, NO_LIMIT);
    let subscribed = "SELECT count(*) FROM stripe.customers AS c JOIN stripe.subscriptions AS s ON s.customer = c.id";
    assert_eq!(count(conn, subscribed).await, i64::from(args.customers), "all of them written");
    assert_eq!(outcome.accepted, 10 * args.customers as usize);
    assert!(peer.is_ready(), "it tried to call Stripe");
    Ran {
        rate: outcome.rate(),
        stored: outcome.rate(),
        p99: outcome.percentile(0.99),
        memory: memory::megabytes(peer.child.id(), "VmRSS").unwrap(),
    }
}

async fn count(conn: &mut Connection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(conn).await.unwrap()
}

/// The peer's process, killed when this value is dropped.
struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(url: &str, folder: &Path) -> Self {
        let address = free_address();
        let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/server.mjs");
        let child = Command::new("node")
            .arg(server)
            .current_dir(folder)
            .env("DATABASE_URL", url)
            .env("STRIPE_WEBHOOK_SECRET", SECRET)
            .env("PORT", address.port().to_string())
            .env("NODE_ENV", "production")
            .stdin(Stdio::null())
            .spawn()
            .expect("node, which the peer needs");
        let peer = Self { child, address };
        let began = Instant::now();
        while !peer.is_ready() {
            assert!(began.elapsed() < START_LIMIT, "the peer does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        peer
    }

    /// Whether the peer answers and has not tried to call Stripe.
    fn is_ready(&self) -> bool {
        get(self.address, "/").is_ok_and(|status| status == 200)
    }

    fn target(&self) -> Target {
        Target { address: self.address, path: "/", secret: WebhookSecret::new(SECRET).unwrap() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
