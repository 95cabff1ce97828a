//! Changes of rows as text, one line per column, or as JSON. Values that are personal data are not shown.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output;
use crate::base::text::in_utc;
use crate::store::Change;

/// Columns whose values are personal data. Output may show that they changed, but no value.
const PERSONAL: [&str; 7] = ["address_line1", "address_line2", "city", "email", "name", "postal_code", "state"];

/// Key columns, which never change and are not shown.
const KEYS: [&str; 2] = ["account", "id"];

/// Indent of what belongs to the line before, in a history: as wide as a time and two spaces.
pub(super) const INDENT: &str = "                     ";

/// The object of a step in a history, after its type.
pub(super) fn of(object_id: Option<&str>) -> String {
    object_id.map(|id| format!(" of {id}")).unwrap_or_default()
}

/// Prints a changed row: its name and a line for each column, or one JSON object.
pub(super) fn print(change: &Change, json: bool) -> anyhow::Result<()> {
    if json {
        return output::print_json(&serde_json::json!({
            "table": change.table, "name": change.name, "is_new": change.is_new,
            "changes": self::json(&change.changes),
        }));
    }
    let new = if change.is_new { " (new)" } else { "" };
    output::print(&format!("{} {}{new}", change.table, change.name))?;
    lines(&change.changes, "  ").iter().try_for_each(|line| output::print(line))
}

/// The lines of a change: `column: before → after`. `changes` is the JSON object of `billing.row_changes`.
pub(super) fn lines(changes: &str, indent: &str) -> Vec<String> {
    let columns: BTreeMap<String, (Option<Box<RawValue>>, Box<RawValue>)> =
        serde_json::from_str(changes).unwrap_or_default();
    let shown = columns.iter().filter(|(column, _)| !KEYS.contains(&column.as_str()));
    shown
        .map(|(column, (before, after))| {
            let line = if PERSONAL.contains(&column.as_str()) {
                format!("{column}: changed")
            } else {
                let before = before.as_ref().map_or("null", |value| value.get());
                format!("{column}: {} -> {}", plain(before), plain(after.get()))
            };
            output::wrapped(indent, &line)
        })
        .collect()
}

/// The cells of a change: column, value before, value after.
pub(super) fn cells(changes: &str) -> Vec<[String; 3]> {
    let columns: BTreeMap<String, (Option<Box<RawValue>>, Box<RawValue>)> =
        serde_json::from_str(changes).unwrap_or_default();
    let shown = columns.into_iter().filter(|(column, _)| !KEYS.contains(&column.as_str()));
    shown
        .map(|(column, (before, after))| {
            if PERSONAL.contains(&column.as_str()) {
                return [column, "(not shown)".to_owned(), "(not shown)".to_owned()];
            }
            let before = before.as_ref().map_or("null", |value| value.get());
            [column, plain(before), plain(after.get())]
        })
        .collect()
}

/// The lines of a row, given as a JSON object: `column: value` for each column that is not empty.
pub(super) fn values(row: &str, indent: &str) -> Vec<String> {
    let columns: BTreeMap<String, Box<RawValue>> = serde_json::from_str(row).unwrap_or_default();
    let texts = columns.iter().map(|(column, value)| (column.as_str(), value.get()));
    let filled = texts.filter(|(column, text)| !KEYS.contains(column) && !["null", "[]", "\"\""].contains(text));
    filled
        .map(|(column, text)| {
            let value = if PERSONAL.contains(&column) { "(not shown)".to_owned() } else { plain(text) };
            output::wrapped(indent, &format!("{column}: {value}"))
        })
        .collect()
}

/// A change as JSON, with personal values replaced.
pub(super) fn json(changes: &str) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_str(changes).unwrap_or_default();
    for (column, change) in value.as_object_mut().into_iter().flatten() {
        if PERSONAL.contains(&column.as_str()) {
            *change = serde_json::json!("changed");
        }
    }
    value
}

/// A JSON value as text: a string without its quotes, a time in the format of the other times.
fn plain(json: &str) -> String {
    let Ok(text) = serde_json::from_str::<String>(json) else { return json.to_owned() };
    match OffsetDateTime::parse(&text, &Rfc3339) {
        Ok(at) => in_utc(at),
        Err(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: &str = r#"{"id":[null,"x"],"email":["a@b.example","c@d.example"],"active":[true,false],
        "active_discounts":[[],["SAVE20"]],"inactive_reason":[null,"payment_paused"]}"#;

    #[test]
    fn a_change_has_a_line_per_column_without_personal_data() {
        assert_eq!(
            lines(CHANGES, "  "),
            [
                "  active: true -> false",
                r#"  active_discounts: [] -> ["SAVE20"]"#,
                "  email: changed",
                "  inactive_reason: null -> payment_paused"
            ]
        );
        assert!(!json(CHANGES).to_string().contains("example"));
        assert_eq!(json(CHANGES)["active"], serde_json::json!([true, false]));
    }

    #[test]
    fn a_row_is_shown_without_empty_and_personal_columns() {
        let row = r#"{"id": "x", "email": "a@b.example", "active_discounts": [], "city": "", "end_date": null,
            "price_in_euro": 12345678901234567890.10, "active": false}"#;
        assert_eq!(
            values(row, "  "),
            ["  active: false", "  email: (not shown)", "  price_in_euro: 12345678901234567890.10"]
        );
    }
}
