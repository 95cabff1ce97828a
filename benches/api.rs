//! The workspace API under load, compared with `pgbench` running the same statements in the same run.
//!
//! `make bench BENCH=api`. Nothing is asserted, because results depend on the machine and the time: the ratios matter.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark panics with the reason, and prints")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

#[path = "support/connection.rs"]
mod connection;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/pgbench.rs"]
mod pgbench;
mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use billing_sync::api::principal::Scope;
use billing_sync::api::principal::token_store::{self, NewToken};
use billing_sync::api::statements;
use billing_sync::database;
use billing_sync::migrations;
use clap::Parser;
use sqlx::ConnectOptions;
use uuid::Uuid;

use self::connection::{Connection, get};
use self::pgbench::Pgbench;
use self::support::report::{Aim, Report};
use self::support::run;

/// Path of the API.
const PREFIX: &str = "/api/workspace-service";
/// Connections of the clients, and of pgbench.
const CONNECTIONS: usize = 64;
/// Time in which the service must start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Measures GET of a workspace, and a page of a search.
#[derive(Parser)]
struct Args {
    /// Workspaces, of which every fifth has a contact and a subscription with three limits.
    #[arg(long, default_value_t = 1_000_000)]
    workspaces: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// `billing-sync serve --roles api`.
struct Service {
    child: Child,
    address: SocketAddr,
    token: String,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let Some(pgbench) = Pgbench::find() else {
        println!("not measured, because pgbench is not in the PATH");
        return;
    };
    // as many connections as pgbench needs
    let (cluster, _dir) = support::cluster(&[]).await;
    let mut conn = database::Connection::from(cluster.connect_options().connect().await.unwrap());
    migrations::run(&mut conn).await.unwrap();
    fill(&mut conn, args.workspaces).await;
    let token = token(&mut conn).await;
    // the service turns JIT off in its sessions, too
    let url = format!("{}&options=-c%20jit%3Doff", cluster.url());

    let mut report = Report::new("api");
    let service = Service::start(&cluster.url(), token);
    let with_rows = args.workspaces / 5;
    let statement =
        statements::WORKSPACE.replace("$1", "public.id(0, :n)").replace("$2", "true").replace("$3", "NULL::uuid");
    let (ours, bare) = alternate(
        || {
            service.rate(args.seconds, |n| {
                format!("/v1/workspaces/{}", Uuid::from_u128(u128::from(n % u64::from(with_rows) + 1)))
            })
        },
        || pgbench_rate(&pgbench, &url, &statement, with_rows, args.seconds),
    );
    let what = format!("GET of a workspace, {CONNECTIONS} connections");
    report.ratio(what, ours, "/s", ("pgbench, the same SELECT", bare), Aim::AtLeast(0.5));

