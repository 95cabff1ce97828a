//! `rebuild`: recomputes all rows from the mirror, without any request to Stripe.

use std::process::ExitCode;

use prometheus::Registry;

use super::progress::Progress;
use super::settings::{SettingArgs, StripeSettings};
use super::task::Task;
use super::{changes, database, output};
use crate::config::database::required;
use crate::config::source::Source;
use crate::config::stripe::StripeConfig;
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::hosts::Hosts;
use crate::metrics::process::ProcessMetrics;
use crate::rebuild::run::{Page, Rebuild};
use crate::rebuild::store::{estimate, unknown};
use crate::worker::Context;

/// Arguments of `rebuild`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rebuild only this customer and its subscriptions; may be repeated.
    #[arg(long, value_name = "CUSTOMER_ID")]
    customer: Vec<String>,
    /// Write nothing; print what would change, field by field.
    #[arg(long)]
    dry_run: bool,
    /// Start from the beginning, even if an earlier rebuild was interrupted.
    #[arg(long, conflicts_with = "customer")]
    restart: bool,
    /// Print changes as JSON, one object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<StripeSettings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let database = required(source);
        let (sync, stripe) = (SyncConfig::read(source), StripeConfig::read(source));
        let worker = WorkerConfig::read(source);
        let configuration = (sync?, worker?, stripe?);
        let database = database?;
        Some(Box::pin(async move { self.run(database, configuration).await }))
    }

    async fn run(
        self,
        database: Hosts,
        (sync, worker, stripe): (SyncConfig, WorkerConfig, StripeConfig),
    ) -> anyhow::Result<ExitCode> {
        let mut conn = match database::current(&database).await? {
            Ok(conn) => conn,
            Err(wrong) => return Ok(output::refuse(&wrong)),
        };
        let pool = database::pool(&database, 2);
        let context = Context::new(pool, sync, worker, ProcessMetrics::new(&Registry::new())?);
        let context = if stripe.secret_key.is_some() { context.with_fetches(stripe.read_margin) } else { context };
        let rebuild = Rebuild::new(context, self.dry_run);
        let mut output = Output::new(self.dry_run, self.json);
        if self.customer.is_empty() {
            let mut run = rebuild.begin(&mut conn, self.restart).await?;
            if run.objects > 0 {
                output::complain(&format!("resuming after {} objects; --restart starts again", run.objects));
            }
            output.expect(estimate(&mut conn).await?, run.objects);
            while let Some(page) = rebuild.next(&mut run).await? {
                output.page(&page)?;
            }
        } else {
            let unknown = unknown(&mut conn, &self.customer).await?;
            anyhow::ensure!(
                unknown.is_empty(),
                "no event or read of {} is stored; check that it is the id of a customer of this account and mode",
                unknown.join(", ")
            );
            output.page(&rebuild.customers(&self.customer).await?)?;
        }
        output.end()?;
        Ok(if output.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Output of the command: changes on standard output, progress on standard error, because the changes may be JSON.
struct Output {
    dry_run: bool,
    json: bool,
    progress: Progress,
    objects: usize,
    changed: usize,
    queued_reads: usize,
    failed: usize,
}

impl Output {
    fn new(dry_run: bool, json: bool) -> Self {
        Self { dry_run, json, progress: Progress::lines(), objects: 0, changed: 0, queued_reads: 0, failed: 0 }
    }

    /// Sets the expected number of objects, and shows a bar on a terminal, otherwise lines at intervals.
    fn expect(&mut self, objects: u64, done: i64) {
        if !self.dry_run {
            let template = "{bar:30} {pos}/{len} objects, {per_sec}, {eta} left";
            self.progress = Progress::new(template, Some(objects));
            self.progress.bar().set_position(u64::try_from(done).unwrap_or_default());
        }
    }

    fn page(&mut self, page: &Page) -> anyhow::Result<()> {
        self.objects += page.objects;
        self.changed += page.changes.len();
        self.queued_reads += page.queued_reads;
        for (key, error) in &page.failed {
            self.failed += 1;
            let (kind, id) = (&key.object_type, &key.object_id);
            self.progress.print(&format!("could not compute {kind} {id}: {error}"));
        }
        self.progress.bar().inc(u64::try_from(page.objects).unwrap_or_default());
        if self.dry_run || self.json {
            page.changes.iter().try_for_each(|change| changes::print(change, self.json))?;
        }
        let (objects, changed) = (self.objects, self.changed);
        self.progress.update(|| format!("{objects} objects, {changed} rows changed"));
        Ok(())
    }

    fn end(&self) -> anyhow::Result<()> {
        self.progress.end();
        let (would, rows) = (if self.dry_run { "would be " } else { "" }, self.changed);
        let mut text = format!("{} objects processed, {rows} rows {would}changed", self.objects);
        if self.queued_reads > 0 {
            let word = if self.dry_run { "would" } else { "will" };
            text = format!("{text}; `serve` {word} fetch {} objects from Stripe", self.queued_reads);
        }
        if self.failed > 0 {
            text = format!("{text}; {} objects could not be processed", self.failed);
        }
        if self.json {
            output::complain(&text);
            return Ok(());
        }
        output::print(&text)
    }
}
