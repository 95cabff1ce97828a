//! `reconcile`: compares the stored events with Stripe's event list once and stores missing events. `serve` does this
//! continuously; the command is for checks, and for a longer time back.

use std::process::ExitCode;
use std::sync::Arc;

use prometheus::Registry;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

use super::progress::{Extent, Progress};
use super::settings::{SettingArgs, StripeSettings};
use super::summary::{self, Ending, Summary};
use super::task::Task;
use super::{database, output};
use crate::base::clock::RemoteClock;
use crate::base::text::{counted, to_the_second};
use crate::base::waits::Waits;
use crate::client::{self, HttpStripe};
use crate::config::database::required;
use crate::config::source::Source;
use crate::config::stripe::{self, StripeConfig};
use crate::config::sync::SyncConfig;
use crate::database::hosts::Hosts;
use crate::metrics::process::ProcessMetrics;
use crate::reconcile::run::{ComparisonReport, Run, Since};
use crate::reconcile::stats::ReconcileStats;
use crate::reconcile::{Failure, REACH, Reconcile};

/// Arguments of `reconcile`.
#[derive(Debug, clap::Args)]
#[command(after_help = summary::EXIT_CODES)]
pub struct Args {
    /// Compare events created in this last duration (72h), or from this time on (2026-12-01T00:00:00Z), at most 30 days
    /// back [default: from an hour before the watermark].
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    since: Option<Since>,
    /// Print JSON, one object per line and account, and the summary as the last one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<StripeSettings>,
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(Since::At(at));
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        "write a duration with its unit, as in 72h, or a time with its time zone, as in 2026-12-01T00:00:00Z".to_owned()
    })?;
    if ago > REACH.unsigned_abs() {
        return Err("Stripe lists the events of the last 30 days only".to_owned());
    }
    Ok(Since::Ago(ago))
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let database = required(source);
        let (sync, stripe) = (SyncConfig::read(source), stripe::required(source));
        let (database, sync, stripe) = (database?, sync?, stripe?);
        Some(Box::pin(async move { self.run(database, sync, stripe).await }))
    }

    async fn run(self, database: Hosts, sync: SyncConfig, stripe: StripeConfig) -> anyhow::Result<ExitCode> {
        let stop = CancellationToken::new();
        let work = async |progress: &Progress, done: &mut Done| {
            if let Err(wrong) = database::current(&database).await? {
                return Ok(Ending::Refused(wrong));
            }
            let reconcile = open(&database, sync, &stripe, progress.waits())?;
            self.compare(&reconcile, &stop, progress, done).await
        };
        // released at once, the lease does not delay a running `serve`
        summary::run(Done::default(), self.json, Some(stop.clone()), work).await
    }

    async fn compare(
        &self,
        reconcile: &Reconcile,
        stop: &CancellationToken,
        progress: &Progress,
        done: &mut Done,
    ) -> anyhow::Result<Ending> {
        let accounts = reconcile.accounts();
        let mut run = Run::new(reconcile, self.since, stop);
        progress.stage("comparing events", "event", Extent::Unknown, 0);
        for account in &accounts {
            done.stats.push(ReconcileStats::default());
            let mut show_progress = |stats: &ReconcileStats| {
                done.replace_last(stats);
                progress.done(done.compared());
                progress.facts(format!("{} missing", done.inserted()));
            };
            match run.account(account, None, &mut show_progress).await {
                Ok(Some(compared)) => {
                    if self.json {
                        output::print_json(&json(&compared))?;
                    } else if accounts.len() > 1 {
                        output::print(&report(&compared))?;
                    }
                    done.reports.push(compared);
                }
                // only with a pause
                Ok(None) => {}
                Err(Failure::Since(wrong)) => return Ok(Ending::Refused(format!("--since: {wrong}"))),
                Err(Failure::Stopped) => return Ok(Ending::Incomplete),
                // continue: other accounts are not affected
                Err(failure) => {
                    done.failed_accounts += 1;
                    let fix = failure.fix().map(|fix| format!(": {fix}")).unwrap_or_default();
                    let what = format!("could not compare {}: {failure}{fix}", name(account));
                    output::complain(&output::wrapped("error: ", &what));
                }
            }
        }
        let is_complete = |report: &ComparisonReport| report.gap.is_none() && report.stats.unreadable == 0;
        let all_well = done.failed_accounts == 0 && done.reports.iter().all(is_complete);
        Ok(if all_well { Ending::Complete } else { Ending::Incomplete })
    }
}

fn open(database: &Hosts, sync: SyncConfig, stripe: &StripeConfig, waits: &Waits) -> anyhow::Result<Reconcile> {
    let registry = Registry::new();
    let api = HttpStripe::new(stripe, client::metrics(&registry, &[])?, RemoteClock::default())?;
    Ok(Reconcile {
        pool: database::pool(database, 1),
        api: Arc::new(api.with_waits(waits.clone())),
        connected: sync.accounts,
        margin: stripe.read_margin,
        metrics: ProcessMetrics::new(&registry)?,
    })
}

/// What was compared.
#[derive(Default)]
struct Done {
    /// Events of each account, also of those that were not compared completely.
    stats: Vec<ReconcileStats>,
    /// The accounts that were compared completely.
    reports: Vec<ComparisonReport>,
    failed_accounts: u64,
}

