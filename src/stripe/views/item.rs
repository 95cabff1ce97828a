//! The items of a subscription.
//!
//! Owns the location of an item's price, and the order of items. Must not know pricing plans. PURE; called by the
//! subscription view and by its projection.

use time::OffsetDateTime;

use super::reader::Reader;
use super::standing::Standing;
use crate::stripe::json::Json;

/// The fields read from a subscription item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemView {
    /// `id`.
    pub id: Option<String>,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// `current_period_start`: here since 2025-03-31.basil, before that only on the subscription.
    pub current_period_start: Option<OffsetDateTime>,
    /// `current_period_end`: here since 2025-03-31.basil, before that only on the subscription.
    pub current_period_end: Option<OffsetDateTime>,
    /// `quantity`, never below 0. If absent, it is 0 for a metered item and otherwise 1, as in Stripe.
    pub quantity: i64,
    /// Whether `usage_type` of its price is `metered`; `None` if the payload contains only the id of the price.
    pub metered: Option<bool>,
    /// Id of `price`, in very old payloads of `plan`.
    pub price_id: Option<String>,
    /// The standing by its price in this payload, if the price is whole there.
    pub standing: Standing,
    /// `current_trial`: the trial offer that applies to the item now, since 2026-09-30.endive.
    pub current_trial: Option<TrialView>,
}

/// The fields read from an item's `current_trial`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrialView {
    /// `start_date`.
    pub start: Option<OffsetDateTime>,
    /// `end_date`.
    pub end: Option<OffsetDateTime>,
    /// `trial_offer`: the offer, which contains the price after the trial.
    pub offer_id: Option<String>,
}

impl ItemView {
    /// Reads one element of `items.data`; `None` if it was deleted, and with a note if it is not an object.
    pub(super) fn read(value: Json<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(item) = value.object() else {
            reader.note_unreadable();
            return None;
        };
        if item.get("deleted").boolean() == Some(true) {
            return None;
        }
        let [price, plan] = ["price", "plan"].map(|key| item.get(key));
        let price_id = reader.reference(price).or_else(|| reader.reference(plan));
        let whole = [price, plan].into_iter().find(|price| price.is_object()).unwrap_or(Json::NULL);
        let usage_type = whole.get("recurring").get("usage_type").text().or_else(|| whole.get("usage_type").text());
        let metered = usage_type.map(|usage_type| usage_type == "metered");
        let quantity = reader.integer(item.get("quantity")).unwrap_or(i64::from(metered != Some(true)));
        Some(Self {
            id: reader.text(item.get("id")),
            created: reader.instant(item.get("created")),
            quantity: quantity.max(0),
            metered,
            current_period_start: reader.instant(item.get("current_period_start")),
            current_period_end: reader.instant(item.get("current_period_end")),
            price_id,
            standing: Standing::of(whole, whole.get("product")),
            current_trial: TrialView::read(item.get("current_trial"), reader),
        })
    }
}

impl TrialView {
    fn read(value: Json<'_>, reader: &mut Reader) -> Option<Self> {
        if value.is_null() {
            return None;
        }
        let trial = reader.members(value);
        Some(Self {
            start: reader.instant(trial.get("start_date")),
            end: reader.instant(trial.get("end_date")),
            offer_id: reader.reference(trial.get("trial_offer")),
        })
    }
}

/// Reads a list of items outside of a subscription, for example in `previous_attributes`.
pub fn listed(data: Json<'_>) -> Vec<ItemView> {
    let mut reader = Reader::default();
    data.array().unwrap_or_default().into_iter().filter_map(|item| ItemView::read(item, &mut reader)).collect()
}

/// Price and quantity of each item that has a price, sorted, so that the order of the list does not matter.
pub fn bought(items: &[ItemView]) -> Vec<(String, i64)> {
    let mut bought: Vec<_> = items.iter().filter_map(|item| Some((item.price_id.clone()?, item.quantity))).collect();
    bought.sort();
    bought
}

