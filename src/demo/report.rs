//! The output of the demo: the story while it runs, then the tables. Every line fits a terminal of 80 columns.
//!
//! Owns all texts except those of the story. Must not know how events are delivered or rows are read.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent};

use super::consume::{self, ConsumeAnswer};
use super::rows::{ContactRow, LimitRow, Line, OutcomeRow, Row, SubscriptionRow, WorkspaceRow, number, text};
use super::story::{Act, Consume, Consumed, Expected, Renewal, Request};
use crate::base::text::{to_the_second, wrapped};

/// Columns of subscriptions that the table omits: with them, three rows are wider than a line. The acts show them.
const OMITTED: [&str; 2] = ["next_subscription_cycle_start", "stripe_price_id"];

/// The output. With `--json` only rows are printed, not the story.
pub(super) struct Report<'a, W> {
    out: &'a mut W,
    json: bool,
}

/// The contents of the tables.
pub(super) struct Tables {
    pub(super) workspaces: Vec<WorkspaceRow>,
    /// Of Cleo's words: start of the period, line, amount.
    pub(super) statement: Vec<Line<3>>,
    /// Of Ada's subscription: date, event, column, value before, value after.
    pub(super) changes: Vec<Line<5>>,
    pub(super) contacts: Vec<ContactRow>,
    pub(super) subscriptions: Vec<SubscriptionRow>,
    pub(super) outcomes: Vec<OutcomeRow>,
}

