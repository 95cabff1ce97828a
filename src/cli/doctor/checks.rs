//! The checks of the database, in the order in which one failure explains the next.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::report::{Check, Report};
use crate::admin::checkup;
use crate::backfill::runs::{self, Open};
use crate::cli::{database, output};
use crate::clock;
use crate::config::embedded::EmbeddedConfig;
use crate::config::stripe::StripeConfig;
use crate::database::hosts::Hosts;
use crate::database::limits::{ConnectionLimit, connection_limits};
use crate::database::shortage::SPARE;
use crate::database::{check_writable, pooler, target};
use crate::embedded::find_server;
use crate::metrics::service::{self, DefaultPartition, MOST_ROWS};
use crate::migrations::{self, MigrationError};
use crate::outbox::foreign::{self, Process};
use crate::text::to_the_second;

/// Months that upkeep always has ahead; it makes one more, which is missing for a moment when a month begins.
const MONTHS_AHEAD: i32 = 2;
/// Well below the 5 minutes after which signatures count as stale.
const CLOCK_TOLERANCE: Duration = Duration::seconds(30);
/// Many more than the few events of odd dates that a default partition is for.
const LARGE_DEFAULT_BYTES: i64 = 64 * 1024 * 1024;
/// Longer than retries of a short outage need.
const OLD_SECONDS: f64 = 300.0;

/// Whether `demo` and `serve --embedded` would find a server. No failure unless it is `needed`: an external database
/// needs none.
pub(super) fn embedded(config: &EmbeddedConfig, needed: bool) -> Check {
    match find_server(&config.options()) {
        Ok((dir, major)) => Check::ok("embedded", format!("PostgreSQL {major} in {}", dir.display())),
        Err(error) if needed => Check::failed("embedded", error.to_string(), "`serve --embedded` cannot start without"),
        Err(error) => Check::warning("embedded", error.to_string(), "needed for `demo` and `serve --embedded` only"),
    }
}

/// What there is to say of the embedded database, which lives only while `serve` does.
pub(super) fn not_looked_at() -> Check {
    let detail = "its checks are skipped: `serve --embedded` starts and migrates it, and its /readyz says how it is";
    Check::ok("database", detail)
}

/// Connects and checks; ends early where the rest would only repeat the same failure.
pub(super) async fn database(
    options: Option<&Hosts>,
    stripe: Option<&StripeConfig>,
    wanted: Option<u32>,
    report: &mut Report,
) {
    let Some(options) = options else {
        let mend = "set DATABASE_URL, or give --embedded to check what `serve --embedded` needs";
        return report.add(Check::failed("database", "there is no database to look at", mend));
    };
    if let Some(wrong) = database::pooled(options).await {
        return report.add(Check::failed("pooler", wrong, pooler::FIX));
    }
    let mut conn = match database::reach(options).await {
        Ok(conn) => conn,
        Err(error) => {
            let mend = "start the database, or correct DATABASE_URL; the server's log has the other side";
            return report.add(Check::failed("database", output::causes(&error), mend));
        }
    };
    let conn = &mut conn;
    let place = target(options.current());
    report.add(server(conn, &place).await.unwrap_or_else(|error| broken("database", &error)));
    report.add(connections(conn, wanted).await.unwrap_or_else(|error| broken("connections", &error)));
    report.add(writes(conn).await);
    report.add(durability(conn).await.unwrap_or_else(|error| broken("durability", &error)));
    report.add(clocks(conn).await.unwrap_or_else(|error| broken("clock", &error)));
    match migrations::pending(conn).await {
        Ok(status) if status.is_current() => report.add(Check::ok("migrations", status.describe())),
        Ok(status) => {
            return report.add(Check::failed("migrations", status.describe(), status.mend()));
        }
        Err(error) => return report.add(broken("migrations", &error)),
    }
    report.add(partitions(conn).await.unwrap_or_else(|error| broken("partitions", &error)));
    match service::default_partitions(conn).await {
        Ok(figures) => figures.iter().for_each(|one| report.add(default_partition(one))),
        Err(error) => report.add(broken("partitions", &error)),
    }
    match service::outbox(conn).await {
        Ok(figures) => outbox(&figures).into_iter().for_each(|check| report.add(check)),
        Err(error) => report.add(broken("outbox", &error)),
    }
    match checkup::not_generated(conn).await {
        Ok((0, _)) => {}
        Ok((count, last)) => report.add(not_generated(count, last)),
        Err(error) => report.add(broken("outbox", &error)),
    }
    match foreign::contradicting(conn).await {
        Ok(processes) => contradiction(&processes).into_iter().for_each(|check| report.add(check)),
        Err(error) => report.add(broken("settings", &error)),
    }
    match service::jobs(conn).await {
        Ok(figures) => super::stripe::jobs(&figures, report),
        Err(error) => report.add(broken("jobs", &error)),
    }
    match service::limits(conn).await {
        Ok(figures) => report.add(limits(&figures)),
        Err(error) => report.add(broken("limits", &error)),
    }
    match service::orphans(conn).await {
        Ok(figures) => report.add(super::orphans::check(&figures)),
        Err(error) => report.add(broken("orphans", &error)),
    }
    match service::comparison(conn).await {
        Ok(figures) => super::stripe::comparison(&figures, stripe).into_iter().for_each(|check| report.add(check)),
        Err(error) => report.add(broken("reconcile", &error)),
    }
    match runs::open(conn).await {
        Ok(open) => report.add(backfill(open.as_ref())),
        Err(error) => report.add(broken("backfill", &error)),
    }
    if let Some(config) = stripe {
        super::stripe::api(config, conn).await.into_iter().for_each(|check| report.add(check));
    }
}

