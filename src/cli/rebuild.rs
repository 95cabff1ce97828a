//! `rebuild`: recomputes all rows from the mirror, without any request to Stripe.

use std::process::ExitCode;

use prometheus::Registry;
use serde_json::{Map, Value, json};

use super::progress::{Extent, Progress};
use super::settings::{SettingArgs, StripeSettings};
use super::summary::{self, Ending, Summary};
use super::task::Task;
use super::{changes, database, output};
use crate::base::text::counted;
use crate::config::database::required;
use crate::config::source::Source;
use crate::config::stripe::StripeConfig;
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::hosts::Hosts;
use crate::metrics::process::ProcessMetrics;
use crate::rebuild::run::{Page, Rebuild};
use crate::rebuild::store::{count, unknown};
use crate::worker::Context;

/// Arguments of `rebuild`.
#[derive(Debug, clap::Args)]
#[command(after_help = summary::EXIT_CODES)]
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
    /// Print changes as JSON, one object per line, and the summary as the last one.
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
        configuration: (SyncConfig, WorkerConfig, StripeConfig),
    ) -> anyhow::Result<ExitCode> {
        let (dry_run, one_transaction) = (self.dry_run, !self.customer.is_empty());
        let done = Done { dry_run, one_transaction, objects: 0, changed: 0, queued_reads: 0, failed: 0 };
        summary::run(done, self.json, None, async |progress: &Progress, done: &mut Done| {
            self.rebuild(&database, configuration, progress, done).await
        })
        .await
    }

    async fn rebuild(
        &self,
        database: &Hosts,
        (sync, worker, stripe): (SyncConfig, WorkerConfig, StripeConfig),
        progress: &Progress,
        done: &mut Done,
    ) -> anyhow::Result<Ending> {
        let mut conn = match database::current(database).await? {
            Ok(conn) => conn,
            Err(wrong) => return Ok(Ending::Refused(wrong)),
        };
        let pool = database::pool(database, 2);
        let context = Context::new(pool, sync, worker, ProcessMetrics::new(&Registry::new())?);
        let context = if stripe.secret_key.is_some() { context.with_fetches(stripe.read_margin) } else { context };
        let rebuild = Rebuild::new(context, self.dry_run, progress.waits().clone());
        if self.customer.is_empty() {
            let mut run = rebuild.begin(&mut conn, self.restart).await?;
            let before = u64::try_from(run.objects).unwrap_or_default();
            if before > 0 {
                let before = counted(before, "object");
                output::complain(&format!("resuming after {before}; --restart starts again"));
            }
            progress.stage("rebuilding rows", "object", Extent::Total(count(&mut conn).await?), before);
            while let Some(page) = rebuild.next(&mut run).await? {
                self.add(&page, progress, done)?;
            }
        } else {
            let unknown = unknown(&mut conn, &self.customer).await?;
            anyhow::ensure!(
                unknown.is_empty(),
                "no event or read of {} is stored; check that it is the id of a customer of this account and mode",
                unknown.join(", ")
            );
            progress.stage("rebuilding rows", "customer", Extent::Total(self.customer.len() as u64), 0);
            self.add(&rebuild.customers(&self.customer).await?, progress, done)?;
        }
        Ok(if done.failed == 0 { Ending::Complete } else { Ending::Incomplete })
    }

    /// Counts and prints the results of a page.
    fn add(&self, page: &Page, progress: &Progress, done: &mut Done) -> anyhow::Result<()> {
        done.objects += page.objects;
        done.changed += page.changes.len();
        done.queued_reads += page.queued_reads;
        done.failed += page.failed.len();
        for (key, error) in &page.failed {
            let (kind, id) = (&key.object_type, &key.object_id);
            output::complain(&output::wrapped("", &format!("could not compute {kind} {id}: {error}")));
        }
        progress.add(page.objects as u64);
        progress.facts(format!("{} changed", counted(done.changed as u64, "row")));
        if self.dry_run || self.json {
            page.changes.iter().try_for_each(|change| changes::print(change, self.json))?;
        }
        Ok(())
    }
}

/// What a rebuild has done.
struct Done {
    dry_run: bool,
    /// Whether only some customers are rebuilt, all in one transaction.
    one_transaction: bool,
    objects: usize,
    changed: usize,
    queued_reads: usize,
    failed: usize,
}

impl Summary for Done {
    fn command(&self) -> &'static str {
        "rebuild"
    }

    fn text(&self, took: &str) -> String {
        let would = if self.dry_run { "would be " } else { "" };
        let (objects, rows) = (counted(self.objects as u64, "object"), counted(self.changed as u64, "row"));
        let mut text = format!("{objects} processed, {rows} {would}changed, in {took}");
        if self.queued_reads > 0 {
            let word = if self.dry_run { "would" } else { "will" };
            text = format!("{text}; `serve` {word} fetch {} from Stripe", counted(self.queued_reads as u64, "object"));
        }
        if self.failed > 0 {
            text = format!("{text}; {} could not be processed", counted(self.failed as u64, "object"));
        }
        output::wrapped("", &text)
    }

    fn json(&self) -> Map<String, Value> {
        summary::map(json!({
            "dry_run": self.dry_run, "objects": self.objects, "rows_changed": self.changed,
            "queued_reads": self.queued_reads, "failed": self.failed,
        }))
    }

    fn has_done_anything(&self) -> bool {
        self.objects > 0
    }

    fn next_step(&self) -> &'static str {
        match (self.dry_run, self.one_transaction) {
            (true, _) => "nothing was written; a dry run starts from the beginning",
            (false, true) => "nothing was written; run the command again",
            (false, false) => "`billing-sync rebuild` continues after the last page that was stored",
        }
    }
}
