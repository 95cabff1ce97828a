//! `doctor --orphans`: rows without their workspace, price or customer, as a table of 80 columns or as JSON; and the
//! line about them in the report.

use std::collections::BTreeSet;
use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use serde::Serialize;
use serde_json::json;

use super::report::Check;
use crate::admin::orphans::{self, Orphan};
use crate::cli::{database, output};
use crate::database::hosts::Hosts;
use crate::domain::orphan::Kind;
use crate::metrics::database::{MOST_ORPHANS, Orphans};

/// Widths of the columns, the same on all pages. The ids of a subscription and of a price fit in them.
const WIDTHS: [u16; 3] = [30, 32, 18];

/// The line in the report. Orphans are not a failure of the service: they wait for data from Stripe.
pub(super) fn check(figures: &[Orphans]) -> Check {
    let counted = figures.iter().filter(|of_kind| of_kind.count > 0).map(|of_kind| match of_kind.count {
        MOST_ORPHANS.. => format!("{MOST_ORPHANS} or more {}", of_kind.kind),
        count => format!("{count} {}", of_kind.kind),
    });
    let counted: Vec<String> = counted.collect();
    if counted.is_empty() {
        return Check::ok("orphans", "none: all live rows have their workspace, price and customer");
    }
    let fix = "`billing-sync doctor --orphans` lists them, each with its fix";
    Check::warning("orphans", counted.join(", "), fix)
}

/// Lists them, page by page, at most `limit` of each kind.
pub(super) async fn list(options: Option<Hosts>, json: bool, limit: usize) -> anyhow::Result<ExitCode> {
    let Some(options) = options else {
        anyhow::bail!("no valid database is configured; set DATABASE_URL. `billing-sync doctor` shows what is wrong");
    };
    let mut conn = match database::current(&options).await? {
        Ok(conn) => conn,
        Err(wrong) => return Ok(output::refuse(&wrong)),
    };
    let mut tx = conn.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY").await?;
    orphans::open(&mut tx).await?;
    let mut output = Output { limit, ..Output::default() };
    loop {
        let page = orphans::next(&mut tx).await?;
        if page.is_empty() {
            break;
        }
        output.page(&page, json)?;
    }
    output.end(json)?;
    Ok(ExitCode::SUCCESS)
}

/// An orphan as JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    orphan: &'a Orphan,
    fix: String,
}

/// Output of the list.
#[derive(Default)]
struct Output {
    /// Maximum number of listed orphans of each kind.
    limit: usize,
    is_headed: bool,
    counts: [usize; Kind::ALL.len()],
    fixes: BTreeSet<Fix>,
}

impl Output {
    fn page(&mut self, page: &[Orphan], json: bool) -> anyhow::Result<()> {
        let page: Vec<&Orphan> = page.iter().filter(|orphan| self.count(orphan)).collect();
        if page.is_empty() {
            return Ok(());
        }
        self.fixes.extend(page.iter().map(|orphan| Fix::of(orphan)));
        if json {
            // one write per page, because there may be many
            let line = |orphan: &Orphan| output::json_line(&Line { orphan, fix: Fix::of(orphan).sentence(orphan) });
            return output::print(&page.iter().copied().map(line).collect::<Result<Vec<String>, _>>()?.join("\n"));
        }
        output::print(&table(&page, !std::mem::replace(&mut self.is_headed, true)))
    }

    /// Counts the orphan, and returns whether it is listed.
    fn count(&mut self, orphan: &Orphan) -> bool {
        let of_kind = self.counts.iter_mut().zip(Kind::ALL).find(|(_, kind)| kind.as_str() == orphan.kind);
        of_kind.is_none_or(|(count, _)| {
            *count += 1;
            *count <= self.limit
        })
    }