impl<'a, W: Write> Report<'a, W> {
    pub(super) fn new(out: &'a mut W, json: bool) -> Self {
        Self { out, json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of rows, with `--json`.
    pub(super) fn row(&mut self, line: &str) -> io::Result<()> {
        self.write(line)
    }

    /// Writes a line. A closed pipe (`| head`) is not an error.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        match writeln!(self.out, "{line}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    pub(super) fn print(&mut self, line: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.write(line) }
    }

    pub(super) fn title(&mut self) -> io::Result<()> {
        self.print("billing-sync demo: signed Stripe events go in over HTTP, rows come out.")?;
        self.print("People and prices are fictional, and the same on every run. So are the dates,")?;
        self.print("except those of Cleo: one of her months ends while the demo runs.")?;
        self.print("For each act: the requests with their answers, then => the resulting row.")?;
        self.print("")?;
        self.print("Starting a private PostgreSQL (the first time takes a few seconds) ...")
    }

    pub(super) fn started(&mut self, postgres: u32, data_dir: &Path, webhooks: SocketAddr) -> io::Result<()> {
        self.print(&format!("  PostgreSQL {postgres}  {}", data_dir.display()))?;
        self.print(&format!("  webhooks       {}", webhook_url(webhooks)))
    }

    pub(super) fn act(&mut self, act: &Act) -> io::Result<()> {
        self.print("")?;
        self.print(&format!("{} - {}", act.date, act.title))
    }

    /// One request: its status, its event type, and the reason for the answer.
    pub(super) fn request(&mut self, request: &Request, status: u16) -> io::Result<()> {
        let answer = match request.expected {
            Expected::Stored { .. } => "stored",
            Expected::Known => "known",
            Expected::Refused(_) => "refused",
        };
        self.print(&wrapped(&format!("  {status} {answer:<7}  {:<29}  ", request.event.kind), request.why))
    }

    /// One call of `billing.consume`, with its answer as psql shows it.
    pub(super) fn call(&mut self, call: &Consume, answer: &ConsumeAnswer) -> io::Result<()> {
        self.print(&format!("  {}", consume::statement(call)))?;
        match answer {
            ConsumeAnswer::Left(left) => self.print(&format!("  {} (what is left)", number(*left))),
            ConsumeAnswer::Refused { sqlstate, message, detail, hint } => {
                self.print(&wrapped(&format!("  ERROR {sqlstate}: "), message))?;
                let more = [("DETAIL", detail), ("HINT", hint)];
                let more = more.into_iter().filter_map(|(name, text)| text.as_ref().map(|text| (name, text)));
                more.into_iter().try_for_each(|(name, text)| self.print(&wrapped(&format!("  {name}: "), text)))
            }
        }
    }

    /// Why the demo pauses.
    pub(super) fn waiting(&mut self, renewal: &Renewal) -> io::Result<()> {
        let end = to_the_second(renewal.period_end);
        self.print(&format!("  waiting for {end}; the scheduler renews, Stripe sends nothing"))
    }

    /// The row after an act.
    pub(super) fn row_after(&mut self, row: &Row) -> io::Result<()> {
        let facts = match row {
            Row::Subscription(row) => subscription_facts(row),
            Row::Contact(row) => contact_facts(row),
            Row::Workspace(row) => workspace_facts(row),
            Row::Limit(row) => limit_facts(row),
        };
        self.print(&format!("  => {facts}"))
    }

    /// A difference from the story.
    pub(super) fn mistake(&mut self, mistake: &str) -> io::Result<()> {
        self.print(&wrapped("  !! ", mistake))
    }

    pub(super) fn tables(&mut self, tables: &Tables) -> io::Result<()> {
        self.table("billing.workspace_billing (may this workspace use the product?)", &workspaces(&tables.workspaces))?;
        self.table("billing.limit_statement of Cleo's words (each month adds up to 0)", &statement(&tables.statement))?;
        self.table(
            "billing.row_changes of sub_DemoAda, as in `billing-sync explain sub_DemoAda`",
            &changes(&tables.changes),
        )?;
        self.table("billing.billing_contacts", &contacts(&tables.contacts))?;
        self.table("billing.subscriptions, a column each", &subscriptions(&tables.subscriptions))?;
        self.table("billing.outbox, counted (every event that was stored)", &outcomes(&tables.outcomes))
    }

    fn table(&mut self, name: &str, table: &Table) -> io::Result<()> {
        self.print(&format!("\n{name}"))?;
        for line in table.lines() {
            self.print(&format!("  {}", line.trim_end()))?;
        }
        Ok(())
    }

    pub(super) fn all_as_expected(&mut self, acts: &[&Act], keep: bool) -> io::Result<()> {
        let count = |wanted: fn(&Expected) -> bool| {
            acts.iter().flat_map(|act| act.requests()).filter(|request| wanted(&request.expected)).count()
        };
        let stored = count(|it| matches!(it, Expected::Stored { .. }));
        let known = count(|it| matches!(it, Expected::Known));
        let refused = count(|it| matches!(it, Expected::Refused(_)));
        self.print(&format!(
            "\n{} requests: {stored} stored, {known} known, {refused} refused.",
            stored + known + refused
        ))?;
        let calls = || acts.iter().flat_map(|act| act.calls());
        let granted = calls().filter(|call| matches!(call.expected, Consumed::Left(_))).count();
        let count = calls().count();
        self.print(&format!("{count} calls of billing.consume: {granted} granted, {} refused.", count - granted))?;
        self.print("Every answer and every row is as expected.")?;
        if keep {
            return Ok(());
        }
        self.print("\nNext: `billing-sync demo --keep` keeps serving, for psql and for your own test")?;
        self.print("events. `billing-sync serve --help` explains the real service.")
    }

    pub(super) fn stopping(&mut self) -> io::Result<()> {
        self.print("\nStopping.")
    }
}

pub(super) fn webhook_url(address: SocketAddr) -> String {
    format!("http://{address}{}", crate::receiver::PATH)
}

fn subscription_facts(row: &SubscriptionRow) -> String {
    let price = text(row.stripe_price_id.as_deref());
    let use_of_it = match (row.active, row.payment_paused) {
        (true, _) => "usable",
        (false, true) => "not usable, payment paused",
        (false, false) => "not usable",
    };
    let period = match (row.end_date, row.next_subscription_cycle_start) {
        (Some(end), _) if row.is_grace_period => format!(", ends {}", end.date()),
        (Some(end), _) => format!(", ended {}", end.date()),
        (None, Some(next)) if row.active => format!(", next period {}", next.date()),
        (None, _) => String::new(),
    };
    format!("{}: {}, {use_of_it}, {price}{period}", row.stripe_subscription_id, row.stripe_status)
}

fn contact_facts(row: &ContactRow) -> String {
    let facts = [text(row.name.as_deref()), text(row.email.as_deref()), text(row.city.as_deref())];
    format!("{}: {}", row.stripe_customer_id, facts.join(", "))
}

fn workspace_facts(row: &WorkspaceRow) -> String {
    let reason = text(row.inactive_reason.as_deref());
    let answer = if row.active { "usable".to_owned() } else { format!("not usable: {reason}") };
    format!("{}: {answer}", row.workspace_id)
}

fn limit_facts(row: &LimitRow) -> String {
    let LimitRow { limit_key, included, spillover, used, available, .. } = row;
    let until = row.limit_renewal_date.map(|at| format!(", until {}", at.date())).unwrap_or_default();
    let (included, available) = (number(*included), number(*available));
    format!("{limit_key}: {included} included + {spillover} carried over - {used} used = {available}{until}")
}

fn contacts(rows: &[ContactRow]) -> Table {
    by_row(rows.iter().map(ContactRow::fields).collect())
}

fn workspaces(rows: &[WorkspaceRow]) -> Table {
    by_row(rows.iter().map(WorkspaceRow::fields).collect())
}

/// A table with a line for each row.
fn by_row(rows: Vec<Vec<(&'static str, String)>>) -> Table {
    let mut table = table(rows.iter().take(1).flatten().map(|(name, _)| *name));
    for row in rows {
        table.add_row(row.into_iter().map(|(_, value)| value));
    }
    table
}

fn statement(lines: &[Line<3>]) -> Table {
    let mut table = table(["period_start", "line", "amount"]);
    table.add_rows(lines);
    right(&mut table, 2);
    table
}

fn changes(lines: &[Line<5>]) -> Table {
    let mut table = table(["created", "event", "column", "before", "after"]);
    table.add_rows(lines);
    table
}

/// The table of subscriptions, transposed, because a row is wider than a line.
fn subscriptions(rows: &[SubscriptionRow]) -> Table {
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in rows {
        let fields = row.fields().into_iter().filter(|(name, _)| !OMITTED.contains(name));
        for (place, (name, value)) in fields.enumerate() {
            match lines.get_mut(place) {
                Some(line) => line.push(value),
                None => lines.push(vec![name.to_owned(), value]),
            }
        }
    }
    let mut lines = lines.into_iter();
    let mut table = table(lines.next().unwrap_or_default());
    table.add_rows(lines);
    table
}

fn outcomes(rows: &[OutcomeRow]) -> Table {
    let mut table = table(["state", "outcome", "reason", "events"]);
    for row in rows {
        let [outcome, reason] = [&row.outcome, &row.reason].map(|value| text(value.as_deref()));
        table.add_row([row.state.clone(), outcome, reason, row.events.to_string()]);
    }
    right(&mut table, 3);
    table
}

fn table<T: Into<comfy_table::Row>>(head: T) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(head);
    table.set_style(TableComponent::HeaderLines, '-').set_style(TableComponent::MiddleHeaderIntersections, '-');
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

fn right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
