//! The output of `tail`: an event with its changes, or the events that wait, as text in 80 columns or as one JSON
//! object. Without personal data. PURE.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::admin::tail::{Change, Event, Waiting};
use crate::base::text::{counted, in_utc, wrapped};
use crate::cli::changes::{self, INDENT, of};
use crate::cli::units::span;

/// An event and the rows that it changed. Changes of several events are shown with the last of them.
pub(super) fn event(event: &Event, changed: &[&Change]) -> String {
    let result = [event.outcome.as_deref().unwrap_or(&event.state), event.reason.as_deref().unwrap_or_default()];
    let line = format!("{}{}: {}", event.event_type, of(event.object_id.as_deref()), result.join(" ").trim());
    let delay = span((event.finished_at - event.received_at).as_seconds_f64());
    let error = match &event.last_error {
        Some(error) if event.state == "dead" => format!("; {error}"),
        _ => String::new(),
    };
    let mut lines = vec![
        wrapped(&format!("{}  ", in_utc(event.finished_at)), &line),
        wrapped(INDENT, &format!("{}, {delay} after its arrival{error}", event.event_id)),
    ];
    for change in changed {
        let others: Vec<&str> =
            change.causes.iter().filter(|one| **one != event.event_id).map(String::as_str).collect();
        let with = if others.is_empty() { String::new() } else { format!(", also by {}", others.join(", ")) };
        lines.push(wrapped(INDENT, &format!("{} changed{with}", change.table_name)));
        lines.extend(changes::lines(&change.changes, &format!("{INDENT}  ")));
    }
    lines.join("\n")
}

/// An event and the rows that it changed, as JSON.
pub(super) fn event_json(event: &Event, changed: &[&Change]) -> Value {
    json!({
        "step": "event", "at": in_utc(event.finished_at), "event_id": event.event_id, "type": event.event_type,
        "account": event.account, "object_id": event.object_id, "customer_id": event.customer_id,
        "created": in_utc(event.created), "received": in_utc(event.received_at),
        "delay_seconds": (event.finished_at - event.received_at).as_seconds_f64().max(0.0),
        "state": event.state, "outcome": event.outcome, "reason": event.reason, "last_error": event.last_error,
        "changes": changed.iter().map(|change| json!({
            "table": change.table_name, "row_id": change.row_id, "causes": change.causes,
            "changes": changes::json(&change.changes),
        })).collect::<Vec<_>>(),
    })
}

/// The events that wait.
pub(super) fn waiting(now: OffsetDateTime, waiting: &Waiting) -> String {
    let error = match &waiting.last_error {
        Some(error) => format!("; {}, the last error: {error}", counted(waiting.attempts, "attempt")),
        None => String::new(),
    };
    let (age, of) = (span(waiting.oldest_seconds), of(waiting.object_id.as_deref()));
    let oldest = format!("{} ({}{of})", waiting.event_id, waiting.event_type);
    let text = format!("waiting: {}, the oldest for {age}: {oldest}{error}", counted(waiting.events, "event"));
    wrapped(&format!("{}  ", in_utc(now)), &text)
}

/// The events that wait, as JSON.
pub(super) fn waiting_json(now: OffsetDateTime, waiting: &Waiting) -> Value {
    json!({
        "step": "waiting", "at": in_utc(now), "events": waiting.events, "oldest_seconds": waiting.oldest_seconds,
        "event_id": waiting.event_id, "type": waiting.event_type, "object_id": waiting.object_id,
        "attempts": waiting.attempts, "last_error": waiting.last_error,
    })
}
