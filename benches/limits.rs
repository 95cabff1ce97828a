//! Cost of renewals and `consume`, each compared with the minimum SQL for the same work, measured in the same run.
//!
//! `make bench`. Nothing is asserted, because results depend on the machine and the time: the ratios matter. Uses a
//! temporary private PostgreSQL with default settings and fsync on.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark panics with the reason, and prints")]

#[path = "support/memory.rs"]
mod memory;
#[path = "support/pgbench.rs"]
mod pgbench;
mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::limits::store;
use billing_sync::migrations;
use clap::Parser;
use sqlx::ConnectOptions;

use self::pgbench::Pgbench;
use self::support::report::{Aim, Report};
use self::support::run;

/// Measures renewals, the lookup of the next renewal, and `consume`.
#[derive(Parser)]
struct Args {
    /// Subscriptions that are due at once.
    #[arg(long, default_value_t = 1_000_000)]
    subscriptions: u32,
    /// Number of limits for the lookup of the next due one; compared with a thousandth of them.
    #[arg(long, default_value_t = 10_000_000)]
    limits: u32,
    /// Workspaces that consume; at most the number of subscriptions.
    #[arg(long, default_value_t = 100_000)]
    workspaces: u32,
    /// Seconds of each run of pgbench.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let (cluster, _dir) = support::cluster(&[]).await;
    let mut conn = Connection::from(cluster.connect_options().connect().await.unwrap());
    migrations::run(&mut conn).await.unwrap();

    let mut report = Report::new("limits");
    subscribe(&mut conn, args.subscriptions).await;
    renewals(&mut conn, &cluster.url(), args.subscriptions, &mut report).await;
    product(&cluster.url(), &mut conn, args.workspaces.min(args.subscriptions), args.seconds, &mut report).await;
    next_due(&mut conn, args.limits, &mut report).await;
    cluster.stop().await.unwrap();
    report.finish();
}

/// Creates active subscriptions with 1,000,000 words a month, each with its own workspace, all due for one renewal.
async fn subscribe(conn: &mut Connection, count: u32) {
    run(
        conn,
        format!(
            "INSERT INTO billing.pricing_plans (id, account, stripe_price_id, active, price_per_currency)
                VALUES (md5('plan')::uuid, '', 'price_1', true, '{{}}');
            INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited)
                VALUES (md5('limit')::uuid, md5('plan')::uuid, 'words', 1000000, false);
            CREATE TABLE public.began AS SELECT date_trunc('second', clock_timestamp()) - interval '1 month 1 hour' AS at;
            INSERT INTO billing.subscription_timeline
                (account, subscription_id, stated_at, effective_from, source, status, payment_paused, price_ids, quantities, start_date)
                SELECT '', 'sub_' || n, at, at, 'evt_' || n, 'active', false, '{{price_1}}', '{{1}}', at
                FROM public.began, generate_series(1, {count}) AS n;
            INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
                workspace_id, stripe_status, active, payment_paused, sepa_payment_failed, is_trial, is_grace_period,
                stripe_price_id, pricing_plan_id, active_discounts, active_discount_ends, stripe_created_at, started_at)
                SELECT md5('sub_' || n)::uuid, '', 'sub_' || n, 'cus_' || n, md5('cus_' || n)::uuid,
                    md5('workspace_' || n)::uuid, 'active', true, false, false, false, false, 'price_1',
                    md5('plan')::uuid, '{{}}', '{{}}', at, at
                FROM public.began, generate_series(1, {count}) AS n"
        ),
    )
    .await;
    run(conn, "VACUUM ANALYZE").await;
    for first in (1..=count).step_by(10_000) {
        let last = count.min(first + 9_999);
        run(
            conn,
            format!(
                "SELECT billing.create_limits(array_agg(md5('sub_' || n)::uuid)) FROM generate_series({first}, {last}) AS n"
            ),
        )
        .await;
    }
    run(conn, "VACUUM ANALYZE").await;
}

