//! `renew`: renews what is due, once, or lists it. `serve` does so all the time; this is for a look, and for tests of the
//! product that need a later date.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;

use super::progress::Progress;
use super::settings::{SettingArgs, Uses};
use super::{Task, database, instant, output};
use crate::config::database::required;
use crate::config::settings::Concern;
use crate::config::source::Source;
use crate::database::hosts::Hosts;
use crate::domain::renewal::Renewed;
use crate::renewals::ledger::{self, Due, State};
use crate::renewals::pace::Pace;
use crate::renewals::{batch, set_aside};
use crate::text::to_the_second;

/// Subscriptions in one page of the listing.
const PAGE: usize = 1000;

/// For so long what others hold is tried again.
const PATIENCE: Duration = Duration::from_secs(30);

/// The settings of `renew`: the rules of renewal are in the database, where `serve` has written them.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const CONCERNS: &'static [Concern] = &[Concern::Database, Concern::Log];
}

/// Arguments of `renew`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Renew as if it were this time, 2026-12-01T00:00:00Z for example [default: now].
    #[arg(long, value_name = "TIME", value_parser = instant)]
    now: Option<OffsetDateTime>,
    /// Allow a time beyond the present: what is renewed stays renewed.
    #[arg(long, requires = "now")]
    force: bool,
    /// Write nothing, and list what is due.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
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
        let state = ledger::state(&mut conn).await?;
        if let Err(wrong) = self.may_run(&state) {
            return Ok(output::refuse(&wrong));
        }
        if self.dry_run {
            self.list(&mut conn, self.now.unwrap_or(state.now)).await
        } else {
            self.renew(&mut conn).await
        }
    }

    /// Refuses what would give away months by mistake.
    fn may_run(&self, state: &State) -> Result<(), String> {
        if self.now.is_some_and(|now| now > state.now) && !self.force && !self.dry_run {
            return Err(format!(
                "--now is beyond the present, which the database says is {}: every month until then would be renewed \
                 for good; give --force as well if that is what you want, or --dry-run to see it",
                to_the_second(state.now)
            ));
        }
        match &state.halted_because {
            Some(wrong) => Err(format!(
                "nothing is renewed at present, because {wrong}; put the clocks right (NTP): a running `serve` ends the \
                 halt by itself"
            )),
            None => Ok(()),
        }
    }

    async fn list(&self, conn: &mut PgConnection, until: OffsetDateTime) -> anyhow::Result<ExitCode> {
        // one state of things for all pages
        let mut tx = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let subscriptions = ledger::due_subscriptions(&mut tx, until).await?;
        let (mut periods, mut is_whole) = (0, true);
        for ids in subscriptions.chunks(PAGE) {
            let (page, failed) = set_aside::due(&mut tx, ids, until).await?;
            for (id, error) in &failed {
                output::complain(&format!("subscription {id} cannot be computed: {error}"));
            }
            is_whole &= failed.is_empty();
            if self.json {
                page.iter().try_for_each(output::print_json)?;
            } else {
                output::print(&table(&page, periods == 0))?;
            }
            periods += page.len();
        }
        let told = match periods {
            0 => format!("Nothing is due at {}.", to_the_second(until)),
            _ => format!(
                "{periods} renewals of {} {} are due at {}; nothing was written.",
                subscriptions.len(),
                if subscriptions.len() == 1 { "subscription" } else { "subscriptions" },
                to_the_second(until)
            ),
        };
        if self.json {
            output::complain(&told);
        } else {
            output::print(&if periods == 0 { told } else { format!("\n{told}") })?;
        }
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn renew(&self, conn: &mut PgConnection) -> anyhow::Result<ExitCode> {
        let set_aside = set_aside::hasten(conn).await?;
        let mut done = Told::new(ledger::count_due(conn, self.now).await?);
        let (mut pace, mut held_since) = (Pace::default(), None::<Instant>);
        loop {
            let batch = batch::renew(conn, self.now, pace).await?;
            batch.set(&mut pace);
            done.add(batch.done);
            if batch.subscriptions > 0 {
                held_since = None;
                continue;
            }
            let left = ledger::count_due(conn, self.now).await?;
            if left == 0 {
                break;
            }
            if held_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                done.end(self.json)?;
                anyhow::bail!(
                    "{left} limits are due and held by open transactions of others; `serve` renews them as soon as \
                     those end"
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // after the others, which are not to wait for it
        set_aside::retry_due(conn, set_aside, Duration::MAX).await?;
        done.end(self.json)?;
        let failing = set_aside::list(conn).await?;
        for one in &failing {
            output::complain(&format!("{} is set aside: {}", one.stripe_subscription_id, one.error));
        }
        Ok(if failing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Without the year's first letters nobody could tell a month from another: times stay whole, ids too.
fn table(page: &[Due], with_header: bool) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    if with_header {
        table.set_header(["SUBSCRIPTION", "LIMIT", "RENEWS AT", "OUTCOME", "SPILLS OVER", "EXPIRES"]);
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

/// What was done: progress on standard error, the sums on standard output.
struct Told {
    progress: Progress,
    /// By limit key and outcome: renewals, corrections, spilled over, expired.
    sums: BTreeMap<(String, String), (i64, i64, i64, i64)>,
}

impl Told {
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
        self.progress.say(|| format!("{} renewals", sums.values().map(|sum| sum.0).sum::<i64>()));
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
                    "{limit_key}: {renewals} {outcome}{corrected}; {spilled_over} spilled over, {expired} expired"
                ))?;
            }
        }
        if self.sums.is_empty() && !json {
            output::print("Nothing was due.")?;
        }
        Ok(())
    }
}
