//! `outbox show`: everything about one event, and in words why it stands as it stands.

use std::process::ExitCode;

use sqlx::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Settings;
use crate::admin::payload;
use crate::cli::output;
use crate::cli::settings::SettingArgs;
use crate::outbox::admin::{self, Row};

/// Arguments of `outbox show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stripe's event id (evt_…).
    #[arg(value_name = "EVENT_ID")]
    event_id: String,
    /// Print what Stripe sent, too; it holds personal data. Client secrets are left out.
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

pub(super) async fn show(conn: &mut PgConnection, args: &Args) -> anyhow::Result<ExitCode> {
    let rows = admin::find(conn, &args.event_id).await?;
    anyhow::ensure!(!rows.is_empty(), "there is no event {} in the outbox", args.event_id);
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            output::print("\nAnother event with the same id:\n")?;
        }
        for (name, value) in fields(row) {
            output::print(&output::wrapped(&format!("{name:<13}"), &value))?;
        }
        output::print("")?;
        // an indented line is a command to copy
        for line in why(row).lines() {
            output::print(&if line.starts_with(' ') { line.to_owned() } else { output::wrapped("", line) })?;
        }
        if args.payload {
            show_payload(conn, row).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_payload(conn: &mut PgConnection, row: &Row) -> anyhow::Result<()> {
    let Some(payload) = admin::payload(conn, &row.event_id, row.created).await? else {
        return output::print("\nThe payload is not in the archive any more.");
    };
    match payload::redacted(&payload) {
        Some(shown) => output::print(&format!("\n{shown}")),
        None => output::print(&format!("\nThe payload ({} bytes) is no JSON and is not shown.", payload.len())),
    }
}

fn fields(row: &Row) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let account = if row.account.is_empty() { "our own".to_owned() } else { row.account.clone() };
    let mode = match row.livemode {
        Some(true) => "live",
        Some(false) => "test",
        None => "not said",
    };
    vec![
        ("event_id", row.event_id.clone()),
        ("type", row.r#type.clone()),
        ("created", when(row.created)),
        ("format", row.format.clone()),
        ("object_type", text(&row.object_type)),
        ("object_id", text(&row.object_id)),
        ("customer_id", text(&row.customer_id)),
        ("account", account),
        ("livemode", mode.to_owned()),
        ("api_version", text(&row.api_version)),
        ("source", row.source.clone()),
        ("received_at", when(row.received_at)),
        ("state", row.state.clone()),
        ("outcome", text(&row.outcome)),
        ("reason", text(&row.reason)),
        ("attempts", row.attempts.to_string()),
        ("alone", if row.alone { "yes" } else { "no" }.to_owned()),
        ("run_at", when(row.run_at)),
        ("finished_at", row.finished_at.map_or_else(|| "–".to_owned(), when)),
        ("last_error", text(&row.last_error)),
    ]
}

fn when(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// State, outcome and reason as a sentence.
fn why(row: &Row) -> String {
    let reason = row.reason.as_deref().map(because).unwrap_or_default();
    match (row.state.as_str(), row.outcome.as_deref()) {
        ("pending", _) if row.attempts > 0 => {
            let times = if row.attempts == 1 { "once".to_owned() } else { format!("{} times", row.attempts) };
            format!("It failed {times} and is tried again from run_at on, by itself.")
        }
        ("pending", _) => "It waits for a worker.".to_owned(),
        ("dead", _) => format!(
            "It is parked; last_error says why. Once the cause is mended:\n  billing-sync outbox retry {0}\n\
             To give it up:\n  billing-sync outbox discard {0}",
            row.event_id
        ),
        (_, Some("applied")) => format!("It is the newest word on its object. {reason}"),
        (_, Some("superseded")) => format!("It was merged, and something newer stands. {reason}"),
        (_, Some("ignored")) => format!("It changed nothing. {reason}"),
        _ => format!("It was kept and not acted on. {reason}"),
    }
}

/// The closed list of reasons (`domain::event::Reason`) in words; a newer release may know more.
fn because(reason: &str) -> &'static str {
    match reason {
        "foreign_livemode" => "It is of the other mode than BILLING_SYNC_LIVEMODE says (live or test).",
        "foreign_account" => {
            "Its account is not in BILLING_SYNC_ACCOUNTS. Our own is known by the API key, or BILLING_SYNC_OWN_ACCOUNT."
        }
        "customer_account" => {
            "An account (Accounts v2) stands in the customer's place: the subscription has its row, and there is no contact."
        }
        "not_generated" => "Stripe failed to generate events about an object: it is read instead.",
        "unhandled_type" => "Events of this type change nothing here.",
        "informational" => "Another event says the same with more effect.",
        "unknown_type" => "This release does not know the type.",
        "needs_fetch" => "A thin event names its object only, and this release does not fetch objects.",
        "has_snapshot" => "The snapshot event of the same change is here.",
        "discarded" => "An operator gave it up.",
        "unknown_enum" => "It has a status or interval that this release does not know; it is kept as text.",
        "unknown_customer" => "The customer of the subscription has not been seen yet.",
        "unknown_price" => "The price came without its content, so no plan can be named.",
        "bad_workspace_id" => "The workspace in the metadata is no UUID.",
        "unreadable_value" => "A field cannot be read as what it should be; its column is null.",
        "several_items" => "The subscription has several items; the oldest is used.",
        "more_items" => "The payload holds the first items only.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Reason;

    #[test]
    fn every_reason_has_words() {
        for reason in Reason::ALL {
            assert!(!because(reason.as_str()).is_empty(), "{reason:?}");
        }
    }
}