/// The minimum work: updates and inserts the same number of rows, with the same columns and indexes, in one statement.
async fn bare_renewals(conn: &mut Connection) -> Duration {
    run(
        conn,
        "CREATE TABLE public.balances (LIKE billing.subscription_limits INCLUDING ALL) WITH (fillfactor = 85);
        CREATE TABLE public.ledger (LIKE billing.limit_renewals INCLUDING ALL);
        ALTER TABLE public.ledger ADD FOREIGN KEY (subscription_id, limit_key, previous_period_end)
            REFERENCES public.ledger (subscription_id, limit_key, period_end) DEFERRABLE;
        INSERT INTO public.balances SELECT * FROM billing.subscription_limits",
    )
    .await;
    run(conn, "VACUUM ANALYZE public.balances").await;
    run(conn, "CHECKPOINT").await;
    let took = run(
        conn,
        "WITH renewed AS (
            UPDATE public.balances SET spillover = included, used = 0, bonus_used = 0, period_start = renews_at,
                renews_at = renews_at + interval '1 month'
            RETURNING *
        )
        INSERT INTO public.ledger (subscription_id, limit_key, period_start, period_end, included, unlimited, spillover, used,
            bonus_used, outcome, spilled_over, expired, at_anchor, price_ids, quantities, amounts)
        SELECT subscription_id, limit_key, period_start - interval '1 month', period_start, included, unlimited, 0, 0, 0,
            'renewed', included, 0, false, '{price_1}', '{1}', ARRAY[included]
        FROM renewed",
    )
    .await;
    run(conn, "DROP TABLE public.ledger, public.balances").await;
    run(conn, "CHECKPOINT").await;
    took
}

/// A process with the role `renewals`, killed when this value is dropped.
struct Renewing(Child);

