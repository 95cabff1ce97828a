//! `writes list`: changes as a table of 80 columns, or as JSON. Neither contains the form of a request.

use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use uuid::Uuid;

use crate::base::text::to_the_minute;
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;
use crate::ledger::admin::{self, Filter, Line};

/// Longest error that is shown; `writes show` prints the whole one.
const ERROR_LENGTH: usize = 160;

/// Arguments of `writes list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List only changes in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// List only changes for this workspace.
    #[arg(long, value_name = "UUID")]
    workspace: Option<Uuid>,
    /// List only changes of this customer and its checkout sessions.
    #[arg(long, value_name = "CUSTOMER_ID")]
    customer: Option<String>,
    /// List at most this number of changes.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
    /// Print JSON, one object per line, with all columns except the form.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    /// Stored, not sent yet.
    Begun,
    /// Sent; repeated until the outcome is known.
    Sent,
    /// Stripe made the change.
    Done,
    /// Stripe did not make the change.
    Refused,
    /// The outcome cannot be found out any more; an operator must decide.
    Unknown,
    /// `begun` and `sent`.
    Open,
}

impl State {
    fn states(self) -> &'static [&'static str] {
        match self {
            Self::Begun => &["begun"],
            Self::Sent => &["sent"],
            Self::Done => &["done"],
            Self::Refused => &["refused"],
            Self::Unknown => &["unknown"],
            Self::Open => &["begun", "sent"],
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Begun => " begun",
            Self::Sent => " sent",
            Self::Done => " done",
            Self::Refused => " refused",
            Self::Unknown => " unknown",
            Self::Open => " open",
        }
    }
}

pub(super) async fn list(conn: &mut Connection, args: &Args) -> anyhow::Result<ExitCode> {
    let filter = Filter {
        states: args.state.map(State::states).unwrap_or_default(),
        workspace: args.workspace,
        customer: args.customer.as_deref(),
    };
    let (lines, all) = admin::list(conn, filter, args.limit).await?;
    if args.json {
        lines.iter().try_for_each(output::print_json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if lines.is_empty() {
        output::print(&nothing(args))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&table(&lines))?;
    let more = all - i64::try_from(lines.len()).unwrap_or(i64::MAX);
    if more > 0 {
        output::print(&format!("\nThe newest {} are shown; there are {more} more (--limit).", lines.len()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing(args: &Args) -> String {
    let state = args.state.map(State::word).unwrap_or_default();
    let workspace = args.workspace.map(|id| format!(" for workspace {id}")).unwrap_or_default();
    let customer = args.customer.as_ref().map(|id| format!(" of {id}")).unwrap_or_default();
    format!("There are no{state} changes at Stripe{workspace}{customer}.")
}

/// Several lines for each change, because ids and times would not fit beside each other.
fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(output::WIDTH).unwrap_or(u16::MAX));
    table.set_header(["ID, TARGET, PRINCIPAL, LAST ERROR", "STATE, OPERATION, TIME (UTC)"]);
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            table.add_row([""; 2]);
        }
        table.add_row([subject(line), progress(line)]);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        // the first column gets the rest of the width, in which two ids of 36 characters fit
        if at > 0 {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt()
}

fn subject(line: &Line) -> String {
    let error = line.last_error.as_deref().map(|error| {
        let error = error.replace('\n', " ");
        match error.char_indices().nth(ERROR_LENGTH) {
            Some((end, _)) => format!("{}…", &error[..end]),
            None => error,
        }
    });
    let texts = [Some(line.id.to_string()), Some(line.target.clone()), Some(line.principal.clone()), error];
    texts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn progress(line: &Line) -> String {
    let attempts = match line.attempts {
        0 => "never tried".to_owned(),
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    };
    [line.state.clone(), line.operation.clone(), format!("begun {}", to_the_minute(line.begun_at)), attempts].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::writes::show::tests::line;

    #[test]
    fn the_table_fits_the_terminal_and_keeps_ids_whole() {
        let user = format!("user:{}", Uuid::from_u128(u128::MAX));
        let target = format!("workspace/{}", Uuid::from_u128(u128::MAX));
        let long = Line {
            target: target.clone(),
            principal: user.clone(),
            operation: "checkout_session.create".to_owned(),
            last_error: Some("a long error, ".repeat(40)),
            ..line("unknown")
        };
        let table = table(&[long, line("begun")]);
        assert!(table.lines().all(|line| line.chars().count() <= output::WIDTH), "{table}");
        for whole in [target.as_str(), &user, "checkout_session.create", "begun 2026-11-29 23:59", "never tried"] {
            assert!(table.contains(whole), "{whole}: {table}");
        }
        assert!(table.contains('…') && table.lines().count() < 20, "{table}");
    }
}
