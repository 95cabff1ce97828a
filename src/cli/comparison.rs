//! Comparison with Stripe, for `verify`, dry runs, and the backfill of some customers: differing rows field by field, and
//! their counts as the summary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value, json};

use super::progress::{Extent, Progress};
use super::summary::{self, Ending, Summary};
use super::{changes, output};
use crate::backfill::Backfill;
use crate::base::text::counted;
use crate::store::Change;
use crate::verify::compare::Selection;
use crate::verify::customer::WriteMode;
use crate::verify::finding::{CompareProgress, Finding};

/// Width of a terminal in columns.
const WIDTH: u16 = 80;

/// How differing rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputFormat {
    /// Only their number.
    Count,
    /// Each row with the changes of its columns.
    Changes,
    /// A table of the values here and in Stripe.
    Table,
    /// JSON, one row per line.
    Json,
}

/// What is compared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// `verify`.
    Verify,
    /// `verify --fix`.
    Fix,
    /// `backfill --dry-run`.
    DryRun,
    /// `backfill --customer`.
    Customers,
}

impl Purpose {
    fn mode(self) -> WriteMode {
        match self {
            Self::Verify | Self::DryRun => WriteMode::No,
            Self::Fix => WriteMode::Yes("verify"),
            Self::Customers => WriteMode::Yes("backfill"),
        }
    }

    /// What is said of rows that differ, of one and of several.
    fn verbs(self) -> [&'static str; 2] {
        match self {
            Self::Verify => ["differs", "differ"],
            Self::Fix => ["differed and is fixed", "differed and are fixed"],
            Self::DryRun => ["would be changed", "would be changed"],
            Self::Customers => ["changed", "changed"],
        }
    }
}

/// A comparison and its findings so far.
pub(super) struct Comparison {
    purpose: Purpose,
    format: OutputFormat,
    /// The first error of writing to standard output.
    broken: Option<anyhow::Error>,
    customers: u64,
    /// Differing rows of each table.
    rows: BTreeMap<&'static str, u64>,
    failed: u64,
    /// Objects that differed and have not been compared again yet.
    deferred: u64,
    is_second_pass: bool,
    has_header: bool,
}

impl Comparison {
    pub(super) fn new(purpose: Purpose, format: OutputFormat) -> Self {
        let rows = BTreeMap::new();
        Self {
            purpose,
            format,
            broken: None,
            customers: 0,
            rows,
            failed: 0,
            deferred: 0,
            is_second_pass: false,
            has_header: false,
        }
    }