    fn end(&self, json: bool) -> anyhow::Result<()> {
        let counts = self.counts.iter().zip(Kind::ALL.map(Kind::as_str));
        if json {
            return counts
                .into_iter()
                .try_for_each(|(count, kind)| output::print_json(&json!({ "kind": kind, "count": count })));
        }
        if self.counts.iter().all(|count| *count == 0) {
            return output::print("There are no orphans: all live rows have their workspace, price and customer.");
        }
        output::print("")?;
        for (count, kind) in counts {
            let more = count.saturating_sub(self.limit);
            let more = if more > 0 { format!(", {more} of them not listed: see --limit") } else { String::new() };
            output::print(&format!("{count} {kind}{more}"))?;
        }
        output::print("")?;
        self.fixes.iter().try_for_each(|fix| {
            output::print(&output::wrapped(&format!("{:<18} ", fix.word()), &fix.sentence(&some_orphan())))
        })
    }
}

/// A placeholder orphan for the explanation of a fix.
fn some_orphan() -> Orphan {
    Orphan {
        kind: String::new(),
        account: String::new(),
        stripe_customer_id: "cus_…".to_owned(),
        stripe_subscription_id: Some("sub_…".to_owned()),
        missing_type: "object".to_owned(),
        missing_id: None,
        read_state: None,
    }
}

/// How an orphan is fixed. All fixes but [`Fix::Name`] load data that Stripe already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fix {
    Name,
    Wait,
    Rebuild,
    Backfill,
    Explain,
}

impl Fix {
    fn of(orphan: &Orphan) -> Self {
        match (orphan.missing_type.as_str(), orphan.read_state.as_deref()) {
            ("workspace", _) => Self::Name,
            (_, Some("queued")) => Self::Wait,
            (_, Some("not_found")) => Self::Explain,
            (_, Some(_)) => Self::Rebuild,
            // the subscription has no price id here: only reading the subscription itself helps
            (_, None) => Self::Backfill,
        }
    }

    /// The word in the table; its explanation follows the table.
    fn word(self) -> &'static str {
        match self {
            Self::Name => "name it in Stripe",
            Self::Wait => "wait",
            Self::Rebuild => "rebuild",
            Self::Backfill => "backfill",
            Self::Explain => "look at it",
        }
    }

    fn sentence(self, orphan: &Orphan) -> String {
        let customer = &orphan.stripe_customer_id;
        let selection = orphan.stripe_subscription_id.as_ref().unwrap_or(customer);
        match self {
            Self::Name => format!(
                "set workspace_id in the metadata of {customer} or of its subscription in Stripe; the resulting event \
                 fixes it"
            ),
            Self::Wait => {
                "a fetch of it is queued, and fixes it; if that fails, billing.jobs.last_error shows why".into()
            }
            // `--customer` accepts customers of the own account only
            Self::Rebuild if !orphan.account.is_empty() => {
                "with STRIPE_SECRET_KEY set, `billing-sync rebuild` queues a fetch of it".into()
            }
            Self::Rebuild => {
                format!(
                    "with STRIPE_SECRET_KEY set, `billing-sync rebuild --customer {customer}` queues a fetch of it; \
                     without --customer, of all"
                )
            }
            Self::Backfill => format!(
                "with STRIPE_SECRET_KEY set, `billing-sync backfill --customer {customer}` reads the subscription again"
            ),
            Self::Explain => {
                format!("Stripe has no such object; `billing-sync explain {selection}` shows which event referenced it")
            }
        }
    }
}

fn table(page: &[&Orphan], with_header: bool) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(output::WIDTH).unwrap_or(u16::MAX));
    if with_header {
        table.set_header(["ORPHAN", "MISSING", "FIX"]);
    }
    for orphan in page {
        let id = orphan.stripe_subscription_id.as_ref().unwrap_or(&orphan.stripe_customer_id);
        let id = if orphan.account.is_empty() { id.clone() } else { format!("{id}\nof {}", orphan.account) };
        let missing = match &orphan.missing_id {
            Some(missing) => format!("{} {missing}", orphan.missing_type),
            None => format!("a {}", orphan.missing_type),
        };
        table.add_row([id.as_str(), &missing, Fix::of(orphan).word()]);
    }
    for (column, width) in table.column_iter_mut().zip(WIDTHS) {
        column.set_padding((0, 1)).set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
    }
    table.trim_fmt()
}
