//! `renew`: renews due limits once, or lists them. `serve` does this continuously; the command is for checks, and for
//! tests of the product that need a later date.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;

use super::arguments::instant;
use super::progress::Progress;
use super::settings::{DatabaseSettings, SettingArgs};
use super::task::Task;
use super::{database, output};
use crate::base::text::to_the_second;
use crate::config::database::required;
use crate::config::source::Source;
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
    /// Print JSON, one object per line.
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
        let mut conn = match database::current(options).await? {
            Ok(conn) => conn,
            Err(wrong) => return Ok(output::refuse(&wrong)),
        };
        let state = store::state(&mut conn).await?;
        if let Err(wrong) = self.may_run(&state) {
            return Ok(output::refuse(&wrong));
        }
        if self.dry_run {
            self.list(&mut conn, self.now.unwrap_or(state.now)).await
        } else {
            self.renew(&mut conn).await
        }
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

    async fn list(&self, conn: &mut PgConnection, until: OffsetDateTime) -> anyhow::Result<ExitCode> {
        // one snapshot for all pages
        let mut tx = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let subscriptions = store::due_subscriptions(&mut tx, until).await?;
        let (mut periods, mut is_whole) = (0, true);
        for ids in subscriptions.chunks(PAGE) {
            let (page, failed) = set_aside::due(&mut tx, ids, until).await?;
            for (id, error) in &failed {
                output::complain(&format!("cannot compute the limits of {id}: {error}"));
            }
            is_whole &= failed.is_empty();
            if self.json {
                page.iter().try_for_each(output::print_json)?;
            } else {
                output::print(&table(&page, periods == 0))?;
            }
            periods += page.len();
        }
        let output = match periods {
            0 => format!("Nothing is due at {}.", to_the_second(until)),
            _ => format!(
                "{periods} renewals of {} {} are due at {}; nothing was written.",
                subscriptions.len(),
                if subscriptions.len() == 1 { "subscription" } else { "subscriptions" },
                to_the_second(until)
            ),
        };
        if self.json {
            output::complain(&output);
        } else {
            output::print(&if periods == 0 { output } else { format!("\n{output}") })?;
        }
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn renew(&self, conn: &mut PgConnection) -> anyhow::Result<ExitCode> {
        let set_aside = set_aside::make_all_due(conn).await?;
        let mut done = Output::new(store::count_due(conn, self.now).await?);
        let (mut batch_size, mut held_since) = (AdaptiveBatchSize::default(), None::<Instant>);
        loop {
            let batch = batch::renew(conn, self.now, batch_size).await?;
            batch.set(&mut batch_size);
            done.add(batch.done);
            if batch.subscriptions > 0 {
                held_since = None;
                continue;
            }
            let left = store::count_due(conn, self.now).await?;
            if left == 0 {
                break;
            }
            if held_since.get_or_insert_with(Instant::now).elapsed() > LOCK_TIMEOUT {
                done.end(self.json)?;
                anyhow::bail!("{left} due limits are locked by open transactions; `serve` renews them when these end");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // last, so that no other limit waits for it
        set_aside::retry_due(conn, set_aside, Duration::MAX).await?;
        done.end(self.json)?;
        let failing = set_aside::list(conn).await?;
        for one in &failing {
            output::complain(&format!("{} is set aside: {}", one.stripe_subscription_id, one.error));
        }
        Ok(if failing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

/// Output of the command: progress on standard error, the sums on standard output.
struct Output {
    progress: Progress,
    /// Renewals, corrections, amounts carried over and expired, by limit key and outcome.
    sums: BTreeMap<(String, String), (i64, i64, i64, i64)>,
}

impl Output {
    fn new(due: i64) -> Self {
        let template = "{bar:30} {pos}/{len} limits, {per_sec}, {eta} left";
        Self { progress: Progress::new(template, u64::try_from(due).ok()), sums: BTreeMap::new() }
    }

    fn add(&mut self, renewed: Vec<Renewed>) {
        for one in renewed {
            self.progress.bar().inc(u64::try_from(one.renewals).unwrap_or_default());
            let sum = self.sums.entry((one.limit_key, one.outcome)).or_default();
            sum.0 += one.renewals;
            sum.1 += one.corrections;
            sum.2 = sum.2.saturating_add(one.spilled_over);
            sum.3 = sum.3.saturating_add(one.expired);
        }
        let sums = &self.sums;
        self.progress.update(|| format!("{} renewals", sums.values().map(|sum| sum.0).sum::<i64>()));
    }

    fn end(&self, json: bool) -> anyhow::Result<()> {
        self.progress.end();
        for ((limit_key, outcome), (renewals, corrections, spilled_over, expired)) in &self.sums {
            if json {
                output::print_json(&serde_json::json!({
                    "limit_key": limit_key, "outcome": outcome, "renewals": renewals, "corrections": corrections,
                    "spilled_over": spilled_over, "expired": expired,
                }))?;
            } else {
                let corrected = if *corrections > 0 { format!(", {corrections} corrected") } else { String::new() };
                output::print(&format!(
                    "{limit_key}: {renewals} {outcome}{corrected}; {spilled_over} carried over, {expired} expired"
                ))?;
            }
        }
        if self.sums.is_empty() && !json {
            output::print("Nothing was due.")?;
        }
        Ok(())
    }
}