/// A backfill that nobody works on was stopped, and has not read everything.
fn backfill(open: Option<&Open>) -> Check {
    match open {
        None => Check::ok("backfill", "none is open"),
        Some(open) if open.alive => Check::ok("backfill", "one is at work"),
        Some(open) => {
            let minutes = (open.silent_seconds / 60.0).ceil();
            let detail = format!("one was stopped before its end, {minutes:.0} min ago");
            Check::warning("backfill", detail, "`billing-sync backfill --resume` goes on with it")
        }
    }
}

fn broken(check: &'static str, error: &dyn std::error::Error) -> Check {
    Check::failed(check, error.to_string(), "the database user needs to read the schema billing; see the server's log")
}

async fn server(conn: &mut PgConnection, place: &str) -> Result<Check, sqlx::Error> {
    let name = checkup::server_name(conn).await?;
    let detail = format!("PostgreSQL {name} at {place}");
    Ok(match migrations::check_server(conn).await {
        Ok(()) => Check::ok("database", detail),
        Err(MigrationError::Database(error)) => return Err(error),
        Err(error) => Check::failed("database", format!("{detail}: {error}"), "use a server and a database that fit"),
    })
}

/// Whether all parts of `serve` can be connected at a time; they take turns where they cannot.
async fn connections(conn: &mut PgConnection, wanted: Option<u32>) -> Result<Check, sqlx::Error> {
    let limits = connection_limits(conn).await?;
    let Some(ConnectionLimit { limit, allowed, open }) = limits.into_iter().min_by_key(|limit| limit.allowed) else {
        return Err(sqlx::Error::RowNotFound);
    };
    let there = format!("the {limit} allows {allowed}, of which {open} are open");
    Ok(match wanted.map(|parts| parts + SPARE) {
        Some(wanted) if allowed < i64::from(wanted) => Check::warning(
            "connections",
            format!("{there}; a process with all roles wants up to {wanted}, {SPARE} of them to spare"),
            "raise the limit, or start fewer roles; until then the receiver comes first and the others take turns",
        ),
        Some(wanted) => Check::ok("connections", format!("{there}; a process with all roles wants up to {wanted}")),
        None => Check::ok("connections", there),
    })
}

/// What `serve` needs before all else.
async fn writes(conn: &mut PgConnection) -> Check {
    match check_writable(conn).await {
        Ok(writable) => match writable.note() {
            None => Check::ok("writes", "a row was written".to_owned()),
            Some(note) => Check::warning("writes", note.to_owned(), "grant it, or watch the disk by other means"),
        },
        Err(error) => Check::failed("writes", error.to_string(), "until then every delivery is answered 503"),
    }
}

/// That a stored event is safe is a promise of the database's.
async fn durability(conn: &mut PgConnection) -> Result<Check, sqlx::Error> {
    let off = checkup::missing_durability(conn).await?;
    Ok(if off.is_empty() {
        Check::ok("durability", "fsync and full_page_writes are on")
    } else {
        let detail = format!(
            "off on the server: {}; a power cut may lose events that Stripe was told are stored",
            off.join(", ")
        );
        Check::warning("durability", detail, "switch it on in postgresql.conf and reload the server")
    })
}

/// The database's time is compared with the middle of the question's way.
async fn clocks(conn: &mut PgConnection) -> Result<Check, sqlx::Error> {
    let before = clock::now();
    let theirs = checkup::clock(conn).await?;
    let ours = before + (clock::now() - before) / 2;
    let apart: Duration = theirs - ours;
    let apart = apart.abs();
    let detail = format!("the database's clock and ours are {:.3} s apart", apart.as_seconds_f64());
    Ok(if apart <= CLOCK_TOLERANCE {
        Check::ok("clock", detail)
    } else {
        Check::failed("clock", detail, "let both machines follow a time server (NTP); signatures depend on ours")
    })
}

