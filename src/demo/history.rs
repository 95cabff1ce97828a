//! Why a row and a balance are what they are: the short form of `billing-sync explain`, by the same reads.
//!
//! Must not know the expected lines.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::rows::{Line, text};
use crate::admin::explain::{self, StepKind};
use crate::admin::statement;
use crate::base::text::to_the_second;
use crate::database::Connection;
use crate::domain::object::row_id;

/// The columns that say whether a subscription may be used, and until when.
const COLUMNS: [&str; 4] = ["active", "inactive_reason", "stripe_status", "end_date"];

/// Maximum number of steps of each kind; the story has fewer.
const STEPS: i64 = 1000;

/// The changes of [`COLUMNS`] of a subscription: date of the event, event, column, value before, value after.
pub(super) async fn changes(conn: &mut Connection, subscription: &str) -> Result<Vec<Line<5>>, sqlx::Error> {
    let events = explain::events(conn, &[subscription.to_owned()], STEPS).await?;
    let created: BTreeMap<String, String> = events
        .into_iter()
        .filter_map(|step| match step.what {
            StepKind::Event { event_id, created, .. } => Some((event_id, created.date().to_string())),
            _ => None,
        })
        .collect();
    let steps = explain::changes(conn, &[row_id("", subscription)], STEPS).await?;
    let mut lines = Vec::new();
    // the newest step is the first one
    for step in steps.into_iter().rev() {
        let StepKind::Change { causes, changes, .. } = step.what else { continue };
        let changes: BTreeMap<String, [Value; 2]> = serde_json::from_str(&changes).unwrap_or_default();
        let event = causes.join(", ");
        let date = text(created.get(&event).map(String::as_str));
        let shown = changes.iter().filter(|(column, _)| COLUMNS.contains(&column.as_str()));
        lines.extend(shown.map(|(column, [before, after])| {
            [date.clone(), event.clone(), column.clone(), short(before), short(after)]
        }));
    }
    Ok(lines)
}

/// A value as text: `-` for null, and of a time the date.
fn short(value: &Value) -> String {
    match value {
        Value::Null => text(None),
        Value::String(text) => text.split_once('T').map_or(text.as_str(), |(date, _)| date).to_owned(),
        other => other.to_string(),
    }
}

/// The lines of the statement of a limit: start of the period, line, amount.
pub(super) async fn statement(
    conn: &mut Connection,
    workspace: Uuid,
    limit_key: &str,
) -> Result<Vec<Line<3>>, sqlx::Error> {
    let lines = statement::lines(conn, workspace, Some(limit_key)).await?;
    let text = |line: statement::Line| {
        [text(line.period_start.map(to_the_second).as_deref()), line.line, text(line.amount.as_deref())]
    };
    Ok(lines.into_iter().map(text).collect())
}
