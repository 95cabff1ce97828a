//! The standing of a price: the fields of the price and its product that decide which item of a subscription is its
//! plan.
//!
//! Owns the order of prices in that choice. Must not know subscriptions: [`super::item::sort`] compares the age and id
//! of items. PURE; called by the item view, by the projection of subscriptions and of plans.

use super::price::limits;
use crate::stripe::json::Json;

/// Standing of a price among the prices of one subscription: the item with the lowest standing is the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Standing {
    marker: Marker,
    /// Whether `recurring.usage_type` (`usage_type` of a plan) is `metered`: usage is billed in addition to a plan.
    is_metered: bool,
    limits: Limits,
}

/// The metadata `is_plan`, the explicit choice of the account's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Marker {
    Plan,
    #[default]
    Unmarked,
    NoPlan,
}

/// The object whose metadata contain a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Limits {
    Price,
    Product,
    #[default]
    Neither,
}

impl Standing {
    /// The standing of a price, or a plan of very old API versions, and its product if known.
    pub fn of(price: Json<'_>, product: Json<'_>) -> Self {
        let markers = [price, product].map(|one| marker(one.get("metadata").get("is_plan")));
        let usage_type = price.get("recurring").get("usage_type").text().or_else(|| price.get("usage_type").text());
        let names_a_limit = |one: Json<'_>| !limits(one.get("metadata")).is_empty();
        Self {
            marker: markers.into_iter().flatten().next().unwrap_or_default(),
            is_metered: usage_type.as_deref() == Some("metered"),
            limits: match (names_a_limit(price), names_a_limit(product)) {
                (true, _) => Limits::Price,
                (false, true) => Limits::Product,
                (false, false) => Limits::Neither,
            },
        }
    }

    /// The standing as one small number in the same order, from 0 to 17.
    pub fn rank(self) -> i16 {
        self.marker as i16 * 6 + i16::from(self.is_metered) * 3 + self.limits as i16
    }
}

/// Parses the metadata `is_plan`; values other than `true` and `false` count as absent.
fn marker(value: Json<'_>) -> Option<Marker> {
    let text = value.text().unwrap_or_else(|| value.raw().to_owned());
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Some(Marker::Plan),
        "false" => Some(Marker::NoPlan),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn of(price: &str, product: &str) -> Standing {
        Standing::of(json(price), json(product))
    }

    #[test]
    fn the_marker_counts_before_billing_and_limits() {
        let limited = r#"{"metadata":{"limit_words":"5"}}"#;
        let in_order = [
            of(r#"{"metadata":{"is_plan":"true"},"recurring":{"usage_type":"metered"}}"#, "{}"),
            of(limited, "{}"),
            of(r#"{"recurring":{"usage_type":"licensed"}}"#, limited),
            of("{}", "null"),
            of(r#"{"metadata":{"words":"5"},"recurring":{"usage_type":"metered"}}"#, "{}"),
            of(r#"{"metadata":{"limit_words":"5","is_plan":"false"}}"#, "{}"),
        ];
        assert!(in_order.is_sorted_by(|one, next| one < next && one.rank() < next.rank()), "{in_order:?}");
    }

    #[test]
    fn the_marker_of_the_price_comes_before_the_products() {
        let (plan, no_plan) = (r#"{"metadata":{"is_plan":"true"}}"#, r#"{"metadata":{"is_plan":"false"}}"#);
        assert_eq!(of(plan, no_plan).marker, Marker::Plan);
        assert_eq!(of(no_plan, plan).marker, Marker::NoPlan);
        assert_eq!(of("{}", no_plan).marker, Marker::NoPlan);
        assert_eq!(of(r#"{"metadata":{"is_plan":"perhaps"}}"#, plan).marker, Marker::Plan, "invalid values are absent");
        for written in [r#"" True ""#, "true", r#""TRUE""#] {
            assert_eq!(of(&format!(r#"{{"metadata":{{"is_plan":{written}}}}}"#), "{}").marker, Marker::Plan);
        }
        for odd in [r#""""#, "null", "1", r#""yes""#, "{}"] {
            assert_eq!(of(&format!(r#"{{"metadata":{{"is_plan":{odd}}}}}"#), "{}").marker, Marker::Unmarked, "{odd}");
        }
    }

    #[test]
    fn a_very_old_plan_has_its_usage_type_at_the_top() {
        assert_eq!(of(r#"{"usage_type":"metered"}"#, "{}"), of(r#"{"recurring":{"usage_type":"metered"}}"#, "{}"));
        for odd in ["null", "5", "[]", r#"{"recurring":5,"metadata":"x"}"#] {
            assert_eq!(of(odd, odd), Standing::default(), "{odd}");
        }
    }
}