    let pattern = "'%' || to_hex(4096 + :n % 61440) || '%'";
    let mut statement = statements::search_statement().replace("$8", "0").replace("$7", "50");
    for number in 1..=6 {
        statement = statement.replace(&format!("${number}"), pattern);
    }
    let (ours, bare) = alternate(
        || service.rate(args.seconds, |n| format!("/v1/workspaces?size=50&search={:x}", 4096 + n % 61_440)),
        || pgbench_rate(&pgbench, &url, &statement, args.workspaces, args.seconds),
    );
    let what = format!("page of 50 of a search in {}", args.workspaces);
    let (ours, bare) = (1e3 * CONNECTIONS as f64 / ours, 1e3 * CONNECTIONS as f64 / bare);
    report.ratio(what, ours, "ms", ("pgbench, the same SELECT", bare), Aim::AtMost(3.0));
    let peak = memory::megabytes(service.child.id(), "VmHWM").unwrap();
    report.figure("peak resident memory under both loads", peak, "MB", Aim::AtMost(64.0));
    drop(service);
    cluster.stop().await.unwrap();
    report.finish();
}

/// Runs both twice in turn, so that other load on the machine affects both; returns the averages.
fn alternate(ours: impl Fn() -> f64, bare: impl Fn() -> f64) -> (f64, f64) {
    let (mut of_ours, mut of_bare) = (0.0, 0.0);
    for _ in 0..2 {
        of_bare += bare() / 2.0;
        of_ours += ours() / 2.0;
    }
    (of_ours, of_bare)
}

fn pgbench_rate(pgbench: &Pgbench, url: &str, statement: &str, most: u32, seconds: u32) -> f64 {
    let script = format!("\\set n random(1, {most})\n{statement};");
    let options = [format!("--client={CONNECTIONS}"), format!("--time={seconds}")];
    let (printed, _) = pgbench.run(url, &[script], &options);
    pgbench::rate(&printed)
}

/// Creates workspaces, and for every fifth a contact, a subscription and its limits. The id of workspace `n` is the number
/// `n`; the ids of its other rows follow from it.
async fn fill(conn: &mut database::Connection, workspaces: u32) {
    let with_rows = workspaces / 5;
    run(
        conn,
        format!(
            "CREATE FUNCTION public.id(kind integer, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
                AS $$ SELECT (lpad(to_hex(kind), 8, '0') || lpad(to_hex(n), 24, '0'))::uuid $$;
            INSERT INTO billing.workspaces (id, name, key, created_at)
                SELECT public.id(0, n), 'Team ' || md5(n::text), 'WS-' || n, timestamptz '2024-01-01' + n * interval '1 minute'
                FROM generate_series(1, {workspaces}) AS n;
            INSERT INTO billing.workspace_members (workspace_id, user_id, role)
                SELECT public.id(0, n), public.id(1, n / 5), 'owner' FROM generate_series(1, {workspaces}) AS n;
            INSERT INTO billing.billing_contacts (id, account, stripe_customer_id, name, email, workspace_id, stripe_created_at)
                SELECT public.id(2, n), '', 'cus_' || n, 'Name ' || n, n || '@example.com', public.id(0, n), clock_timestamp()
                FROM generate_series(1, {with_rows}) AS n;
            INSERT INTO billing.pricing_plans (id, account, stripe_price_id, product_name, price_in_euro, price_per_currency)
                SELECT public.id(3, n), '', 'price_' || n, 'Plan', 19.90, jsonb_build_object('eur', 19.90) FROM generate_series(0, 19) AS n;
            INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
                workspace_id, stripe_status, active, payment_paused, is_trial, is_grace_period, stripe_price_id,
                pricing_plan_id, active_discounts, active_discount_ends, stripe_created_at, started_at)
                SELECT public.id(4, n), '', 'sub_' || n, 'cus_' || n, public.id(2, n), public.id(0, n), 'active', true, false,
                    false, false, 'price_' || n % 20, public.id(3, n % 20), '{{}}', '{{}}', clock_timestamp(), clock_timestamp()
                FROM generate_series(1, {with_rows}) AS n;
            INSERT INTO billing.subscription_limits (subscription_id, limit_key, kind, included, unlimited, period_start, renews_at)
                SELECT public.id(4, n), limit_key, CASE limit_key WHEN 'members' THEN 'capacity' ELSE 'renewing' END, 1000, false,
                    clock_timestamp(), CASE limit_key WHEN 'members' THEN NULL ELSE clock_timestamp() + interval '29 days' END
                FROM generate_series(1, {with_rows}) AS n, unnest(ARRAY['words', 'images', 'members']) AS limit_key"
        ),
    )
    .await;
    run(conn, "VACUUM ANALYZE").await;
}

async fn token(conn: &mut database::Connection) -> String {
    let token = token_store::random_token().unwrap();
    let new = NewToken { token: &token, scopes: &[Scope::WorkspacesAdmin], user: None, note: None, lifetime: None };
    token_store::create(conn, &new).await.unwrap();
    token.expose()
}

impl Service {
    fn start(url: &str, token: String) -> Self {
        let (address, ops) = (free_address(), free_address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
        command.args(["serve", "--roles", "api"]).env_clear().env("DATABASE_URL", url);
        command.env("BILLING_SYNC_API_LISTEN", address.to_string()).env("BILLING_SYNC_OPS_LISTEN", ops.to_string());
        // one principal sends all requests
        command.env("BILLING_SYNC_API_RATE", "1000000");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let child = command.spawn().unwrap();
        while !get(ops, "/readyz").is_ok_and(|status| status == 200) {
            assert!(began.elapsed() < START_LIMIT, "billing-sync is not ready");
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, address, token }
    }

    /// Requests a second over keep-alive connections, each of which sends its next request when the last is answered.
    fn rate(&self, seconds: u32, path: impl Fn(u64) -> String + Sync) -> f64 {
        let (sent, began) = (AtomicU64::new(0), Instant::now());
        let time = Duration::from_secs(u64::from(seconds));
        let drive = || {
            let mut connection = Connection::open(self.address).unwrap();
            while began.elapsed() < time {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                // spread over the rows
                let path = path(number.wrapping_mul(2_654_435_761) >> 7);
                let request =
                    format!("GET {}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", PREFIX, self.token);
                assert_eq!(connection.exchange(request.as_bytes()).unwrap(), 200, "{path}");
            }
        };
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(drive);
            }
        });
        sent.into_inner() as f64 / began.elapsed().as_secs_f64()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address whose port was free a moment ago, below the system's ephemeral ports.
fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(20_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
