//! Changes of rows as people read them: one line a column. Values that are personal data are not shown.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::output;

/// Columns whose values are personal data: that they changed may be told, to what may not.
const PERSONAL: [&str; 7] = ["address_line1", "address_line2", "city", "email", "name", "postal_code", "state"];

/// Columns that say nothing about what has changed.
const KEYS: [&str; 2] = ["account", "id"];

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

/// The lines of a row: `column: value`; the values after a change are the row's.
pub(super) fn values(changes: &str, indent: &str) -> Vec<String> {
    let columns: BTreeMap<String, (Box<RawValue>, Box<RawValue>)> = serde_json::from_str(changes).unwrap_or_default();
    let shown = columns.iter().filter(|(column, _)| !KEYS.contains(&column.as_str()));
    let line = |(column, (_, value)): (&String, &(Box<RawValue>, Box<RawValue>))| {
        let value = if PERSONAL.contains(&column.as_str()) { "(not shown)".to_owned() } else { plain(value.get()) };
        output::wrapped(indent, &format!("{column}: {value}"))
    };
    shown.map(line).collect()
}

/// The same for machines: personal values are left out.
pub(super) fn json(changes: &str) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_str(changes).unwrap_or_default();
    for (column, change) in value.as_object_mut().into_iter().flatten() {
        if PERSONAL.contains(&column.as_str()) {
            *change = serde_json::json!("changed");
        }
    }
    value
}

/// A JSON value without the quotes of a plain text.
fn plain(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: &str = r#"{"id":[null,"x"],"email":["a@b.example","c@d.example"],"active":[true,false],
        "active_discounts":[[],["SAVE20"]],"inactive_reason":[null,"payment_paused"]}"#;

    #[test]
    fn a_column_is_a_line_and_personal_data_is_not_shown() {
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
}
