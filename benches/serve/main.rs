//! Cost of receiving events, and the delay from the delivery of an event until it is visible. Runs the real binary with
//! the load generator of `support/load.rs`, compared with `pgbench` inserting the same payloads into one table of the
//! same PostgreSQL.
//!
//! `make bench BENCH=serve`. Nothing is asserted, because results depend on the machine and the time: the ratios
//! matter. Uses a temporary private PostgreSQL with default settings and fsync on.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark panics with the reason, prints, and uses floating point"
)]

mod ceiling;
#[path = "../support/connection.rs"]
mod connection;
mod delay;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/memory.rs"]
mod memory;
#[path = "../../tests/support/month.rs"]
mod month;
mod open;
#[path = "../support/pgbench.rs"]
mod pgbench;
mod process;
#[path = "../support/service.rs"]
mod service;
mod size;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use billing_sync::migrations;
use clap::Parser;
use sqlx::ConnectOptions;

use self::ceiling::Ceiling;
use self::load::{Events, Outcome, closed_loop};
use self::open::{WARM_UP, open_loop, schedule};
use self::pgbench::Pgbench;
use self::service::Service;
use self::support::report::{Aim, Report};
use self::support::run;

/// Measures the receiver and the whole service.
#[derive(Parser)]
struct Args {
    /// Seconds of each run; the last one takes four times as long.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Runs of billing-sync and of pgbench, alternating.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure one part only: process, ack, one, many, delay or size.
    #[arg(long)]
    only: Option<String>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Number of customers, each with ten events: enough for a run.
const CUSTOMERS: u32 = 30_000;

/// Connections of the load generator in runs with many connections.
const MANY: usize = 64;

/// State shared by the parts of the benchmark.
struct Bench {
    cluster: Cluster,
    conn: Connection,
    pgbench: Option<Pgbench>,
    time: Duration,
    rounds: usize,
    report: Report,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let (cluster, _dir) = support::cluster(&[]).await;
    let conn = Connection::from(cluster.connect_options().connect().await.unwrap());
    let pgbench = Pgbench::find();
    if pgbench.is_none() {
        println!("pgbench is not in the PATH: comparisons with it are not measured");
    }
    let time = Duration::from_secs(args.seconds);
    let mut bench = Bench { cluster, conn, pgbench, time, rounds: args.rounds, report: Report::new("serve") };
    let measures = |part: &str| args.only.as_deref().is_none_or(|only| only == part);
    if measures("process") {
        process::start(&mut bench).await;
    }
    if measures("many") {
        bench.many_connections().await;
    }
    if measures("one") {
        bench.one_connection().await;
    }
    if measures("ack") {
        bench.acknowledgement().await;
    }
    if measures("delay") {
        delay::measure(&mut bench).await;
    }
    if measures("size") {
        size::measure(&mut bench).await;
    }
    let Bench { cluster, report, .. } = bench;
    cluster.stop().await.unwrap();
    report.finish();
}

impl Bench {
    /// Recreates an empty schema.
    async fn begin_anew(&mut self) {
        run(&mut self.conn, "DROP SCHEMA IF EXISTS billing CASCADE").await;
        migrations::run(&mut self.conn).await.unwrap();
        run(&mut self.conn, "CHECKPOINT").await;
    }

    /// Runs the load on a new process with these roles and an empty schema.
    async fn ours(&mut self, roles: Option<&str>, load: impl FnOnce(&load::Target, &Events) -> Outcome) -> Outcome {
        self.begin_anew().await;
        let events = Events::of(CUSTOMERS);
        let service = Service::start(&self.cluster.url(), roles);
        let outcome = load(&service.target(), &events);
        assert_eq!(self.stored().await, outcome.accepted, "what was acknowledged is stored");
        outcome
    }

    async fn stored(&mut self) -> usize {
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM billing.outbox");
        count.fetch_one(&mut self.conn).await.unwrap().try_into().unwrap()
    }

    /// The same work by pgbench.
    async fn bare(&mut self, clients: usize, rate: Option<f64>, time: Duration) -> Option<Ceiling> {
        let pgbench = self.pgbench.as_ref()?;
        ceiling::prepare(&mut self.conn).await;
        Some(ceiling::insert(pgbench, &self.cluster.url(), clients, rate, time))
    }

    /// Reports a figure with its ceiling, or without one if there is none.
    fn beside(
        &mut self,
        what: &str,
        figure: f64,
        unit: &'static str,
        ceiling: (&str, Option<f64>),
        aim: impl Into<Option<Aim>>,
    ) {
        match ceiling {
            (is, Some(ceiling)) => self.report.ratio(what, figure, unit, (is, ceiling), aim),
            (_, None) => self.report.figure(what, figure, unit, None),
        }
    }

    async fn many_connections(&mut self) {
        let time = self.time;
        let (mut receiver, mut all, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            bare.extend(self.bare(MANY, None, time).await);
            receiver.push(self.ours(Some("receiver"), |to, events| closed_loop(to, events, MANY, time)).await);
            all.push(self.ours(None, |to, events| closed_loop(to, events, MANY, time)).await);
        }
        let (rate, p99) = ceiling_of(&bare);
        let (insert, its_p99) = ("pgbench INSERT, 64 clients", "p99 of pgbench INSERT, 64 clients");
        self.beside(
            "receiver only, 64 connections",
            mean_rate(&receiver),
            "events/s",
            (insert, rate),
            Aim::AtLeast(1.0),
        );
        self.beside("its p99", mean_p99(&receiver), "ms", (its_p99, p99), None);
        self.beside("all roles, 64 connections", mean_rate(&all), "events/s", (insert, rate), Aim::AtLeast(0.8));
        self.beside("its p99", mean_p99(&all), "ms", (its_p99, p99), None);
    }

    async fn one_connection(&mut self) {
        let time = self.time / 2;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            bare.extend(self.bare(1, None, time).await);
            ours.push(self.ours(Some("receiver"), |to, events| closed_loop(to, events, 1, time)).await);
        }
        let (rate, p99) = ceiling_of(&bare);
        let insert = ("pgbench INSERT, 1 client", rate);
        self.beside("receiver only, 1 connection", mean_rate(&ours), "events/s", insert, Aim::AtLeast(0.7));
        self.beside("its p99", mean_p99(&ours), "ms", ("p99 of pgbench INSERT, 1 client", p99), None);
    }

    async fn acknowledgement(&mut self) {
        let time = self.time + WARM_UP;
        let due = schedule(1000.0, time);
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            bare.extend(self.bare(MANY, Some(1000.0), time).await);
            ours.push(self.ours(None, |to, events| open_loop(to, events, MANY, &due, Instant::now())).await);
        }
        let (_, p99) = ceiling_of(&bare);
        let is = "p99 of pgbench --rate=1000";
        self.beside("p99 of the answer, 1,000/s, all roles", mean_p99(&ours), "ms", (is, p99), Aim::AtMost(1.0));
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn mean_rate(outcomes: &[Outcome]) -> f64 {
    mean(outcomes.iter().map(Outcome::rate))
}

fn mean_p99(outcomes: &[Outcome]) -> f64 {
    mean(outcomes.iter().map(|outcome| outcome.percentile(0.99)))
}

/// Rate and p99 of the ceiling, if measured.
fn ceiling_of(bare: &[Ceiling]) -> (Option<f64>, Option<f64>) {
    if bare.is_empty() {
        return (None, None);
    }
    (Some(mean(bare.iter().map(|one| one.rate))), Some(mean(bare.iter().map(|one| one.percentile(0.99)))))
}
