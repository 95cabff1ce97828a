//! `outbox show`: all details of one event, and an explanation of its state.

use std::process::ExitCode;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::admin::payload::{self, PersonalData};
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;
use crate::outbox::admin::{self, Filter, Row};

/// Arguments of `outbox show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stripe event id (evt_…).
    #[arg(value_name = "EVENT_ID")]
    event_id: String,
    /// Also print the payload, with personal data masked: ids, types, states, numbers, booleans and times stay.
    #[arg(long)]
    payload: bool,
    /// Print the payload with personal data. Client secrets are redacted.
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

pub(super) async fn show(conn: &mut Connection, args: &Args) -> anyhow::Result<ExitCode> {
    let filter = Filter { event_id: Some(args.event_id.clone()), ..Filter::default() };
    let selected = admin::select(conn, &filter, None).await?;
    let mut rows = admin::rows(conn, selected.iter().map(|event| &event.key)).await?;
    rows.sort_by_key(|row| row.created);
    if rows.is_empty() {
        return missing(conn, &args.event_id).await;
    }
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            output::print("\nAnother event with the same id:\n")?;
        }
        for (name, value) in fields(row) {
            output::print(&output::wrapped(&format!("{name:<15}"), &value))?;
        }
        output::print("")?;
        // an indented line is a command to copy, so it is not wrapped
        for line in why(row).lines() {
            output::print(&if line.starts_with(' ') { line.to_owned() } else { output::wrapped("", line) })?;
        }
        if args.payload || args.reveal {
            let personal_data = if args.reveal { PersonalData::Revealed } else { PersonalData::Masked };
            show_payload(conn, row, personal_data).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what is kept of an event after the retention has removed it: that it was discarded.
async fn missing(conn: &mut Connection, event_id: &str) -> anyhow::Result<ExitCode> {
    for discard in admin::discards(conn, event_id).await? {
        let text = format!(
            "discarded by {} (database role {}): {}",
            discard.discarded_by, discard.database_role, discard.reason
        );
        output::print(&output::wrapped(&format!("{}  ", when(discard.discarded_at)), &text))?;
    }
    anyhow::bail!("there is no event {event_id} in the outbox")
}

async fn show_payload(conn: &mut Connection, row: &Row, personal_data: PersonalData) -> anyhow::Result<()> {
    let Some(payload) = admin::payload(conn, &row.event_id, row.created).await? else {
        return output::print("\nThe payload is no longer in the archive.");
    };
    match payload::indented(&payload, personal_data) {
        Some(shown) => {
            output::print(&format!("\n{shown}"))?;
            if personal_data == PersonalData::Masked {
                output::print("\nPersonal data is masked; --reveal shows it.")?;
            }
            Ok(())
        }
        None => output::print(&format!("\nThe payload ({} bytes) is not JSON and is not shown.", payload.len())),
    }
}

fn fields(row: &Row) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let account = if row.account.is_empty() { "own".to_owned() } else { row.account.clone() };
    let mode = match row.livemode {
        Some(true) => "live",
        Some(false) => "test",
        None => "unknown",
    };
    let mut fields = vec![
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
        ("isolated", if row.isolated { "yes" } else { "no" }.to_owned()),
        ("run_at", when(row.run_at)),
        ("finished_at", row.finished_at.map_or_else(|| "–".to_owned(), when)),
        ("last_error", text(&row.last_error)),
    ];
    let discard = [
        ("discarded_by", &row.discarded_by),
        ("database_role", &row.database_role),
        ("discard_reason", &row.discard_reason),
    ];
    fields.extend(discard.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    fields
}

fn when(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// Explains state, outcome and reason in a sentence.
fn why(row: &Row) -> String {
    let reason = row.reason.as_deref().map(because).unwrap_or_default();
    match (row.state.as_str(), row.outcome.as_deref()) {
        ("pending", _) if row.attempts > 0 => {
            let times = if row.attempts == 1 { "once".to_owned() } else { format!("{} times", row.attempts) };
            format!(
                "It failed {times}; a worker retries it from run_at on. After fixing the cause, make it due now:\n  \
                 billing-sync outbox retry {}",
                row.event_id
            )
        }
        ("pending", _) => "It is waiting for a worker.".to_owned(),
        ("dead", _) => format!(
            "It is dead; last_error shows why. After fixing the cause, retry it:\n  billing-sync outbox retry {0}\n\
             Or discard it:\n  billing-sync outbox discard {0} --reason TEXT",
            row.event_id
        ),
        (_, Some("applied")) => format!("It set the current state of its object. {reason}"),
        (_, Some("superseded")) => format!("It was merged, but a newer state of its object is known. {reason}"),
        (_, Some("ignored")) => format!("It changed nothing. {reason}"),
        _ => format!("It was stored but not processed. {reason}"),
    }
}

/// Explains each reason (`domain::event::Reason`). A database used by a newer release may have others.
fn because(reason: &str) -> &'static str {
    match reason {
        "livemode_mismatch" => "Its mode (live or test) is not the one in BILLING_SYNC_LIVEMODE.",
        "account_not_synced" => {
            "Its account is not in BILLING_SYNC_ACCOUNTS, and is not your own (API key or BILLING_SYNC_OWN_ACCOUNT)."
        }
        "customer_account" => {
            "The subscription belongs to an account (Accounts v2) instead of a customer: it has a row, but no contact."
        }
        "not_generated" => "Stripe failed to generate events about an object; it is fetched instead.",
        "unhandled_type" => "Events of this type have no effect.",
        "informational" => "Another event carries the same change and has the effect.",
        "unknown_type" => "This release does not know its type.",
        "needs_fetch" => "The event does not carry all data of its object; with an API key, the object is fetched.",
        "superseded_by_snapshot" => "The snapshot event of the same change is stored.",
        "discarded" => "An operator discarded it.",
        "unknown_enum" => {
            "It contains a status or interval that this release does not know; the value is kept as text."
        }
        "unknown_customer" => "The customer of the subscription is not known yet.",
        "unknown_price" => "Only the id of the price is known, so the subscription has no plan yet.",
        "invalid_workspace_id" => "The workspace id in the metadata is not a UUID.",
        "invalid_value" => "A field has an invalid value; its column is null.",
        "multiple_items" => "The subscription has several items; the oldest is used.",
        "items_truncated" => "The payload contains only the first items.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Reason;

    #[test]
    fn every_reason_has_an_explanation() {
        for reason in Reason::ALL {
            assert!(!because(reason.as_str()).is_empty(), "{reason:?}");
        }
    }
}
