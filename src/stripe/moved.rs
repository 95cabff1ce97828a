//! Fields that moved between API versions: the old and new path of each, to compare or overlay two renderings.
//!
//! PURE. The views read both paths; code that overlays or compares renderings must treat them as one field.

use serde_json::{Map, Value};

/// The older and the newer path of a field. A path leads through objects and into all elements of an array.
struct Moved {
    object_type: &'static str,
    older: &'static [&'static str],
    newer: &'static [&'static str],
}

const MOVED: [Moved; 7] = [
    Moved { object_type: "discount", older: &["coupon"], newer: &["source"] },
    Moved { object_type: "invoice", older: &["subscription"], newer: &["parent"] },
    Moved { object_type: "payment_intent", older: &["charges"], newer: &["latest_charge"] },
    Moved { object_type: "promotion_code", older: &["coupon"], newer: &["promotion"] },
    Moved { object_type: "subscription", older: &["discount"], newer: &["discounts"] },
    Moved {
        object_type: "subscription",
        older: &["current_period_start"],
        newer: &["items", "data", "current_period_start"],
    },
    Moved {
        object_type: "subscription",
        older: &["current_period_end"],
        newer: &["items", "data", "current_period_end"],
    },
];

/// Whether a field has, or had, another path. Some versions contain the value, but not at this path.
pub fn is_moved(object_type: &str, path: &[&str]) -> bool {
    let is_it = |moved: &Moved| moved.object_type == object_type && (moved.older == path || moved.newer == path);
    MOVED.iter().any(is_it)
}

/// Prepares `object` for the overlay `over`: removes each field that `over` has at the other path, so that the value of
/// `over` counts.
pub fn remove_moved(object_type: &str, object: &mut Value, over: &Value) {
    for moved in MOVED.iter().filter(|moved| moved.object_type == object_type) {
        for (path, other) in [(moved.older, moved.newer), (moved.newer, moved.older)] {
            if has(over, path) && !has(over, other) && !has(object, path) {
                remove(object, other);
            }
        }
    }
}

fn has(value: &Value, path: &[&str]) -> bool {
    match (value, path) {
        (Value::Array(elements), _) => elements.iter().any(|element| has(element, path)),
        (Value::Object(members), [key, rest @ ..]) => {
            members.get(*key).is_some_and(|value| rest.is_empty() || has(value, rest))
        }
        _ => false,
    }
}

/// Removes a path from a value, out of every element of an array.
pub fn remove(value: &mut Value, path: &[&str]) {
    let (Some(key), rest) = (path.first(), path.get(1..).unwrap_or_default()) else { return };
    each_object(value, &mut |members| match members.get_mut(*key) {
        _ if rest.is_empty() => _ = members.remove(*key),
        Some(value) => remove(value, rest),
        None => {}
    });
}

fn each_object(value: &mut Value, act: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(members) => act(members),
        Value::Array(elements) => elements.iter_mut().for_each(|element| each_object(element, act)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after_removal(object_type: &str, mut object: Value, over: &Value) -> Value {
        remove_moved(object_type, &mut object, over);
        object
    }

    #[test]
    fn a_moved_field_is_removed_at_its_other_path() {
        let new = json!({"items": {"data": [{"id": "si_1", "current_period_end": 5}]}});
        let bare = json!({"items": {"data": [{"id": "si_1"}]}});
        assert_eq!(after_removal("subscription", new.clone(), &json!({"current_period_end": 3})), bare);
        assert_eq!(after_removal("subscription", json!({"current_period_end": 5}), &new), json!({}));
        assert_eq!(
            after_removal("discount", json!({"source": {"coupon": "A"}}), &json!({"coupon": {"id": "B"}})),
            json!({})
        );
    }

    #[test]
    fn fields_in_the_shape_of_the_overlay_stay() {
        let old = json!({"current_period_end": 5, "discount": null, "discounts": ["di_1"]});
        assert_eq!(after_removal("subscription", old.clone(), &json!({"discount": {"id": "di_2"}})), old);
        assert_eq!(after_removal("subscription", old.clone(), &json!({"status": "active"})), old);
        assert_eq!(after_removal("invoice", old.clone(), &json!({"current_period_end": 3})), old, "of another type");
    }

    #[test]
    fn both_paths_count_as_moved() {
        assert!(is_moved("subscription", &["items", "data", "current_period_end"]) && is_moved("invoice", &["parent"]));
        assert!(!is_moved("subscription", &["currency"]) && !is_moved("charge", &["parent"]));
    }
}
