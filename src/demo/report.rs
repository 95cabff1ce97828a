//! The output of the demo: the story while it runs, then the tables. Every line fits a terminal of 80 columns.
//!
//! Owns all texts except those of the story. Must not know how events are delivered or rows are read.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent};
use serde_json::json;

use super::rows::{ContactRow, OutcomeRow, PlanRow, Row, SubscriptionRow, text};
use super::story::{Act, Expected, Step};
use crate::base::text::wrapped;

/// The customer of the story in the printed request.
const API_CUSTOMER: &str = "cus_DemoAda";

/// The output. With `--json` only rows are printed, not the story.
pub(super) struct Report<'a, W> {
    out: &'a mut W,
    json: bool,
}

/// Addresses and secrets of a demo that keeps serving.
pub(super) struct Endpoints<'a> {
    pub(super) webhooks: SocketAddr,
    pub(super) ops: SocketAddr,
    pub(super) database_url: &'a str,
    /// Base URL of the workspace API, if the demo serves it.
    pub(super) api: Option<String>,
    /// The secret of this run.
    pub(super) secret: &'a str,
    /// Whether the user's own secrets are accepted, too.
    pub(super) extra_secrets: bool,
}

/// The contents of the tables.
pub(super) struct Tables {
    pub(super) contacts: Vec<ContactRow>,
    pub(super) subscriptions: Vec<SubscriptionRow>,
    pub(super) plans: Vec<PlanRow>,
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
    fn write(&mut self, line: &str) -> io::Result<()> {
        match writeln!(self.out, "{line}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    fn print(&mut self, line: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.write(line) }
    }

    pub(super) fn title(&mut self) -> io::Result<()> {
        self.print("billing-sync demo: signed Stripe events go in over HTTP, rows come out.")?;
        self.print("People, prices and dates are fictional, and the same on every run.")?;
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
    pub(super) fn request(&mut self, step: &Step, status: u16) -> io::Result<()> {
        let answer = match step.expected {
            Expected::Stored { .. } => "stored",
            Expected::Known => "known",
            Expected::Refused(_) => "refused",
        };
        self.print(&wrapped(&format!("  {status} {answer:<7}  {:<29}  ", step.event.kind), step.why))
    }

    /// The row after an act.
    pub(super) fn row_after(&mut self, row: &Row) -> io::Result<()> {
        let facts = match row {
            Row::Subscription(row) => subscription_facts(row),
            Row::Contact(row) => contact_facts(row),
        };
        self.print(&format!("  => {facts}"))
    }

    /// A difference from the story.
    pub(super) fn mistake(&mut self, mistake: &str) -> io::Result<()> {
        self.print(&wrapped("  !! ", mistake))
    }

    pub(super) fn tables(&mut self, tables: &Tables) -> io::Result<()> {
        self.table("billing.billing_contacts", &contacts(&tables.contacts))?;
        self.table(
            "billing.subscriptions, a column each (active: may be used now)",
            &subscriptions(&tables.subscriptions),
        )?;
        self.table("billing.pricing_plans", &plans(&tables.plans))?;
        self.table("billing.outbox, counted (every event that was stored)", &outcomes(&tables.outcomes))
    }

    fn table(&mut self, name: &str, table: &Table) -> io::Result<()> {
        self.print(&format!("\n{name}"))?;
        for line in table.lines() {
            self.print(&format!("  {}", line.trim_end()))?;
        }
        Ok(())
    }

    pub(super) fn all_as_expected(&mut self, acts: &[Act], keep: bool) -> io::Result<()> {
        let count = |wanted: fn(&Expected) -> bool| {
            acts.iter().flat_map(|act| &act.steps).filter(|step| wanted(&step.expected)).count()
        };
        let stored = count(|it| matches!(it, Expected::Stored { .. }));
        let known = count(|it| matches!(it, Expected::Known));
        let refused = count(|it| matches!(it, Expected::Refused(_)));
        self.print(&format!(
            "\n{} requests: {stored} stored, {known} known, {refused} refused.",
            stored + known + refused
        ))?;
        self.print("Every answer and every row is as expected.")?;
        if keep {
            return Ok(());
        }
        self.print("\nNext: `billing-sync demo --keep` keeps serving, for psql and for your own test")?;
        self.print("events. `billing-sync serve --help` explains the real service.")
    }

    /// How to inspect the database and to send events to a demo that keeps serving.
    pub(super) fn keeping(&mut self, endpoints: &Endpoints<'_>) -> io::Result<()> {
        let Endpoints { webhooks, ops, database_url, secret, extra_secrets, api: _ } = endpoints;
        let url = webhook_url(*webhooks);
        if self.json {
            // for a script that waits until the demo is serving
            let line = json!({ "table": "serving", "webhooks": url, "ops": format!("http://{ops}"),
                "database_url": database_url, "webhook_secret": secret });
            return self.write(&line.to_string());
        }
        self.print("\nStill serving, until Ctrl-C. The next demo starts with empty tables.\n")?;
        self.print(&format!("  webhooks       {url}"))?;
        self.print(&format!("  operations     http://{ops}/metrics, /livez, /readyz"))?;
        self.print("\nInspect the database, in another terminal:")?;
        self.print(&format!("  export DATABASE_URL='{database_url}'"))?;
        self.print("  psql \"$DATABASE_URL\" -c 'TABLE billing.subscriptions'")?;
        self.print("  billing-sync outbox list")?;
        self.print("\nSend event files, signed with the secret of this run:")?;
        self.print(&format!("  export STRIPE_WEBHOOK_SECRET={secret}"))?;
        self.print(&format!("  billing-sync send EVENT.json --to {url}"))?;
        if *extra_secrets {
            self.print("\nReceive test events of your Stripe account. STRIPE_WEBHOOK_SECRET is accepted;")?;
            self.print("it must be the output of `stripe listen --print-secret`:")?;
        } else {
            self.print("\nReceive test events of your Stripe account. `stripe listen` has its own secret,")?;
            self.print("which the demo needs: stop this demo (Ctrl-C), then")?;
            self.print("  export STRIPE_WEBHOOK_SECRET=$(stripe listen --print-secret)")?;
            self.print("  billing-sync demo --keep")?;
            self.print("and in another terminal")?;
        }
        self.print(&format!("  stripe listen --forward-to {url}"))?;
        self.print("  stripe trigger customer.subscription.created")
    }

    /// Requests to the workspace API.
    pub(super) fn api(&mut self, api: &str, token: &str) -> io::Result<()> {
        if self.json {
            return self.write(&json!({ "table": "api", "url": api, "token": token }).to_string());
        }
        self.print("\nAsk the workspace API whether a customer may use the product:")?;
        self.print(&format!("  export TOKEN={token}"))?;
        self.print("  curl -H \"Authorization: Bearer $TOKEN\" \\")?;
        self.print(&format!("    '{api}/v1/state?customer={API_CUSTOMER}'"))?;
        self.print(&format!("Its documentation, in a browser: {api}/docs"))
    }

    pub(super) fn stopping(&mut self) -> io::Result<()> {
        self.print("\nStopping.")
    }
}

fn webhook_url(address: SocketAddr) -> String {
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

fn contacts(rows: &[ContactRow]) -> Table {
    let rows: Vec<_> = rows.iter().map(ContactRow::fields).collect();
    let mut table = table(rows.iter().take(1).flatten().map(|(name, _)| *name));
    for row in rows {
        table.add_row(row.into_iter().map(|(_, value)| value));
    }
    table
}

/// The table of subscriptions, transposed, because a row is wider than a line.
fn subscriptions(rows: &[SubscriptionRow]) -> Table {
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in rows {
        for (place, (name, value)) in row.fields().into_iter().enumerate() {
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

fn plans(rows: &[PlanRow]) -> Table {
    let mut table = table(["stripe_price_id", "billing_interval", "currency", "unit_amount_decimal", "active"]);
    for row in rows {
        let active = row.active.map(|active| active.to_string());
        let values = [&row.billing_interval, &row.currency, &row.unit_amount_decimal, &active];
        let values = values.map(|value| text(value.as_deref()));
        table.add_row([row.stripe_price_id.clone()].into_iter().chain(values));
    }
    right(&mut table, 3);
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
