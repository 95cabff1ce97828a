//! The checks of the database, in the order in which one failure explains the next.

use time::{Duration, OffsetDateTime};

use super::endpoints;
use super::report::{Check, Report};
use crate::admin::checkup;
use crate::backfill::run_store::{self, UnfinishedRun};
use crate::base::clock;
use crate::base::text::to_the_second;
use crate::cli::database;
use crate::cli::units::span;
use crate::config::embedded::EmbeddedConfig;
use crate::config::retention::RetentionConfig;
use crate::config::settings;
use crate::config::stripe::StripeConfig;
use crate::database::hosts::Hosts;
use crate::database::limits::{ConnectionLimit, connection_limits};
use crate::database::shortage::SPARE;
use crate::database::{Connection, check_writable, pooler, target};
use crate::embedded::find_server;
use crate::metrics;
use crate::metrics::database::{DefaultPartition, MOST_ROWS};
use crate::migrations::{self, MigrationError};
use crate::outbox::processes::{self, Process};
use crate::outbox::sample;

/// Future months that always have partitions. The maintenance role creates one more, which is missing for a moment at
/// the start of a month.
const MONTHS_AHEAD: i32 = 2;
/// Tolerated clock difference: well below the 5 minutes after which signatures count as stale.
const CLOCK_TOLERANCE: Duration = Duration::seconds(30);
/// Size above which a default partition holds more than the few events with odd dates that it is for.
const LARGE_DEFAULT_BYTES: i64 = 64 * 1024 * 1024;
/// Age above which a pending item is reported: longer than the retries after a short outage.
pub(crate) const OLD_SECONDS: f64 = 300.0;

/// Checks whether `demo` and `serve --embedded` find a server. It is a failure only if `needed`: an external database
/// needs no local server.
pub(super) fn embedded(config: &EmbeddedConfig, needed: bool) -> Check {
    match find_server(&config.options()) {
        Ok((dir, major)) => Check::ok("embedded", format!("PostgreSQL {major} in {}", dir.display())),
        Err(error) if needed => Check::failed("embedded", error.to_string(), "`serve --embedded` needs it to start"),
        Err(error) => Check::warning("embedded", error.to_string(), "needed for `demo` and `serve --embedded` only"),
    }
}

/// The line about the embedded database, which runs only while `serve` does.
pub(super) fn embedded_not_checked() -> Check {
    let detail = "not checked: `serve --embedded` starts and migrates it, and reports its state at /readyz";
    Check::ok("database", detail)
}

/// The settings with which the database and Stripe are compared; each is absent if it is invalid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings<'a> {
    /// How Stripe's API is reached.
    pub(super) stripe: Option<&'a StripeConfig>,
    /// How long data is kept.
    pub(super) retention: Option<&'a RetentionConfig>,
    /// Database connections that `serve` with all its roles uses.
    pub(super) connections: Option<u32>,
    /// The webhook endpoint to check, from the command line.
    pub(super) endpoint_url: Option<&'a str>,
    /// Whether connected accounts are synced.
    pub(super) has_accounts: bool,
}

