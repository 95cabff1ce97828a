//! `outbox list`: events as a table of 80 columns, or as JSON.

use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};
use time::OffsetDateTime;

use super::filter::FilterArgs;
use crate::base::clock;
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;
use crate::outbox::admin::{self, Row};

/// Longest id that is shown in one line; Stripe's event ids have 28 characters.
const WHOLE_ID: usize = 32;
/// Width of the type column: what the other columns leave in 80 columns.
const TYPE_WIDTH: usize = 23;

/// The width of a reason: with it, the table fits 80 columns.
const REASON_WIDTH: usize = 18;

/// Arguments of `outbox list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List only events in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    filter: FilterArgs,
    /// List at most this number of events.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
    /// Print JSON, one object per line, with all columns.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    Pending,
    Done,
    Dead,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

pub(super) async fn list(conn: &mut Connection, args: &Args) -> anyhow::Result<ExitCode> {
    let filter = match args.filter.filter(args.state.map(State::as_str)) {
        Ok(filter) => filter,
        Err(wrong) => return Ok(output::refuse(&wrong)),
    };
    let selected = admin::select(conn, &filter, Some(args.limit)).await?;
    let rows = admin::rows(conn, selected.iter().map(|event| &event.key)).await?;
    if args.json {
        rows.iter().try_for_each(output::print_json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        output::print(&nothing(args))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&table(&rows, clock::now()))?;
    if i64::try_from(rows.len()).is_ok_and(|shown| shown == args.limit) {
        output::print(&format!("\nThe newest {} are shown; there may be more (--limit).", args.limit))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing(args: &Args) -> String {
    let state = args.state.map(|state| format!(" {}", state.as_str())).unwrap_or_default();
    output::wrapped("", &format!("There are no{state} events{} in the outbox.", args.filter.describe()))
}

fn table(rows: &[Row], now: OffsetDateTime) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(output::WIDTH).unwrap_or(u16::MAX));
    table.set_header(["EVENT", "TYPE", "STATE, REASON", "TRIES", "AGE"]);
    for row in rows {
        let state = row.outcome.as_deref().unwrap_or(&row.state);
        // on a second line, which most types need anyway: a separate column would not fit
        let reason = row.reason.as_deref().map(|reason| format!("\n{}", in_lines(reason, '_', REASON_WIDTH)));
        let state = format!("{state}{}", reason.unwrap_or_default());
        let (tries, age) = (row.attempts.to_string(), age(now - row.received_at));
        table.add_row([row.event_id.as_str(), &in_lines(&row.r#type, '.', TYPE_WIDTH), &state, &tries, &age]);
    }
    // ids are for copying, so they are not wrapped unless one is longer than Stripe's
    let whole = rows.iter().all(|row| row.event_id.len() <= WHOLE_ID);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if at >= 2 || (at == 0 && whole) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        if at >= 3 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// A name, wrapped after its separators where it does not fit beside the other columns.
fn in_lines(name: &str, separator: char, width: usize) -> String {
    let mut lines = vec![String::new()];
    for part in name.split_inclusive(separator) {
        match lines.last_mut() {
            Some(line) if line.is_empty() || line.len() + part.len() <= width => line.push_str(part),
            _ => lines.push(part.to_owned()),
        }
    }
    lines.join("\n")
}

/// Time since the event was received, in its largest unit.
fn age(age: time::Duration) -> String {
    let seconds = age.whole_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::domain::event::Reason;

    fn row(event_id: &str, event_type: &str, outcome: Option<&str>) -> Row {
        let then = datetime!(2026-11-20 12:00 UTC);
        Row {
            event_id: event_id.to_owned(),
            created: then,
            r#type: event_type.to_owned(),
            format: "snapshot".to_owned(),
            object_type: None,
            object_id: None,
            customer_id: None,
            account: String::new(),
            livemode: None,
            api_version: None,
            source: "webhook".to_owned(),
            state: outcome.map_or("pending", |_| "done").to_owned(),
            outcome: outcome.map(str::to_owned),
            reason: None,
            isolated: false,
            attempts: 12,
            run_at: then,
            last_error: None,
            received_at: then,
            finished_at: None,
            discarded_by: None,
            database_role: None,
            discard_reason: None,
        }
    }

    #[test]
    fn the_table_fits_the_terminal_and_keeps_ids_whole() {
        let id = "evt_1NG8Du2eZvKYlo2CUI79vXWy";
        let longest = Reason::ALL.iter().map(|reason| reason.as_str()).max_by_key(|reason| reason.len()).unwrap();
        let rows = [
            Row {
                reason: Some(longest.to_owned()),
                ..row(id, "customer.subscription.trial_will_end", Some("superseded"))
            },
            row("evt_2", "a_type_of_one_part_that_is_longer_than_any_other_that_stripe_has", None),
        ];
        let table = table(&rows, datetime!(2026-11-23 12:00 UTC));
        assert!(table.lines().all(|line| line.chars().count() <= output::WIDTH), "{table}");
        assert_eq!(in_lines("customer.subscription.updated", '.', TYPE_WIDTH), "customer.subscription.\nupdated");
        assert!(table.contains(id) && table.contains("superseded") && table.contains("3d"), "{table}");
        assert!(table.contains(" customer.subscription. "), "{table}");
        assert!(in_lines(longest, '_', REASON_WIDTH).lines().all(|part| table.contains(part)), "{table}");
    }

    #[test]
    fn an_id_of_any_length_fits_the_terminal() {
        let table = table(&[row(&"x".repeat(255), "customer.updated", None)], datetime!(2026-11-20 12:00 UTC));
        assert!(table.lines().all(|line| line.chars().count() <= output::WIDTH), "{table}");
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [(-5, "0s"), (59, "59s"), (3599, "59m"), (86_399, "23h"), (864_000, "10d")] {
            assert_eq!(age(time::Duration::seconds(seconds)), text);
        }
    }
}
