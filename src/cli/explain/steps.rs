//! The steps of a history as text and as JSON.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::verdict;
use super::writes::Causes;
use crate::admin::explain::{Step, StepKind};
use crate::base::text::{in_utc, to_the_second};
use crate::cli::changes::{self, INDENT, of};
use crate::cli::output;

/// A step as text. A changed row is indented under the event or the change at Stripe that caused it; without one it has
/// its own time.
pub(super) fn lines(step: &Step, settled: &BTreeMap<String, OffsetDateTime>, meanings: &Causes) -> Vec<String> {
    let at = in_utc(step.at);
    match &step.what {
        StepKind::Event {
            event_id,
            event_type,
            object_id,
            created,
            state,
            outcome,
            reason,
            last_error,
            discard,
            ..
        } => {
            let fate = [outcome.as_deref().unwrap_or(state), reason.as_deref().unwrap_or_default()].join(" ");
            let of = of(object_id.as_deref());
            let error = last_error.as_ref().map(|error| format!("; last try: {error}")).unwrap_or_default();
            let line = format!("{event_type}{of}: {}{error}", fate.trim());
            let first = output::wrapped(&format!("{at}  "), &line);
            let mut lines = vec![first, output::wrapped(INDENT, &format!("{event_id}, created {}", in_utc(*created)))];
            let discarded = |discard| output::wrapped(INDENT, &format!("discarded {}", verdict::of_discard(discard)));
            lines.extend(discard.as_ref().map(discarded));
            lines
        }
        StepKind::Read { object_id, outcome, cause, request_id, version } => {
            let request = request_id.as_ref().map(|id| format!(", {id}")).unwrap_or_default();
            let line = format!("read of {object_id} ({cause}): {outcome}, as of {}{request}", in_utc(*version));
            vec![output::wrapped(&format!("{at}  "), &line)]
        }
        StepKind::Write { id, operation, object_id, principal, state, request_id, last_error, begun_at } => {
            let of = of(object_id.as_deref());
            let error = last_error.as_ref().map(|error| format!("; last try: {error}")).unwrap_or_default();
            let line = format!("write {operation}{of} by {principal}: {state}{error}");
            let request = request_id.as_ref().map(|id| format!(", {id}")).unwrap_or_default();
            let second = format!("{id}, begun {}{request}", in_utc(*begun_at));
            vec![output::wrapped(&format!("{at}  "), &line), output::wrapped(INDENT, &second)]
        }
        StepKind::Change { table, causes, changes, .. } => {
            let named = causes.iter().map(|cause| meanings.get(cause).unwrap_or(cause).as_str()).collect::<Vec<_>>();
            let why = if named.is_empty() { String::new() } else { format!(" by {}", named.join(", ")) };
            let head = if causes.iter().any(|cause| settled.contains_key(cause)) {
                INDENT.to_owned()
            } else {
                format!("{at}  ")
            };
            let mut lines = vec![output::wrapped(&head, &format!("{table} changed{why}"))];
            lines.extend(changes::lines(changes, &format!("{INDENT}  ")));
            lines
        }
        StepKind::Job { kind, object_id, last_error } => {
            let error = last_error.as_ref().map(|error| format!("; last try: {error}")).unwrap_or_default();
            vec![output::wrapped(&format!("{at}  "), &format!("queued: {kind} of {object_id}{error}"))]
        }
    }
}

/// A step as JSON. Times are in RFC 3339.
pub(super) fn json(step: &Step) -> serde_json::Value {
    use serde_json::json;
    let at = to_the_second(step.at);
    match &step.what {
        StepKind::Event {
            event_id,
            event_type,
            object_id,
            created,
            state,
            outcome,
            reason,
            last_error,
            discard,
            ..
        } => json!({
            "at": at, "step": "event", "event_id": event_id, "type": event_type, "object_id": object_id,
            "created": to_the_second(*created), "state": state, "outcome": outcome, "reason": reason,
            "last_error": last_error,
            "discarded_by": discard.as_ref().map(|discard| &discard.by),
            "database_role": discard.as_ref().map(|discard| &discard.database_role),
            "discard_reason": discard.as_ref().map(|discard| &discard.reason),
        }),
        StepKind::Read { object_id, outcome, cause, request_id, version } => json!({
            "at": at, "step": "read", "object_id": object_id, "outcome": outcome, "cause": cause,
            "request_id": request_id, "version": to_the_second(*version),
        }),
        StepKind::Write { id, operation, object_id, principal, state, request_id, last_error, begun_at } => json!({
            "at": at, "step": "write", "id": id, "operation": operation, "object_id": object_id, "principal": principal,
            "state": state, "request_id": request_id, "last_error": last_error, "begun": to_the_second(*begun_at),
        }),
        StepKind::Change { table, row_id, causes, changes } => json!({
            "at": at, "step": "change", "table": table, "row_id": row_id, "causes": causes,
            "changes": changes::json(changes),
        }),
        StepKind::Job { kind, object_id, last_error } => json!({
            "at": at, "step": "job", "kind": kind, "object_id": object_id, "last_error": last_error,
        }),
    }
}