/// Sorts the plan's item first: by the standing of its price, then the oldest, then the smallest id. Items of one
/// checkout are created in the same second, so their age is not sufficient. Earlier choices do not count.
///
/// Items without a creation time or id come last.
pub fn sort(items: &mut [ItemView], standing: impl Fn(&ItemView) -> Standing) {
    items.sort_by_cached_key(|item| {
        (standing(item), item.created.is_none(), item.created, item.id.is_none(), item.id.clone())
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn item(text: &str) -> (Option<ItemView>, bool) {
        let mut reader = Reader::default();
        let view = ItemView::read(json(text), &mut reader);
        (view, !reader.notes.is_empty())
    }

    fn price(text: &str) -> Option<String> {
        item(text).0.unwrap().price_id
    }

    fn first(items: &str) -> Option<String> {
        let mut reader = Reader::default();
        let elements = json(items).array().unwrap();
        let mut items: Vec<_> = elements.into_iter().filter_map(|json| ItemView::read(json, &mut reader)).collect();
        sort(&mut items, |item| item.standing);
        items.first().and_then(|item| item.id.clone())
    }

    #[test]
    fn the_price_is_read_before_the_plan() {
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(price(r#"{"price":{"id":"price_1"},"plan":{"id":"plan_1"}}"#), id("price_1"));
        assert_eq!(price(r#"{"plan":{"id":"plan_1"}}"#), id("plan_1"), "very old");
        assert_eq!(price(r#"{"price":"price_1"}"#), id("price_1"));
        assert_eq!(price("{}"), None);
    }

    #[test]
    fn an_invalid_item_is_omitted_and_noted() {
        assert_eq!(item("\"si_1\""), (None, true));
        assert_eq!(item("null"), (None, true));
        assert_eq!(item(r#"{"id":"si_1","deleted":true}"#), (None, false), "a deleted item is not an item");
    }

    #[test]
    fn a_missing_quantity_is_one_or_zero_if_metered() {
        let quantity = |text: &str| item(text).0.unwrap().quantity;
        assert_eq!(quantity(r#"{"quantity":25,"price":{"id":"p"}}"#), 25);
        assert_eq!((quantity(r#"{"quantity":0}"#), quantity(r#"{"quantity":-3}"#)), (0, 0));
        for missing in
            ["{}", r#"{"quantity":null,"price":"p"}"#, r#"{"price":{"recurring":{"usage_type":"licensed"}}}"#]
        {
            assert_eq!(quantity(missing), 1, "{missing}");
        }
        assert_eq!(quantity(r#"{"price":{"id":"p","recurring":{"usage_type":"metered"}}}"#), 0);
        assert_eq!(quantity(r#"{"plan":{"id":"p","usage_type":"metered"}}"#), 0, "very old");
        assert_eq!((item(r#"{"quantity":"2"}"#).0.unwrap().quantity, item(r#"{"quantity":"2"}"#).1), (1, true));
    }

    #[test]
    fn the_standing_of_the_price_comes_before_the_age() {
        let items = r#"[{"id":"si_a","created":1700000000,"price":{"id":"p_a","recurring":{"usage_type":"metered"}}},
            {"id":"si_b","created":1800000000,"plan":{"id":"p_b","usage_type":"licensed"}},
            {"id":"si_c","created":1800000000,"price":{"id":"p_c","product":{"metadata":{"limit_words":"5"}}}}]"#;
        assert_eq!(first(items).as_deref(), Some("si_c"), "a limit");
        let marked = items.replace(r#""p_a","#, r#""p_a","metadata":{"is_plan":"true"},"#);
        assert_eq!(first(&marked).as_deref(), Some("si_a"), "the owner's choice");
        let unmarked = items.replace(r#""p_c","#, r#""p_c","metadata":{"is_plan":"false"},"#);
        assert_eq!(first(&unmarked).as_deref(), Some("si_b"));
    }

    #[test]
    fn the_oldest_item_counts_and_then_the_smallest_id() {
        let (old, new) = ("1700000000", "1800000000");
        assert_eq!(first("[]"), None);
        let by_age = format!(r#"[{{"id":"si_a","created":{new}}},{{"id":"si_b","created":{old}}}]"#);
        assert_eq!(first(&by_age).as_deref(), Some("si_b"));
        let by_id = format!(r#"[{{"id":"si_b","created":{old}}},{{"id":"si_a","created":{old}}}]"#);
        assert_eq!(first(&by_id).as_deref(), Some("si_a"));
        let unreadable = format!(r#"[{{"id":"si_a","created":"x"}},{{"id":"si_b","created":{new}}}]"#);
        assert_eq!(first(&unreadable).as_deref(), Some("si_b"), "an unreadable age comes last");
    }
}