/// Connects and checks; returns early if further checks would only repeat the same failure.
pub(super) async fn database(options: Option<&Hosts>, settings: Settings<'_>, report: &mut Report) {
    let Settings { stripe, retention, connections: wanted, endpoint_url, has_accounts } = settings;
    let Some(options) = options else {
        let fix = "set DATABASE_URL, or use --embedded to check what `serve --embedded` needs";
        return report.add(Check::failed("database", "no database is configured", fix));
    };
    if let Some(wrong) = database::pooled(options).await {
        return report.add(Check::failed("pooler", wrong, pooler::FIX));
    }
    let mut conn = match database::reach(options).await {
        Ok(conn) => conn,
        Err(error) => {
            return report.add(Check::failed("database", error.to_string(), error.fix()));
        }
    };
    let conn = &mut conn;
    let place = target(&options.current().options);
    report.add(server(conn, &place).await.unwrap_or_else(|error| Check::broken("database", &error)));
    report.add(connections(conn, wanted).await.unwrap_or_else(|error| Check::broken("connections", &error)));
    report.add(writes(conn).await);
    report.add(durability(conn).await.unwrap_or_else(|error| Check::broken("durability", &error)));
    report.add(clocks(conn).await.unwrap_or_else(|error| Check::broken("clock", &error)));
    match migrations::pending(conn).await {
        Ok(status) if status.is_current() => report.add(Check::ok("migrations", status.describe())),
        Ok(status) => {
            return report.add(Check::failed("migrations", status.describe(), status.fix()));
        }
        Err(MigrationError::Database(error)) => return report.add(Check::broken("migrations", &error)),
        // its text names the fix
        Err(error) => return report.add(Check::failed("migrations", error.to_string(), "then run `doctor` again")),
    }
    report.add(partitions(conn).await.unwrap_or_else(|error| Check::broken("partitions", &error)));
    match metrics::database::default_partitions(conn).await {
        Ok(figures) => figures.iter().for_each(|one| report.add(default_partition(one))),
        Err(error) => report.add(Check::broken("partitions", &error)),
    }
    match super::disk::checks(conn, retention).await {
        Ok(checks) => checks.into_iter().for_each(|check| report.add(check)),
        Err(error) => report.add(Check::broken("disk", &error)),
    }
    match metrics::database::outbox(conn).await {
        Ok(figures) => outbox(&figures).into_iter().for_each(|check| report.add(check)),
        Err(error) => report.add(Check::broken("outbox", &error)),
    }
    match checkup::not_generated(conn).await {
        Ok((0, _)) => {}
        Ok((count, last)) => report.add(not_generated(count, last)),
        Err(error) => report.add(Check::broken("outbox", &error)),
    }
    match processes::contradicting(conn).await {
        Ok(processes) => contradiction(&processes).into_iter().for_each(|check| report.add(check)),
        Err(error) => report.add(Check::broken("settings", &error)),
    }
    match metrics::database::jobs(conn).await {
        Ok(figures) => super::stripe::jobs(&figures, report),
        Err(error) => report.add(Check::broken("jobs", &error)),
    }
    match metrics::database::limits(conn).await {
        Ok(figures) => report.add(limits(&figures)),
        Err(error) => report.add(Check::broken("limits", &error)),
    }
    match metrics::database::orphans(conn).await {
        Ok(figures) => report.add(super::orphans::check(&figures)),
        Err(error) => report.add(Check::broken("orphans", &error)),
    }
    match metrics::database::comparison(conn).await {
        Ok(figures) => super::stripe::comparison(&figures, stripe).into_iter().for_each(|check| report.add(check)),
        Err(error) => report.add(Check::broken("reconcile", &error)),
    }
    match metrics::database::writes(conn).await {
        Ok(figures) => super::writes::ledger(&figures).into_iter().for_each(|check| report.add(check)),
        Err(error) => report.add(Check::broken("changes", &error)),
    }
    match run_store::open(conn).await {
        Ok(open) => report.add(backfill(open.as_ref())),
        Err(error) => report.add(Check::broken("backfill", &error)),
    }
    if let Some(config) = stripe {
        let last_version = sample::last_version(conn).await.unwrap_or_else(|error| {
            report.add(Check::broken("endpoints", &error));
            None
        });
        let wanted = endpoints::Wanted {
            url: endpoint_url,
            livemode: config.livemode(),
            has_accounts,
            last_version: last_version.as_deref(),
        };
        super::stripe::api(config, wanted, conn).await.into_iter().for_each(|check| report.add(check));
        super::writes::key(config, conn).await.into_iter().for_each(|check| report.add(check));
    }
}

/// Reports an unfinished backfill. One that no process is running was interrupted and is incomplete.
fn backfill(open: Option<&UnfinishedRun>) -> Check {
    match open {
        None => Check::ok("backfill", "none is unfinished"),
        Some(open) if open.alive => Check::ok("backfill", "one is running"),
        Some(open) => {
            let detail = format!("one was interrupted {} ago", span(open.seconds_since_heartbeat));
            Check::warning("backfill", detail, "`billing-sync backfill --resume` resumes it")
        }
    }
}