impl Renewing {
    fn start(url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
        command
            .args(["serve", "--roles", "renewals", "--ops-listen", "127.0.0.1:0"])
            .env_clear()
            .env("DATABASE_URL", url);
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Peak resident memory, in MB.
    fn peak_memory(&self) -> f64 {
        memory::megabytes(self.0.id(), "VmHWM").unwrap()
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn renewals(conn: &mut Connection, url: &str, count: u32, report: &mut Report) {
    let bare = bare_renewals(conn).await;
    let began = Instant::now();
    let process = Renewing::start(url);
    let mut longest = 0.0_f64;
    loop {
        let transaction: Option<f64> = sqlx::query_scalar(
            "SELECT max(extract(epoch FROM clock_timestamp() - xact_start))::double precision
            FROM pg_stat_activity WHERE application_name LIKE 'billing-sync%'",
        )
        .fetch_one(&mut *conn)
        .await
        .unwrap();
        longest = longest.max(transaction.unwrap_or_default());
        let done = "SELECT (SELECT min(renews_at) FROM billing.subscription_limits) > clock_timestamp()";
        if sqlx::query_scalar::<_, bool>(done).fetch_one(&mut *conn).await.unwrap() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ours = began.elapsed();
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM billing.limit_renewals").fetch_one(&mut *conn).await.unwrap();
    assert_eq!(rows, i64::from(count), "each of them renewed once");
    let what = format!("renewals of {count} due at once");
    let bare = ("bare update and insert", bare.as_secs_f64());
    report.ratio(what, ours.as_secs_f64(), "s", bare, Aim::AtMost(2.0));
    report.figure("its longest transaction, sampled every 50 ms", longest, "s", Aim::AtMost(1.0));
    report.figure("its peak resident memory", process.peak_memory(), "MB", Aim::AtMost(64.0));
}

/// Product queries and updates on 4 connections, each compared with a statement on one row by its unique key.
async fn product(url: &str, conn: &mut Connection, count: u32, seconds: u32, report: &mut Report) {
    let Some(pgbench) = Pgbench::find() else {
        println!("consume and workspace_billing: not measured, because pgbench is not in the PATH");
        return;
    };
    run(
        conn,
        format!(
            "CREATE TABLE public.bare (LIKE billing.subscription_limits INCLUDING ALL) WITH (fillfactor = 85);
            INSERT INTO public.bare SELECT * FROM billing.subscription_limits
            WHERE subscription_id IN (SELECT md5('sub_' || n)::uuid FROM generate_series(1, {count}) AS n);
            CREATE TABLE public.states AS SELECT * FROM billing.workspace_billing LIMIT 0;
            ALTER TABLE public.states ADD PRIMARY KEY (workspace_id);
            INSERT INTO public.states SELECT * FROM billing.workspace_billing"
        ),
    )
    .await;
    run(conn, "VACUUM ANALYZE").await;
    let workspace = format!("\\set n random(1, {count})\n");
    let scripts = [
        (
            "consume",
            "billing.consume(md5('workspace_' || :n)::uuid, 'words', 1)",
            "one-row UPDATE",
            "UPDATE public.bare SET used = used + 1
                WHERE subscription_id = md5('sub_' || :n)::uuid AND limit_key = 'words' RETURNING used",
            Aim::AtLeast(0.7),
        ),
        (
            "workspace_billing by id, all columns",
            "* FROM billing.workspace_billing WHERE workspace_id = md5('workspace_' || :n)::uuid",
            "SELECT of the same row by unique key",
            "SELECT * FROM public.states WHERE workspace_id = md5('workspace_' || :n)::uuid",
            Aim::AtLeast(0.8),
        ),
        (
            "workspace_billing by id, active or not",
            "active, inactive_reason FROM billing.workspace_billing WHERE workspace_id = md5('workspace_' || :n)::uuid",
            "SELECT of the same columns by unique key",
            "SELECT active, inactive_reason FROM public.states WHERE workspace_id = md5('workspace_' || :n)::uuid",
            Aim::AtLeast(0.8),
        ),
    ];
    for (what, ours, ceiling_is, ceiling, aim) in scripts {
        let (ours, ceiling) = (format!("{workspace}SELECT {ours};"), format!("{workspace}{ceiling};"));
        // alternate, twice, so that other load on the machine affects both
        let (mut bare_rate, mut our_rate) = (0.0, 0.0);
        for _ in 0..2 {
            run(conn, "CHECKPOINT").await;
            bare_rate += rate(&pgbench, url, &ceiling, seconds) / 2.0;
            run(conn, "CHECKPOINT").await;
            our_rate += rate(&pgbench, url, &ours, seconds) / 2.0;
        }
        report.ratio(what, our_rate, "/s", (ceiling_is, bare_rate), aim);
    }
}

fn rate(pgbench: &Pgbench, url: &str, script: &str, seconds: u32) -> f64 {
    let options = ["--client=4".to_owned(), format!("--time={seconds}")];
    let (printed, _) = pgbench.run(url, &[script.to_owned()], &options);
    pgbench::rate(&printed)
}

/// The lookup of the next renewal among few limits and among many.
async fn next_due(conn: &mut Connection, limits: u32, report: &mut Report) {
    run(conn, "TRUNCATE billing.subscription_limits, billing.limit_recalculations").await;
    let few = limits / 1000;
    fill(conn, 1, few).await;
    let among_few = look_up(conn).await;
    fill(conn, few + 1, limits).await;
    let among_many = look_up(conn).await;
    let what = format!("lookup of the next renewal among {limits} limits");
    let (few_is, among_few) = (format!("among {few}"), among_few.as_secs_f64() * 1e6);
    report.ratio(what, among_many.as_secs_f64() * 1e6, "µs", (&few_is, among_few), Aim::AtMost(1.5));
}

async fn fill(conn: &mut Connection, first: u32, last: u32) {
    run(
        conn,
        format!(
            "INSERT INTO billing.subscription_limits
                (subscription_id, limit_key, kind, included, unlimited, period_start, renews_at)
            SELECT gen_random_uuid(), 'words', 'renewing', 1000, false, clock_timestamp(),
                clock_timestamp() + interval '1 hour' + random() * interval '31 days'
            FROM generate_series({first}, {last})"
        ),
    )
    .await;
    run(conn, "VACUUM ANALYZE billing.subscription_limits").await;
}

async fn look_up(conn: &mut Connection) -> Duration {
    let mut times = Vec::new();
    for _ in 0..2000 {
        let began = Instant::now();
        store::next_due(conn).await.unwrap().expect("there is one");
        times.push(began.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}
