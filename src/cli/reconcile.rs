//! `reconcile`: compares the stored events with Stripe's event list once and stores missing events. `serve` does this
//! continuously; the command is for checks, and for a longer time back.

use std::process::ExitCode;
use std::sync::Arc;

use prometheus::Registry;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::settings::{SettingArgs, StripeSettings};
use super::task::Task;
use super::{database, output};
use crate::base::clock::RemoteClock;
use crate::base::text::to_the_second;
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
pub struct Args {
    /// Compare events created in this last duration (72h), or from this time on (2026-12-01T00:00:00Z), at most 30 days
    /// back [default: from an hour before the watermark].
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    since: Option<Since>,
    /// Print JSON, one object per line and account.
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
        if let Err(wrong) = database::current(&database).await? {
            return Ok(output::refuse(&wrong));
        }
        let registry = Registry::new();
        let reconcile = Reconcile {
            pool: database::pool(&database, 1),
            api: Arc::new(HttpStripe::new(&stripe, client::metrics(&registry)?, RemoteClock::default())?),
            connected: sync.accounts,
            margin: stripe.read_margin,
            metrics: ProcessMetrics::new(&registry)?,
        };
        self.compare(&reconcile).await
    }

    async fn compare(&self, reconcile: &Reconcile) -> anyhow::Result<ExitCode> {
        let never = CancellationToken::new();
        let mut run = Run::new(reconcile, self.since, &never);
        let mut progress = Progress::new("{spinner} {msg}, {elapsed}", None);
        let mut all_well = true;
        for account in reconcile.accounts() {
            let mut show_progress = |stats: &ReconcileStats| {
                progress.update(|| format!("{} events compared, {} missing", stats.compared, stats.inserted()));
            };
            match run.account(&account, None, &mut show_progress).await {
                Ok(compared) => {
                    progress.bar().suspend(|| compared.iter().try_for_each(|compared| self.print(compared)))?;
                    all_well &= compared.is_some_and(|it| it.gap.is_none() && it.stats.unreadable == 0);
                }
                Err(Failure::Since(wrong)) => {
                    return Ok(output::refuse(&format!("--since: {wrong}")));
                }
                // continue: other accounts are not affected
                Err(failure) => {
                    all_well = false;
                    let fix = failure.fix().map(|fix| format!(": {fix}")).unwrap_or_default();
                    let what = format!("could not compare {}: {failure}{fix}", name(&account));
                    progress.bar().suspend(|| output::complain(&output::wrapped("error: ", &what)));
                }
            }
        }
        progress.end();
        Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(&self, compared: &ComparisonReport) -> anyhow::Result<()> {
        if self.json { output::print_json(&json(compared)) } else { print(compared) }
    }
}

/// The name of an account in messages.
fn name(account: &str) -> String {
    if account.is_empty() { "your own account".to_owned() } else { format!("the account {account}") }
}

fn json(compared: &ComparisonReport) -> serde_json::Value {
    let stats = &compared.stats;
    let types = stats.found.iter().map(|(event_type, found)| {
        let of_type = serde_json::json!({ "events": found.events, "examples": found.examples });
        (event_type.clone(), of_type)
    });
    serde_json::json!({
        "account": compared.account, "from": to_the_second(compared.from), "until": to_the_second(compared.until),
        "compared": stats.compared, "inserted": stats.inserted(), "missed": stats.missed, "unreadable": stats.unreadable,
        "types": types.collect::<serde_json::Map<_, _>>(),
        "watermark": compared.watermark.map(to_the_second),
        "gap": compared.gap.map(|gap| serde_json::json!({ "since": to_the_second(gap.since), "until": to_the_second(gap.until) })),
    })
}

fn print(compared: &ComparisonReport) -> anyhow::Result<()> {
    let stats = &compared.stats;
    if !compared.account.is_empty() {
        output::print(&format!("{}:", compared.account))?;
    }
    let (from, until) = (to_the_second(compared.from), to_the_second(compared.until));
    let inserted = match stats.inserted() {
        0 => "none was missing".to_owned(),
        1 => "1 was missing and is stored now".to_owned(),
        inserted => format!("{inserted} were missing and are stored now"),
    };
    output::print(&output::wrapped(
        "",
        &format!("{} events compared, from {from} to {until}: {inserted}", stats.compared),
    ))?;
    for (event_type, found) in &stats.found {
        let more =
            if u64::try_from(found.examples.len()).is_ok_and(|named| named < found.events) { ", …" } else { "" };
        let lead = format!("  {:>5} {event_type}: ", found.events);
        output::print(&output::wrapped(&lead, &format!("{}{more}", found.examples.join(", "))))?;
    }
    let mut notes = Vec::new();
    if stats.missed > 0 {
        notes.push(format!(
            "{} of them should have been delivered more than five minutes ago; check the webhook endpoint in the \
             Stripe dashboard",
            stats.missed
        ));
    }
    if stats.unreadable > 0 {
        notes.push(format!("{} events could not be stored; the log above names them", stats.unreadable));
    }
    match compared.watermark {
        Some(watermark) if watermark < compared.until => notes.push(format!(
            "outside this range, events were compared only up to {}; run again without --since to continue from there",
            to_the_second(watermark)
        )),
        None => notes.push("events created earlier have not been compared; run again without --since".to_owned()),
        Some(_) => {}
    }
    if let Some(gap) = &compared.gap {
        notes.push(format!("there is a gap: {}", gap.describe()));
    }
    notes.iter().try_for_each(|note| output::print(&output::wrapped("", note)))
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
