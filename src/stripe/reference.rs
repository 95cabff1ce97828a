//! How one Stripe object names another: by id, or by the whole object where a field was expanded.
//!
//! PURE. The only part of an object's shape that the mirror knows.

use super::json::Json;

/// The id in an expandable field: the text itself, or the `id` of the object that stands there.
pub fn id_or_object(field: Json<'_>) -> Option<String> {
    field.text().or_else(|| field.get("id").text())
}

/// The customer that an object belongs to, or is.
pub fn customer_of(object: Json<'_>) -> Option<String> {
    let members = object.object()?;
    if members.get("object").text().as_deref() == Some("customer") {
        members.get("id").text()
    } else {
        id_or_object(members.get("customer"))
    }
}

/// placeholder until the merge
pub fn named(_object_type: &str, _object: Json<'_>) -> std::collections::BTreeSet<(&'static str, String)> {
    std::collections::BTreeSet::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_named_by_id_by_object_or_is_the_object() {
        for text in [
            r#"{"object":"subscription","customer":"cus_1"}"#,
            r#"{"object":"subscription","customer":{"id":"cus_1","object":"customer","deleted":true}}"#,
            r#"{"object":"customer","id":"cus_1"}"#,
        ] {
            assert_eq!(customer_of(Json::parse(text).unwrap()).as_deref(), Some("cus_1"), "{text}");
        }
        assert_eq!(customer_of(Json::parse(r#"{"object":"price","id":"price_1"}"#).unwrap()), None);
    }
}