async fn partitions(conn: &mut PgConnection) -> Result<Check, sqlx::Error> {
    let missing = checkup::missing_partitions(conn, MONTHS_AHEAD).await?;
    Ok(if missing.is_empty() {
        Check::ok("partitions", format!("those of this month and the next {MONTHS_AHEAD} are there"))
    } else {
        // nothing is lost: the default partitions take what has no month
        let mend = "run `serve` with the role upkeep; its log says what fails. Or SELECT billing.create_partitions(3)";
        Check::warning("partitions", format!("missing: {}", missing.join(", ")), mend)
    })
}

/// Each process ignores what the other ones process.
fn contradiction(processes: &[Process]) -> Option<Check> {
    let one = |Process { name, livemode, accounts }: &Process| {
        format!("{name} has BILLING_SYNC_LIVEMODE={livemode}, BILLING_SYNC_ACCOUNTS={}", accounts.join(","))
    };
    let all = processes.iter().map(one).collect::<Vec<_>>().join("; ");
    let detail = format!("processes with different settings work on this database: {all}");
    (!processes.is_empty()).then(|| Check::warning("settings", detail, "give all of them the same settings"))
}

/// Events that Stripe failed to generate are in no list. The objects that it named were read instead.
fn not_generated(count: i64, last: Option<OffsetDateTime>) -> Check {
    let last = last.map(|at| format!(", most recently at {}", to_the_second(at))).unwrap_or_default();
    let detail = format!(
        "Stripe failed to generate events {count} times in the last 30 days{last}; it named the objects, and \
                          they are read"
    );
    Check::warning("events", detail, "`verify` shows whether anything else differs")
}

/// Events dated far ahead or far back stay in the default partitions; a large one has taken months that nobody made.
fn default_partition(figures: &DefaultPartition) -> Check {
    let (Some(oldest), Some(newest)) = (figures.oldest, figures.newest) else {
        return Check::ok("partitions", format!("{} is empty", figures.name));
    };
    let rows = if figures.rows < MOST_ROWS { figures.rows.to_string() } else { format!("{MOST_ROWS} or more") };
    let mut detail = format!("{} has {rows} rows, created {} to {}", figures.name, oldest.date(), newest.date());
    if figures.is_splitting {
        detail += "; it is being split by month";
        return Check::warning("partitions", detail, "`serve` with the role upkeep goes on with it; its log says how");
    }
    if figures.bytes > LARGE_DEFAULT_BYTES {
        let megabytes = figures.bytes / (1024 * 1024);
        let mend = "run `serve` with the role upkeep, which moves rows to the partition of their month";
        return Check::warning("partitions", format!("{detail}, {megabytes} MB"), mend);
    }
    Check::ok("partitions", detail)
}

fn outbox(figures: &service::Outbox) -> Vec<Check> {
    let detail = format!("{} pending, {} dead, {} done", figures.pending, figures.dead, figures.done);
    let mut checks = vec![Check::ok("outbox", detail)];
    if figures.oldest_pending_age_seconds > OLD_SECONDS {
        let minutes = figures.oldest_pending_age_seconds / 60.0;
        let detail = format!("the oldest pending event has waited for {minutes:.0} minutes");
        let mend = "does `serve` run with the role worker? `outbox list --state pending` shows what fails";
        checks.push(Check::warning("outbox", detail, mend));
    }
    if figures.dead > 0 {
        let mend = "`outbox list --state dead`, `outbox show`, then `outbox retry` or `outbox discard`";
        checks.push(Check::warning("outbox", "dead events wait for a decision", mend));
    }
    checks
}

fn limits(figures: &service::Limits) -> Check {
    let minutes = figures.oldest_due_age_seconds / 60.0;
    if let Some(why) = &figures.halted_because {
        let mend = "put the clocks right (NTP); renewals go on and catch up by themselves";
        return Check::failed("limits", format!("nothing is renewed, because {why}"), mend);
    }
    if figures.oldest_due_age_seconds > OLD_SECONDS {
        let detail = format!("{} are due for renewal, the oldest for {minutes:.0} minutes", figures.due);
        let mend = "does `serve` run with the role renewals? its log says what keeps it; `renew --dry-run` lists them";
        return Check::warning("limits", detail, mend);
    }
    Check::ok("limits", format!("{} are due for renewal", figures.due))
}
