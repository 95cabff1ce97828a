//! `backfill`: reads all objects that rows are derived from, or those of some customers; `--dry-run` shows the changes.

mod lists;

use std::process::ExitCode;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::lists::Lists;
use super::arguments::instant;
use super::comparison::{Comparison, OutputFormat, Purpose};
use super::output;
use super::progress::Progress;
use super::settings::{SettingArgs, StripeSettings};
use super::stripe_session::StripeSession;
use super::summary::{self, Ending};
use super::task::Task;
use crate::backfill::{Backfill, RunSelection};
use crate::config::source::Source;
use crate::verify::compare::Selection;

/// Arguments of `backfill`.
#[derive(Debug, clap::Args)]
#[command(after_help = summary::EXIT_CODES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// Backfill only this customer, with all its objects; may be repeated.
    #[arg(long, value_name = "CUSTOMER_ID")]
    customer: Vec<String>,
    /// Read only objects created in Stripe at or after this time, such as 2026-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant, conflicts_with = "customer")]
    created_after: Option<OffsetDateTime>,
    /// Write nothing; print what would change, field by field. Reads customers one by one.
    #[arg(long)]
    dry_run: bool,
    /// Resume the unfinished backfill, taking it over from a process that is still running it.
    #[arg(long, conflicts_with_all = ["customer", "created_after", "dry_run", "restart"])]
    resume: bool,
    /// Start a new backfill instead of the unfinished one; a process that is still running that one stops.
    #[arg(long, conflicts_with_all = ["customer", "dry_run"])]
    restart: bool,
    /// Print changes as JSON, one object per line, and the summary as the last one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<StripeSettings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let session = StripeSession::read(source)?;
        Some(Box::pin(async move { self.run(session).await }))
    }

    async fn run(self, session: StripeSession) -> anyhow::Result<ExitCode> {
        if self.customer.is_empty() && !self.dry_run {
            let work = async |progress: &Progress, lists: &mut Lists| {
                let backfill = match session.open(progress.waits()).await? {
                    Ok(backfill) => backfill,
                    Err(wrong) => return Ok(Ending::Refused(wrong)),
                };
                match self.begin(&backfill).await? {
                    Ok(begin) => lists.read(&backfill, begin, progress).await,
                    Err(wrong) => Ok(Ending::Refused(wrong)),
                }
            };
            return summary::run(Lists::default(), self.json, None, work).await;
        }
        let format = match (self.json, self.dry_run) {
            (true, _) => OutputFormat::Json,
            (false, true) => OutputFormat::Changes,
            (false, false) => OutputFormat::Count,
        };
        let purpose = if self.dry_run { Purpose::DryRun } else { Purpose::Customers };
        let selection =
            if self.customer.is_empty() { Selection::All(self.created_after) } else { Selection::Named(self.customer) };
        let work = async |progress: &Progress, comparison: &mut Comparison| {
            let backfill = match session.open(progress.waits()).await? {
                Ok(backfill) => backfill,
                Err(wrong) => return Ok(Ending::Refused(wrong)),
            };
            comparison.run(&backfill, &selection, None, progress).await?;
            Ok(comparison.ending())
        };
        summary::run(Comparison::new(purpose, format), self.json, None, work).await
    }

    /// Chooses the run to start or to resume. The inner error names the decision that the operator must make first.
    async fn begin(&self, backfill: &Backfill) -> anyhow::Result<Result<RunSelection, String>> {
        let open = backfill.open().await?;
        if self.restart {
            backfill.abandon().await?;
            return Ok(Ok(RunSelection::New(self.created_after)));
        }
        let Some(open) = open else {
            let nothing = "there is no unfinished backfill to resume; omit --resume to start one";
            return Ok(if self.resume { Err(nothing.to_owned()) } else { Ok(RunSelection::New(self.created_after)) });
        };
        let began = open.started_at.format(&Rfc3339)?;
        if open.alive && !self.resume {
            let ago = open.seconds_since_heartbeat;
            return Ok(Err(format!(
                "a backfill started at {began} is running (last heartbeat {ago:.0} s ago); wait until it ends. If its \
                 process is known to be gone, `billing-sync backfill --resume` takes it over at once"
            )));
        }
        if !self.resume && self.created_after != open.created_after {
            return Ok(Err(format!(
                "a backfill with another --created-after, started at {began}, is unfinished; `billing-sync backfill \
                 --resume` resumes it, --restart starts this one instead"
            )));
        }
        output::complain(&format!("resuming the backfill started at {began}; --restart starts a new one"));
        Ok(Ok(RunSelection::Resume))
    }
}
