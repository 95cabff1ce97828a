//! The backfill of all objects: its progress, and its report as the summary.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::backfill::{Backfill, ProgressEvent, Report, RunSelection};
use crate::base::text::counted;
use crate::cli::output;
use crate::cli::progress::{Extent, Progress};
use crate::cli::summary::{self, Ending, Summary};

/// Objects that are listed one by one in the report; the report counts further ones.
const NAMED: usize = 10;

/// What a backfill has read and changed so far; its report once it has ended.
#[derive(Default)]
pub(super) struct Lists {
    objects: u64,
    pages: u64,
    changes: u64,
    failed: u64,
    /// Most objects that were queued to be fetched at a time, once the run fetches them.
    to_fetch: Option<u64>,
    /// Whether there is a run to resume.
    has_begun: bool,
    report: Option<Report>,
}

impl Lists {
    /// Runs the backfill to its end.
    pub(super) async fn read(
        &mut self,
        backfill: &Arc<Backfill>,
        begin: RunSelection,
        progress: &Progress,
    ) -> anyhow::Result<Ending> {
        let run = backfill.begin(begin).await?;
        self.has_begun = true;
        progress.stage("reading lists", "object", Extent::Share(0.0), 0);
        let report = backfill.run(&run, &mut |event| self.show(event, progress)).await?;
        complain(&report);
        let ending = if report.is_complete() { Ending::Complete } else { Ending::Incomplete };
        self.report = Some(report);
        Ok(ending)
    }

    fn show(&mut self, event: ProgressEvent, progress: &Progress) {
        match event {
            ProgressEvent::Page { list, objects, changes, failed, read } => {
                self.objects += objects as u64;
                self.pages += 1;
                self.changes += changes as u64;
                self.failed += failed as u64;
                progress.title(format!("reading {}", list.as_str()));
                progress.add(objects as u64);
                progress.extent(Extent::Share(read));
            }
            ProgressEvent::Failed { list, why } => {
                output::complain(&output::wrapped("", &format!("{}: {why}", list.as_str())));
            }
            ProgressEvent::Unlisted(_) => progress.title("queueing unlisted objects".to_owned()),
            ProgressEvent::Projecting { total, before } => {
                progress.stage("rebuilding rows", "object", Extent::Total(total), before);
            }
            ProgressEvent::Projected { objects, changes } => {
                self.changes += changes as u64;
                progress.add(objects as u64);
            }
            ProgressEvent::Remaining(left) => {
                if self.to_fetch.is_none() {
                    progress.stage("fetching objects", "object", Extent::Unknown, 0);
                }
                // events that arrive meanwhile may queue further ones
                let total = self.to_fetch.unwrap_or_default().max(left);
                self.to_fetch = Some(total);
                progress.extent(Extent::Total(total));
                progress.done(total - left);
            }
        }
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        progress.facts(format!("{} changed{failed}", counted(self.changes, "row")));
    }

    /// Objects, pages and changed rows: those of the whole run if it has ended, otherwise those of this process.
    fn counts(&self) -> [u64; 3] {
        let Some(report) = &self.report else { return [self.objects, self.pages, self.changes] };
        let counts = &report.counts;
        let [objects, pages, changes] =
            [counts.objects, counts.pages, counts.changes].map(|count| u64::try_from(count).unwrap_or_default());
        [objects, pages, changes + report.projected as u64]
    }
}

impl Summary for Lists {
    fn command(&self) -> &'static str {
        "backfill"
    }

    fn text(&self, took: &str) -> String {
        let [objects, pages, changes] = self.counts();
        let [objects, pages, changes] = [counted(objects, "object"), counted(pages, "page"), counted(changes, "row")];
        output::wrapped("", &format!("{objects} on {pages} read, {changes} changed, in {took}"))
    }

    fn json(&self) -> Map<String, Value> {
        let pairs = |pairs: &[(String, String)]| -> Vec<Value> {
            pairs.iter().map(|(what, error)| json!({ "what": what, "error": error })).collect()
        };
        let [objects, pages, changes] = self.counts();
        let unfinished = Report::default();
        let report = self.report.as_ref().unwrap_or(&unfinished);
        summary::map(json!({
            "complete": self.report.as_ref().is_some_and(Report::is_complete),
            "objects": objects,
            "pages": pages,
            "rows_changed": changes,
            "failed_lists": pairs(&report.counts.failed_lists),
            "unsupported_lists": report.counts.unsupported_lists,
            "forbidden": pairs(&report.counts.forbidden),
            "failed": pairs(&report.counts.failed),
            "unfetched": pairs(&report.unfetched),
            "remaining": report.remaining,
        }))
    }

    fn has_done_anything(&self) -> bool {
        self.pages > 0 || self.changes > 0
    }

    fn next_step(&self) -> &'static str {
        if self.has_begun {
            "`billing-sync backfill --resume` continues after the last page that was stored"
        } else {
            "nothing was read; run the command again"
        }
    }
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
