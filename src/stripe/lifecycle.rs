//! The rank of an object's status, for types whose status only advances.
//!
//! PURE. Used if the order of events in one second is ambiguous: the higher rank came later.

use super::json::Json;

/// Returns the rank of the object's status, greater is later; `None` for types whose status can return, and for unknown
/// statuses.
pub fn rank(object_type: &str, object: Json<'_>) -> Option<u8> {
    let status = object.get("status").text()?;
    let ranks: &[(&str, u8)] = match object_type {
        "invoice" => &[("draft", 0), ("open", 1), ("uncollectible", 2), ("paid", 3), ("void", 3)],
        "charge" => &[("pending", 0), ("failed", 1), ("succeeded", 1)],
        "payment_intent" => &[
            ("requires_payment_method", 0),
            ("requires_confirmation", 0),
            ("requires_action", 0),
            ("processing", 1),
            ("requires_capture", 2),
            ("succeeded", 3),
            ("canceled", 3),
        ],
        "checkout.session" => &[("open", 0), ("complete", 1), ("expired", 1)],
        _ => return None,
    };
    // a failed payment returns to its first status, with an error until the next attempt
    let begun = object_type == "payment_intent" && status == "requires_payment_method";
    if begun && !object.get("last_payment_error").is_null() {
        return Some(3);
    }
    let rank = ranks.iter().find(|(known, _)| *known == status)?.1;
    // a complete session may still wait for its payment, as with SEPA
    let paid = object_type == "checkout.session" && object.get("payment_status").text().as_deref() == Some("paid");
    Some(rank * 2 + u8::from(paid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn of(object_type: &str, fields: &str) -> Option<u8> {
        rank(object_type, json(&format!("{{{fields}}}")))
    }

    #[test]
    fn each_type_has_its_own_order() {
        for (object_type, order) in [
            ("invoice", vec!["draft", "open", "uncollectible", "paid"]),
            ("charge", vec!["pending", "failed"]),
            ("payment_intent", vec!["requires_payment_method", "processing", "requires_capture", "succeeded"]),
            ("checkout.session", vec!["open", "complete"]),
        ] {
            let ranks: Vec<_> =
                order.iter().map(|status| of(object_type, &format!(r#""status":"{status}""#))).collect();
            assert!(ranks.windows(2).all(|pair| pair[0] < pair[1]), "{object_type}: {ranks:?}");
        }
    }

    #[test]
    fn ends_are_equal_and_money_comes_after_completion() {
        assert_eq!(of("invoice", r#""status":"paid""#), of("invoice", r#""status":"void""#));
        let session = |payment| of("checkout.session", &format!(r#""status":"complete","payment_status":"{payment}""#));
        assert!(session("unpaid") < session("paid"));
    }

    #[test]
    fn a_failed_payment_comes_after_its_processing() {
        let failed = of("payment_intent", r#""status":"requires_payment_method","last_payment_error":{"code":"x"}"#);
        assert!(of("payment_intent", r#""status":"processing""#) < failed);
        assert!(failed < of("payment_intent", r#""status":"requires_capture""#));
        let again = of("payment_intent", r#""status":"processing","last_payment_error":{"code":"x"}"#);
        assert_eq!(again, of("payment_intent", r#""status":"processing""#), "it is tried again");
        let other = of("charge", r#""status":"requires_payment_method","last_payment_error":{"code":"x"}"#);
        assert_eq!(other, None, "of another type");
    }

    #[test]
    fn reversible_statuses_have_no_rank() {
        assert_eq!(of("subscription", r#""status":"active""#), None);
        assert_eq!(of("charge", r#""status":"frobnicated""#), None);
        assert_eq!(of("invoice", r#""status":null"#), None);
    }
}
