//! `renew`: renews due limits once, or lists them. `serve` does this continuously; the command is for checks, and for
//! tests of the product that need a later date.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::arguments::instant;
use super::progress::{Extent, Progress};
use super::settings::{DatabaseSettings, SettingArgs};
use super::summary::{self, Ending, Summary};
use super::task::Task;
use super::{database, output};
use crate::base::text::{counted, to_the_second};
use crate::config::database::required;
use crate::config::source::Source;
use crate::database::Connection;
use crate::database::hosts::Hosts;
use crate::domain::renewal::Renewed;
use crate::limits::batch_size::AdaptiveBatchSize;
use crate::limits::store::{self, Due, State};
use crate::limits::{batch, set_aside};

/// Subscriptions per page of the listing.
const PAGE: usize = 1000;

/// How long limits that are locked by other transactions are retried.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `renew`.
#[derive(Debug, clap::Args)]
#[command(after_help = summary::EXIT_CODES)]
pub struct Args {
    /// Renew as if it were this time, such as 2026-12-01T00:00:00Z [default: now].
    #[arg(long, value_name = "TIME", value_parser = instant)]
    now: Option<OffsetDateTime>,
    /// Allow a time in the future; these renewals are permanent.
    #[arg(long, requires = "now")]
    force: bool,
    /// Write nothing; list due renewals.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, one object per line, and the summary as the last one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let options = required(source)?;
        Some(Box::pin(async move { self.run(&options).await }))
    }

    async fn run(self, options: &Hosts) -> anyhow::Result<ExitCode> {
        if self.dry_run {
            let work = async |progress: &Progress, listed: &mut Listed| match self.open(options).await? {
                Ok((mut conn, now)) => self.list(&mut conn, self.now.unwrap_or(now), progress, listed).await,
                Err(wrong) => Ok(Ending::Refused(wrong)),
            };
            return summary::run(Listed::default(), self.json, None, work).await;
        }
        let work = async |progress: &Progress, done: &mut Done| match self.open(options).await? {
            Ok((mut conn, _)) => self.renew(&mut conn, progress, done).await,
            Err(wrong) => Ok(Ending::Refused(wrong)),
        };
        summary::run(Done::default(), self.json, None, work).await
    }

    /// Connects; returns the database's time too. The inner error is a refusal.
    async fn open(&self, options: &Hosts) -> anyhow::Result<Result<(Connection, OffsetDateTime), String>> {
        let mut conn = match database::current(options).await? {
            Ok(conn) => conn,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let state = store::state(&mut conn).await?;
        Ok(self.may_run(&state).map(|()| (conn, state.now)))
    }

    /// Refuses to renew future periods by mistake.
    fn may_run(&self, state: &State) -> Result<(), String> {
        if self.now.is_some_and(|now| now > state.now) && !self.force && !self.dry_run {
            return Err(format!(
                "--now is in the future (the database's time is {}): every period until then would be renewed \
                 permanently; add --force to do that, or --dry-run to list the renewals",
                to_the_second(state.now)
            ));
        }
        match &state.halted_because {
            Some(wrong) => Err(format!(
                "renewals are halted because {wrong}; synchronise the clocks (NTP), then a running `serve` resumes \
                 renewals by itself"
            )),
            None => Ok(()),
        }
    }

    async fn list(
        &self,
        conn: &mut Connection,
        until: OffsetDateTime,
        progress: &Progress,
        listed: &mut Listed,
    ) -> anyhow::Result<Ending> {
        listed.until = Some(until);
        // one snapshot for all pages
        let mut tx = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let subscriptions = store::due_subscriptions(&mut tx, until).await?;
        progress.stage("listing renewals", "subscription", Extent::Total(subscriptions.len() as u64), 0);
        for ids in subscriptions.chunks(PAGE) {
            let (page, failed) = set_aside::due(&mut tx, ids, until).await?;
            for (id, error) in &failed {
                output::complain(&format!("cannot compute the limits of {id}: {error}"));
            }
            if self.json {
                page.iter().try_for_each(output::print_json)?;
            } else if !page.is_empty() {
                output::print(&table(&page, listed.renewals == 0))?;
            }
            listed.renewals += page.len() as u64;
            listed.subscriptions += ids.len() as u64;
            listed.failed += failed.len() as u64;
            progress.add(ids.len() as u64);
        }
        Ok(if listed.failed == 0 { Ending::Complete } else { Ending::Incomplete })
    }

    async fn renew(&self, conn: &mut Connection, progress: &Progress, done: &mut Done) -> anyhow::Result<Ending> {
        let set_aside = set_aside::make_all_due(conn).await?;
        let due = store::count_due(conn, self.now).await?;
        done.nothing_was_due = due == 0;
        let due = Extent::Total(u64::try_from(due).unwrap_or_default());
        progress.stage("renewing limits", "subscription", due, 0);
        let (mut batch_size, mut held) = (AdaptiveBatchSize::default(), None);
        loop {
            let batch = batch::renew(conn, self.now, batch_size).await?;
            batch.set(&mut batch_size);
            done.add(batch.done);
            progress.add(batch.subscriptions as u64);
            progress.facts(counted(done.renewals(), "renewal"));
            if batch.subscriptions > 0 {
                held = None;
                continue;
            }
            let left = store::count_due(conn, self.now).await?;
            if left == 0 {
                break;
            }
            let begin = || (Instant::now(), progress.waits().begin("limits that open transactions have locked", None));
            let (since, _waiting) = held.get_or_insert_with(begin);
            anyhow::ensure!(
                since.elapsed() <= LOCK_TIMEOUT,
                "open transactions have locked due limits of {}; `serve` renews them when these end",
                counted(u64::try_from(left).unwrap_or_default(), "subscription")
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        drop(held);
        // last, so that no other limit waits for it
        progress.stage("retrying what was set aside", "subscription", Extent::Total(set_aside), 0);
        for _ in 0..set_aside {
            set_aside::retry_due(conn, 1, Duration::MAX).await?;
            progress.add(1);
        }
        let failing = set_aside::list(conn).await?;
        for one in &failing {
            output::complain(&format!("{} is set aside: {}", one.stripe_subscription_id, one.error));
        }
        done.set_aside = failing.len() as u64;
        Ok(if failing.is_empty() { Ending::Complete } else { Ending::Incomplete })
    }
}

/// The due renewals as a table. Times and ids are not shortened, because a cut time is ambiguous.
fn table(page: &[Due], with_header: bool) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    if with_header {
        table.set_header(["SUBSCRIPTION", "LIMIT", "RENEWS AT", "OUTCOME", "CARRIED OVER", "EXPIRES"]);
    }
    for due in page {
        table.add_row([
            due.stripe_subscription_id.as_str(),
            &due.limit_key,
            &to_the_second(due.period_end),
            &due.outcome,
            &due.spilled_over.to_string(),
            &due.expired.to_string(),
        ]);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if at >= 4 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// What a dry run has listed.
#[derive(Default)]
struct Listed {
    until: Option<OffsetDateTime>,
    renewals: u64,
    subscriptions: u64,
    failed: u64,
}

impl Summary for Listed {
    fn command(&self) -> &'static str {
        "renew"
    }

    fn text(&self, _took: &str) -> String {
        let Some(until) = self.until.map(to_the_second) else { return "Nothing was listed.".to_owned() };
        let (renewals, are) = (counted(self.renewals, "renewal"), if self.renewals == 1 { "is" } else { "are" });
        match self.renewals {
            0 if self.failed == 0 => format!("Nothing is due at {until}."),
            _ => format!(
                "\n{renewals} of {} {are} due at {until}; nothing was written.",
                counted(self.subscriptions, "subscription")
            ),
        }
    }

    fn json(&self) -> Map<String, Value> {
        summary::map(json!({
            "dry_run": true, "until": self.until.map(to_the_second), "renewals": self.renewals,
            "subscriptions": self.subscriptions, "failed": self.failed,
        }))
    }

    fn has_done_anything(&self) -> bool {
        self.renewals > 0
    }

    fn next_step(&self) -> &'static str {
        "nothing was written; run the command again"
    }
}

/// Counts of the renewals of one limit key with one outcome.
#[derive(Default)]
struct Sum {
    renewals: i64,
    corrections: i64,
    spilled_over: i64,
    expired: i64,
}

/// What was renewed.
#[derive(Default)]
struct Done {
    /// Whether nothing was due at the start.
    nothing_was_due: bool,
    /// By limit key and outcome.
    sums: BTreeMap<(String, String), Sum>,
    /// Subscriptions that stay set aside.
    set_aside: u64,
}

impl Done {
    fn add(&mut self, renewed: Vec<Renewed>) {
        for one in renewed {
            let sum = self.sums.entry((one.limit_key, one.outcome)).or_default();
            sum.renewals += one.renewals;
            sum.corrections += one.corrections;
            sum.spilled_over = sum.spilled_over.saturating_add(one.spilled_over);
            sum.expired = sum.expired.saturating_add(one.expired);
        }
    }

    fn total(&self, of: impl Fn(&Sum) -> i64) -> i64 {
        self.sums.values().map(of).fold(0, i64::saturating_add)
    }

    fn renewals(&self) -> u64 {
        u64::try_from(self.total(|sum| sum.renewals)).unwrap_or_default()
    }
}

impl Summary for Done {
    fn command(&self) -> &'static str {
        "renew"
    }

    fn text(&self, _took: &str) -> String {
        if self.sums.is_empty() {
            return if self.nothing_was_due { "Nothing was due." } else { "Nothing was renewed." }.to_owned();
        }
        let lines = self.sums.iter().map(|((limit_key, outcome), sum)| {
            let Sum { renewals, corrections, spilled_over, expired } = sum;
            let corrected = if *corrections > 0 { format!(", {corrections} corrected") } else { String::new() };
            format!("{limit_key}: {renewals} {outcome}{corrected}; {spilled_over} carried over, {expired} expired")
        });
        lines.map(|line| output::wrapped("", &line)).collect::<Vec<_>>().join("\n")
    }

    fn json(&self) -> Map<String, Value> {
        let limits = self.sums.iter().map(|((limit_key, outcome), sum)| {
            json!({
                "limit_key": limit_key, "outcome": outcome, "renewals": sum.renewals, "corrections": sum.corrections,
                "spilled_over": sum.spilled_over, "expired": sum.expired,
            })
        });
        summary::map(json!({
            "dry_run": false, "renewals": self.renewals(), "corrections": self.total(|sum| sum.corrections),
            "limits": limits.collect::<Vec<_>>(), "set_aside": self.set_aside,
        }))
    }

    fn has_done_anything(&self) -> bool {
        !self.sums.is_empty()
    }

    fn next_step(&self) -> &'static str {
        "what is counted here is renewed; `billing-sync renew` and `serve` renew the rest"
    }
}