    /// Compares the selection, and prints and counts the findings.
    pub(super) async fn run(
        &mut self,
        backfill: &Arc<Backfill>,
        selection: &Selection,
        again_after: Option<Duration>,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        progress.stage("comparing", "object", Extent::Unknown, 0);
        let mode = self.purpose.mode();
        backfill.compare(selection, mode, again_after, &mut |finding| self.add(finding, progress)).await?;
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Prints and counts one finding.
    fn add(&mut self, finding: Finding, progress: &Progress) {
        match finding {
            Finding::Seen { customer, objects, changes } => {
                self.customers += u64::from(customer.is_some());
                for change in &changes {
                    *self.rows.entry(change.table).or_default() += 1;
                }
                if let Err(error) = self.print_changes(&changes) {
                    self.broken = self.broken.take().or(Some(error));
                }
                self.compared(objects as u64, progress);
            }
            Finding::NoList(list) => {
                let list = list.as_str();
                self.fail(&format!("the server has no list of {list}; these objects were not compared"));
            }
            Finding::Forbidden(error) => {
                self.fail(&format!("{error}; the columns that depend on these objects were not compared"));
            }
            Finding::Failed { what, error } => {
                self.fail(&format!("{what}: {error}"));
                self.compared(1, progress);
            }
            Finding::Progress(CompareProgress::Expected(objects)) => progress.extent(Extent::Total(objects as u64)),
            Finding::Progress(CompareProgress::Deferred(objects)) => {
                self.deferred += objects as u64;
                progress.add(objects as u64);
            }
            Finding::Progress(CompareProgress::Again(objects)) => {
                self.is_second_pass = true;
                progress.stage("comparing again", "object", Extent::Total(objects as u64), 0);
            }
        }
        let again = match self.deferred {
            0 => String::new(),
            deferred => format!(", {} to compare again", counted(deferred, "object")),
        };
        progress.facts(format!("{}{again}", self.differences()));
    }

    fn compared(&mut self, objects: u64, progress: &Progress) {
        if self.is_second_pass {
            self.deferred = self.deferred.saturating_sub(objects);
        }
        progress.add(objects);
    }

    fn fail(&mut self, what: &str) {
        self.failed += 1;
        output::complain(&output::wrapped("", what));
    }

    fn print_changes(&mut self, found: &[Change]) -> anyhow::Result<()> {
        let print = |change| changes::print(change, self.format == OutputFormat::Json);
        match self.format {
            OutputFormat::Count => Ok(()),
            OutputFormat::Changes | OutputFormat::Json => found.iter().try_for_each(print),
            OutputFormat::Table if found.is_empty() => Ok(()),
            OutputFormat::Table => output::print(&table(found, !std::mem::replace(&mut self.has_header, true))),
        }
    }

    /// All differing rows.
    pub(super) fn differing(&self) -> u64 {
        self.rows.values().sum()
    }

    /// How the comparison ended, apart from differences.
    pub(super) fn ending(&self) -> Ending {
        if self.failed > 0 { Ending::Incomplete } else { Ending::Complete }
    }

    /// "2 rows differ"
    fn differences(&self) -> String {
        let rows = self.differing();
        format!("{} {}", counted(rows, "row"), self.purpose.verbs()[usize::from(rows != 1)])
    }
}

impl Summary for Comparison {
    fn command(&self) -> &'static str {
        match self.purpose {
            Purpose::Verify | Purpose::Fix => "verify",
            Purpose::DryRun | Purpose::Customers => "backfill",
        }
    }

    fn text(&self, took: &str) -> String {
        let by_table: Vec<String> = self.rows.iter().map(|(table, rows)| format!("{rows} in {table}")).collect();
        let by_table = if by_table.is_empty() { String::new() } else { format!(" ({})", by_table.join(", ")) };
        let mut text =
            format!("{} compared, {}{by_table}, in {took}", counted(self.customers, "customer"), self.differences());
        if self.failed > 0 {
            text = format!("{text}; {} could not be compared", self.failed);
        }
        if self.deferred > 0 {
            text = format!("{text}; {} differed and had to be compared again", counted(self.deferred, "object"));
        }
        output::wrapped("", &text)
    }

    fn json(&self) -> Map<String, Value> {
        summary::map(json!({
            "written": self.purpose.mode() != WriteMode::No,
            "customers": self.customers, "rows": self.differing(), "tables": self.rows, "failed": self.failed,
            "deferred": self.deferred,
        }))
    }

    fn has_done_anything(&self) -> bool {
        self.customers > 0 || !self.rows.is_empty() || self.deferred > 0
    }

    fn next_step(&self) -> &'static str {
        match self.purpose {
            Purpose::Verify | Purpose::DryRun => "nothing was written; run the command again",
            Purpose::Fix => "the rows counted here are fixed; run the command again for the others",
            Purpose::Customers => "the customers counted here are stored; run the command again for the others",
        }
    }
}

/// The differences as a table of 80 columns, one line per differing column.
fn table(found: &[Change], with_header: bool) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    if with_header {
        table.set_header(["ROW", "COLUMN", "HERE", "STRIPE"]);
    }
    for change in found {
        let new = if change.is_new { " (missing)" } else { "" };
        let row = format!("{} {}{new}", change.table, change.name);
        for [column, here, stripe] in changes::cells(&change.changes) {
            table.add_row([row.clone(), column, here, stripe]);
        }
    }
    table.to_string()
}
