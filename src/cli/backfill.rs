//! `backfill`: reads all objects that rows are derived from, or those of some customers; `--dry-run` shows the changes.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::arguments::instant;
use super::comparison::{ComparisonOutput, OutputFormat};
use super::output;
use super::progress::Progress;
use super::settings::{SettingArgs, StripeSettings};
use super::stripe_session::StripeSession;
use super::task::Task;
use crate::backfill::{Backfill, ProgressEvent, Report, RunSelection};
use crate::config::source::Source;
use crate::verify::compare::Selection;
use crate::verify::customer::WriteMode;

/// Objects that are listed one by one in the report; the report counts further ones.
const NAMED: usize = 10;

/// Arguments of `backfill`.
#[derive(Debug, clap::Args)]
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
    /// Print changes, and the report at the end, as JSON, one object per line.
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
        let backfill = match session.open().await? {
            Ok(backfill) => backfill,
            Err(wrong) => return Ok(output::refuse(&wrong)),
        };
        if self.customer.is_empty() && !self.dry_run {
            return match self.begin(&backfill).await? {
                Ok(begin) => everything(&backfill, begin, self.json).await,
                Err(wrong) => Ok(output::refuse(&wrong)),
            };
        }
        let mode = if self.dry_run { WriteMode::No } else { WriteMode::Yes("backfill") };
        let selection =
            if self.customer.is_empty() { Selection::All(self.created_after) } else { Selection::Named(self.customer) };
        let format = match (self.json, self.dry_run) {
            (true, _) => OutputFormat::Json,
            (false, true) => OutputFormat::Changes,
            (false, false) => OutputFormat::Count,
        };
        let mut comparison = ComparisonOutput::new(format);
        backfill.compare(&selection, mode, None, &mut |finding| comparison.add(finding)).await?;
        comparison.end(if self.dry_run { "would be changed" } else { "changed" })
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

/// Runs the backfill of all objects and prints its report.
async fn everything(backfill: &Arc<Backfill>, begin: RunSelection, json: bool) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let run = backfill.begin(begin).await?;
    let mut output = Output::new();
    let ended = backfill.run(&run, &mut |event| output.show(&event)).await;
    output.progress.end();
    let report = ended?;
    if json {
        output::print_json(&json_of(&report, started.elapsed()))?;
    } else {
        output::print(&sentence(&report, started.elapsed()))?;
    }
    complain(&report);
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Progress of a run, as shown to the operator.
struct Output {
    progress: Progress,
    began: Instant,
    objects: usize,
    changes: usize,
    failed: usize,
    read: f64,
    stage: String,
}

impl Output {
    fn new() -> Self {
        let template = "{bar:20} {msg}";
        let progress = Progress::new(template, Some(1000));
        Self { progress, began: Instant::now(), objects: 0, changes: 0, failed: 0, read: 0.0, stage: String::new() }
    }

    fn show(&mut self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Page { list, objects, changes, failed, read } => {
                self.objects += objects;
                self.changes += changes;
                self.failed += failed;
                self.read = self.read.max(*read);
                list.as_str().clone_into(&mut self.stage);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
                self.progress.bar().set_position((self.read * 1000.0) as u64);
            }
            ProgressEvent::Waits { list, wait, why } => {
                let seconds = wait.as_secs_f64();
                self.stage = format!("{} wait {seconds:.0} s: {why}", list.as_str());
            }
            ProgressEvent::Failed { list, why } => self.progress.print(&format!("{}: {why}", list.as_str())),
            ProgressEvent::Unlisted(count) => self.stage = format!("{count} unlisted objects queued"),
            ProgressEvent::Projected { objects, changes } => {
                self.objects += objects;
                self.changes += changes;
                "rebuilding all rows".clone_into(&mut self.stage);
            }
            ProgressEvent::Remaining(left) => self.stage = format!("{left} queued objects still to be fetched"),
        }
        let line = self.line();
        self.progress.update(|| line);
    }

    fn line(&self) -> String {
        let rate = rate(self.objects, self.began.elapsed());
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        let left = match self.left() {
            Some(left) => format!(", about {} left", humantime::format_duration(left)),
            None => String::new(),
        };
        format!("{} objects ({rate}), {} rows changed{failed}{left}: {}", self.objects, self.changes, self.stage)
    }

    /// Estimated time left for the lists. The number of objects in the unread ranges is unknown, so it is a guess.
    fn left(&self) -> Option<Duration> {
        let worth_guessing = self.read > 0.02 && self.read < 1.0;
        worth_guessing
            .then(|| self.began.elapsed().mul_f64((1.0 - self.read) / self.read))
            .map(|left| Duration::from_secs(left.as_secs()))
    }
}

fn rate(objects: usize, elapsed: Duration) -> String {
    let objects = u32::try_from(objects).map_or(f64::MAX, f64::from);
    format!("{:.0}/s", objects / elapsed.as_secs_f64().max(0.001))
}

fn sentence(report: &Report, elapsed: Duration) -> String {
    let counts = &report.counts;
    let took =
        humantime::format_duration(Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)));
    let (objects, pages) = (counts.objects, counts.pages);
    let rows = counts.changes + i64::try_from(report.projected).unwrap_or_default();
    output::wrapped("", &format!("{objects} objects on {pages} pages read, {rows} rows changed, in {took}"))
}

fn json_of(report: &Report, elapsed: Duration) -> serde_json::Value {
    let pairs = |pairs: &[(String, String)]| -> Vec<serde_json::Value> {
        pairs.iter().map(|(what, error)| serde_json::json!({ "what": what, "error": error })).collect()
    };
    serde_json::json!({
        "complete": report.is_complete(),
        "objects": report.counts.objects,
        "pages": report.counts.pages,
        "rows_changed": report.counts.changes + i64::try_from(report.projected).unwrap_or_default(),
        "seconds": elapsed.as_secs_f64(),
        "failed_lists": pairs(&report.counts.failed_lists),
        "unsupported_lists": report.counts.unsupported_lists,
        "forbidden": pairs(&report.counts.forbidden),
        "failed": pairs(&report.counts.failed),
        "unfetched": pairs(&report.unfetched),
        "remaining": report.remaining,
    })
}

/// Prints what is missing, and the fix.
fn complain(report: &Report) {
    let say = |text: &str| output::complain(&output::wrapped("", text));
    for (list, why) in &report.counts.failed_lists {
        say(&format!("not read completely: {list}: {why}"));
    }
    if !report.counts.failed_lists.is_empty() {
        say("The final rebuild of all rows has not run. Fix the cause, then resume: `billing-sync backfill --resume`.");
    }
    for list in &report.counts.unsupported_lists {
        say(&format!("not read: the server at STRIPE_API_BASE has no list of {list}"));
    }
    for (list, why) in &report.counts.forbidden {
        say(&format!("not read: {list}: {why}"));
    }
    if !report.counts.forbidden.is_empty() {
        say("Everything else was read. Once the key has the permission, run `billing-sync backfill` again.");
    }
    let name = |what: &str, named: &[(String, String)]| {
        for (object, error) in named.iter().take(NAMED) {
            say(&format!("{what}: {object}: {error}"));
        }
        if named.len() > NAMED {
            say(&format!("{what}: {} more", named.len() - NAMED));
        }
    };
    name("not stored", &report.counts.failed);
    if !report.counts.failed.is_empty() {
        say("billing.backfill_failures has all objects that were not stored; all others are stored.");
    }
    name("not read", &report.unfetched);
    if report.remaining > 0 {
        say(&format!("{} queued objects are still to be fetched; `serve` continues to fetch them.", report.remaining));
    }
}
