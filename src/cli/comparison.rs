//! Output of `verify` and of dry runs: differing rows field by field, and a count at the end.

use std::collections::BTreeMap;
use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::progress::Progress;
use super::{changes, output};
use crate::store::Change;
use crate::verify::finding::Finding;

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

/// Findings of a comparison so far.
pub(super) struct ComparisonOutput {
    format: OutputFormat,
    progress: Progress,
    /// The first error of writing to standard output.
    broken: Option<anyhow::Error>,
    customers: usize,
    /// Differing rows of each table.
    pub(super) rows: BTreeMap<&'static str, u64>,
    failed: usize,
    has_header: bool,
}

impl ComparisonOutput {
    pub(super) fn new(format: OutputFormat) -> Self {
        let progress = Progress::new("{spinner} {msg}", None);
        Self { format, progress, broken: None, customers: 0, rows: BTreeMap::new(), failed: 0, has_header: false }
    }

    /// Prints and counts one finding.
    pub(super) fn add(&mut self, finding: Finding) {
        match finding {
            Finding::Seen { customer, changes } => {
                self.customers += usize::from(customer.is_some());
                for change in &changes {
                    *self.rows.entry(change.table).or_default() += 1;
                }
                if let Err(error) = self.print_changes(&changes) {
                    self.broken = self.broken.take().or(Some(error));
                }
            }
            Finding::NoList(list) => {
                self.failed += 1;
                let list = list.as_str();
                self.progress.print(&format!("the server has no list of {list}; these objects were not compared"));
            }
            Finding::Forbidden(error) => {
                self.failed += 1;
                self.progress.print(&format!("{error}; the columns that depend on these objects were not compared"));
            }
            Finding::Failed { what, error } => {
                self.failed += 1;
                self.progress.print(&format!("{what}: {error}"));
            }
        }
        let (customers, rows) = (self.customers, self.differing());
        self.progress.update(|| format!("{customers} customers compared, {rows} rows differ"));
    }

    fn print_changes(&mut self, found: &[Change]) -> anyhow::Result<()> {
        let print = |change| changes::print(change, self.format == OutputFormat::Json);
        match self.format {
            OutputFormat::Count => Ok(()),
            OutputFormat::Changes | OutputFormat::Json => {
                self.progress.bar().suspend(|| found.iter().try_for_each(print))
            }
            OutputFormat::Table if found.is_empty() => Ok(()),
            OutputFormat::Table => {
                let text = table(found, !std::mem::replace(&mut self.has_header, true));
                self.progress.bar().suspend(|| output::print(&text))
            }
        }
    }

    /// All differing rows.
    pub(super) fn differing(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Prints the counts; `are` describes the rows, such as "differ".
    pub(super) fn end(self, are: &str) -> anyhow::Result<ExitCode> {
        self.progress.end();
        let by_table: Vec<String> = self.rows.iter().map(|(table, rows)| format!("{rows} in {table}")).collect();
        let by_table = if by_table.is_empty() { String::new() } else { format!(" ({})", by_table.join(", ")) };
        let (customers, rows) = (self.customers, self.differing());
        let noun = if customers == 1 { "customer" } else { "customers" };
        let mut text = format!("{customers} {noun} compared, {rows} rows {are}{by_table}");
        if self.failed > 0 {
            text = format!("{text}; {} could not be compared", self.failed);
        }
        if self.format == OutputFormat::Json {
            output::complain(&text);
        } else {
            output::print(&output::wrapped("", &text))?;
        }
        match self.broken {
            Some(error) => Err(error),
            None => Ok(if self.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
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