async fn server(conn: &mut Connection, place: &str) -> Result<Check, sqlx::Error> {
    let name = checkup::server_name(conn).await?;
    let detail = format!("PostgreSQL {name} at {place}");
    Ok(match migrations::check_server(conn).await {
        Ok(()) => Check::ok("database", detail),
        Err(MigrationError::Database(error)) => return Err(error),
        Err(error) => Check::failed("database", format!("{detail}: {error}"), "use a supported server and database"),
    })
}

/// Checks whether all parts of `serve` can be connected at the same time; otherwise they take turns.
async fn connections(conn: &mut Connection, wanted: Option<u32>) -> Result<Check, sqlx::Error> {
    let limits = connection_limits(conn).await?;
    let Some(ConnectionLimit { limit, allowed, open }) = limits.into_iter().min_by_key(|limit| limit.allowed) else {
        return Err(sqlx::Error::RowNotFound);
    };
    let there = format!("the {limit} allows {allowed}, of which {open} are open");
    if conn.shares_session() {
        let detail = format!("{there}; how many sessions the pooler opens is its own setting");
        return Ok(Check::ok("connections", detail));
    }
    Ok(match wanted.map(|parts| parts + SPARE) {
        Some(wanted) if allowed < i64::from(wanted) => Check::warning(
            "connections",
            format!("{there}; a process with all roles uses up to {wanted}, including {SPARE} spare ones"),
            "raise the limit, or run fewer roles; until then the receiver has priority and the other roles take turns",
        ),
        Some(wanted) => Check::ok("connections", format!("{there}; a process with all roles uses up to {wanted}")),
        None => Check::ok("connections", there),
    })
}

/// Checks whether the database accepts writes.
async fn writes(conn: &mut Connection) -> Check {
    match check_writable(conn).await {
        Ok(writable) => match writable.note() {
            None => Check::ok("writes", "a test row was written".to_owned()),
            Some(note) => Check::warning("writes", note.to_owned(), "grant it, or monitor the disk by other means"),
        },
        Err(error) => Check::failed("writes", error.to_string(), "until it is fixed, every delivery is answered 503"),
    }
}

/// Checks the server settings that make a commit durable.
async fn durability(conn: &mut Connection) -> Result<Check, sqlx::Error> {
    let off = checkup::missing_durability(conn).await?;
    Ok(if off.is_empty() {
        Check::ok("durability", "fsync and full_page_writes are on")
    } else {
        let detail = format!(
            "off on the server: {}; a power failure may lose events that were acknowledged to Stripe",
            off.join(", ")
        );
        Check::warning("durability", detail, "turn it on in postgresql.conf and reload the server")
    })
}

/// Compares the clocks. The database's time is compared with the middle of the query's duration.
async fn clocks(conn: &mut Connection) -> Result<Check, sqlx::Error> {
    let before = clock::now();
    let theirs = checkup::clock(conn).await?;
    let ours = before + (clock::now() - before) / 2;
    let apart: Duration = theirs - ours;
    let apart = apart.abs();
    let detail = format!("the clocks of the database and of this machine differ by {:.3} s", apart.as_seconds_f64());
    Ok(if apart <= CLOCK_TOLERANCE {
        Check::ok("clock", detail)
    } else {
        Check::failed("clock", detail, "synchronise both clocks (NTP); signature checks depend on this machine's clock")
    })
}

async fn partitions(conn: &mut Connection) -> Result<Check, sqlx::Error> {
    let missing = checkup::missing_partitions(conn, MONTHS_AHEAD).await?;
    Ok(if missing.is_empty() {
        Check::ok("partitions", format!("those of this month and the next {MONTHS_AHEAD} months exist"))
    } else {
        // nothing is lost: events without a monthly partition go to the default partitions
        let fix = "run `serve` with the role maintenance and see its log, or run SELECT billing.create_partitions(3)";
        Check::warning("partitions", format!("missing: {}", missing.join(", ")), fix)
    })
}

