//! Expandable fields: each contains an id, or the whole object if the request expanded it. PURE.

use super::json::Json;

/// Returns the id in an expandable field: the text itself, or the `id` of the expanded object.
pub fn id_or_object(field: Json<'_>) -> Option<String> {
    field.text().or_else(|| field.get("id").text())
}