impl Done {
    fn replace_last(&mut self, stats: &ReconcileStats) {
        if let Some(last) = self.stats.last_mut() {
            last.clone_from(stats);
        }
    }

    fn sum(&self, of: impl Fn(&ReconcileStats) -> u64) -> u64 {
        self.stats.iter().map(of).sum()
    }

    fn compared(&self) -> u64 {
        self.sum(|stats| stats.compared)
    }

    fn inserted(&self) -> u64 {
        self.sum(ReconcileStats::inserted)
    }
}

impl Summary for Done {
    fn command(&self) -> &'static str {
        "reconcile"
    }

    /// Of a single account, its report.
    fn text(&self, took: &str) -> String {
        if let ([single], 0) = (self.reports.as_slice(), self.failed_accounts) {
            return report(single);
        }
        let accounts = counted(self.reports.len() as u64, "account");
        let mut text = format!(
            "{} compared, {accounts} completely, in {took}: {}",
            counted(self.compared(), "event"),
            missing(self.inserted())
        );
        if self.failed_accounts > 0 {
            text = format!("{text}; {} could not be compared", counted(self.failed_accounts, "account"));
        }
        output::wrapped("", &text)
    }

    fn json(&self) -> Map<String, Value> {
        let gaps = self.reports.iter().filter(|report| report.gap.is_some()).count();
        summary::map(json!({
            "accounts": self.reports.len(), "failed_accounts": self.failed_accounts, "compared": self.compared(),
            "inserted": self.inserted(), "missed": self.sum(|stats| stats.missed),
            "unreadable": self.sum(|stats| stats.unreadable), "gaps": gaps,
        }))
    }

    fn has_done_anything(&self) -> bool {
        self.compared() > 0
    }

    fn next_step(&self) -> &'static str {
        "the missing events counted here are stored; run the command again for the rest"
    }
}

/// The name of an account in messages.
fn name(account: &str) -> String {
    if account.is_empty() { "your own account".to_owned() } else { format!("the account {account}") }
}

fn json(compared: &ComparisonReport) -> Value {
    let stats = &compared.stats;
    let types = stats.found.iter().map(|(event_type, found)| {
        let of_type = json!({ "events": found.events, "examples": found.examples });
        (event_type.clone(), of_type)
    });
    json!({
        "account": compared.account, "from": to_the_second(compared.from), "until": to_the_second(compared.until),
        "compared": stats.compared, "inserted": stats.inserted(), "missed": stats.missed, "unreadable": stats.unreadable,
        "types": types.collect::<Map<_, _>>(),
        "watermark": compared.watermark.map(to_the_second),
        "gap": compared.gap.map(|gap| json!({ "since": to_the_second(gap.since), "until": to_the_second(gap.until) })),
    })
}

/// "1 was missing and is stored now"
fn missing(inserted: u64) -> String {
    match inserted {
        0 => "none was missing".to_owned(),
        1 => "1 was missing and is stored now".to_owned(),
        inserted => format!("{inserted} were missing and are stored now"),
    }
}

/// The report of one account, as lines.
fn report(compared: &ComparisonReport) -> String {
    let stats = &compared.stats;
    let mut lines = Vec::new();
    if !compared.account.is_empty() {
        lines.push(format!("{}:", compared.account));
    }
    let (from, until) = (to_the_second(compared.from), to_the_second(compared.until));
    let (events, missing) = (counted(stats.compared, "event"), missing(stats.inserted()));
    lines.push(output::wrapped("", &format!("{events} compared, from {from} to {until}: {missing}")));
    for (event_type, found) in &stats.found {
        let more =
            if u64::try_from(found.examples.len()).is_ok_and(|named| named < found.events) { ", …" } else { "" };
        let lead = format!("  {:>5} {event_type}: ", found.events);
        lines.push(output::wrapped(&lead, &format!("{}{more}", found.examples.join(", "))));
    }
    if stats.missed > 0 {
        lines.push(output::wrapped(
            "",
            &format!(
                "{} of them should have been delivered more than five minutes ago; check the webhook endpoint in the \
                 Stripe dashboard",
                stats.missed
            ),
        ));
    }
    if stats.unreadable > 0 {
        let unreadable = counted(stats.unreadable, "event");
        lines.push(output::wrapped("", &format!("{unreadable} could not be stored; the log above has the ids")));
    }
    match compared.watermark {
        Some(watermark) if watermark < compared.until => lines.push(output::wrapped(
            "",
            &format!(
                "outside this range, events were compared only up to {}; run again without --since to continue from \
                 there",
                to_the_second(watermark)
            ),
        )),
        None => {
            lines.push(output::wrapped("", "events created earlier have not been compared; run again without --since"));
        }
        Some(_) => {}
    }
    if let Some(gap) = &compared.gap {
        lines.push(output::wrapped("", &format!("there is a gap: {}", gap.describe())));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn since_is_a_duration_or_a_time() {
        assert_eq!(since("72h"), Ok(Since::Ago(Duration::from_hours(72))));
        assert_eq!(since("30d"), Ok(Since::Ago(Duration::from_hours(720))));
        assert!(matches!(since("2026-12-01T00:00:00+01:00"), Ok(Since::At(_))));
        for wrong in ["72", "yesterday", "2026-12-01", "2026-12-01T00:00:00", "31d", ""] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