/// Reports processes with contradictory settings. Removed data cannot be restored, so a difference of the retention is
/// a failure.
fn contradiction(processes: &[Process]) -> Option<Check> {
    let one = |Process { name, settings }: &Process| format!("{name} has {}", settings.join(", "));
    let all = processes.iter().map(one).collect::<Vec<_>>().join("; ");
    let removes = |setting: &String| {
        [&settings::RETENTION, &settings::REDACT_AFTER].iter().any(|of| setting.starts_with(&format!("{}=", of.name)))
    };
    let fix = "use the same settings for all processes, and restart those with other ones";
    if processes.is_empty() {
        None
    } else if processes.iter().flat_map(|process| &process.settings).any(removes) {
        let detail =
            format!("processes with different settings use this database, and the shorter time removes data: {all}");
        Some(Check::failed("settings", detail, fix))
    } else {
        let detail = format!("processes with different settings use this database: {all}");
        Some(Check::warning("settings", detail, fix))
    }
}

/// Reports events that Stripe failed to generate. They are in no list; the objects that Stripe named are fetched.
fn not_generated(count: i64, last: Option<OffsetDateTime>) -> Check {
    let last = last.map(|at| format!(", most recently at {}", to_the_second(at))).unwrap_or_default();
    let detail = format!(
        "Stripe failed to generate events {count} times in the last 30 days{last}; the objects named are fetched"
    );
    Check::warning("events", detail, "run `verify` to check whether anything else differs")
}

/// Checks a default partition. Events with dates far in the past or future stay there; a large one holds months for
/// which no partition was created.
fn default_partition(figures: &DefaultPartition) -> Check {
    let (Some(oldest), Some(newest)) = (figures.oldest, figures.newest) else {
        return Check::ok("partitions", format!("{} is empty", figures.name));
    };
    let rows = if figures.rows < MOST_ROWS { figures.rows.to_string() } else { format!("{MOST_ROWS} or more") };
    let mut detail = format!("{} has {rows} rows, created {} to {}", figures.name, oldest.date(), newest.date());
    if figures.is_splitting {
        detail += "; it is being split by month";
        let fix = "run `serve` with the role maintenance, which continues the split; see its log";
        return Check::warning("partitions", detail, fix);
    }
    if figures.bytes > LARGE_DEFAULT_BYTES {
        let megabytes = figures.bytes / (1024 * 1024);
        let fix = "run `serve` with the role maintenance, which moves rows to monthly partitions";
        return Check::warning("partitions", format!("{detail}, {megabytes} MB"), fix);
    }
    Check::ok("partitions", detail)
}

fn outbox(figures: &metrics::database::Outbox) -> Vec<Check> {
    let detail = format!("{} pending, {} dead, {} done", figures.pending, figures.dead, figures.done);
    let mut checks = vec![Check::ok("outbox", detail)];
    if figures.oldest_pending_age_seconds > OLD_SECONDS {
        let detail = format!("the oldest pending event has waited for {}", span(figures.oldest_pending_age_seconds));
        let fix = "run `serve` with the role worker; `outbox list --state pending` shows failing events";
        checks.push(Check::warning("outbox", detail, fix));
    }
    if figures.dead > 0 {
        let fix = "`outbox list --state dead`, `outbox show`, then `outbox retry` or `outbox discard`";
        checks.push(Check::warning("outbox", "there are dead events", fix));
    }
    checks
}

fn limits(figures: &metrics::database::Limits) -> Check {
    if let Some(why) = &figures.halted_because {
        let fix = "synchronise the clocks (NTP); renewals then resume and catch up by themselves";
        return Check::failed("limits", format!("renewals are halted because {why}"), fix);
    }
    if figures.oldest_due_age_seconds > OLD_SECONDS {
        let detail =
            format!("{} are due for renewal, the oldest for {}", figures.due, span(figures.oldest_due_age_seconds));
        let fix = "run `serve` with the role renewals and see its log; `renew --dry-run` lists due renewals";
        return Check::warning("limits", detail, fix);
    }
    Check::ok("limits", format!("{} are due for renewal", figures.due))
}
