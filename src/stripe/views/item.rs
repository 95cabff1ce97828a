//! The items of a subscription, and the prices that travel inside them.
//!
//! Owns which item counts and where its price stands. Must not know pricing plans. PURE; called by the
//! subscription view, and [`embedded`] by the worker.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::reader::{Reader, whole};
use crate::stripe::json::{Json, Object};

/// What we read of a subscription item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemView {
    /// `id`.
    pub id: Option<String>,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// `current_period_end`: here since 2025-03-31.basil, before that at the subscription only.
    pub current_period_end: Option<OffsetDateTime>,
    /// Id of `price`, in very old payloads of `plan`.
    pub price_id: Option<String>,
    /// The payload carries that price (or plan) with its content.
    pub price_is_whole: bool,
}

impl ItemView {
    /// Reads one element of `items.data`; `None`, and a note, where it is no object.
    pub(super) fn read(value: Json<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(item) = value.object() else {
            reader.note_unreadable();
            return None;
        };
        let price = reader.reference(item.get("price")).or_else(|| reader.reference(item.get("plan")));
        Some(Self {
            id: reader.text(item.get("id")),
            created: reader.instant(item.get("created")),
            current_period_end: reader.instant(item.get("current_period_end")),
            price_is_whole: price.is_some() && [whole(item.get("price")), whole(item.get("plan"))].contains(&price),
            price_id: price,
        })
    }
}

/// Puts the item that counts first: the oldest, then the smallest id. Nothing remembered has a say in it.
///
/// What cannot be compared comes last.
pub(super) fn sort_by_age(items: &mut [ItemView]) {
    items.sort_by(|a, b| {
        let key = |item: &ItemView| (item.created.is_none(), item.created, item.id.is_none());
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
}

/// An object inside a subscription's payload that has a key of its own in the mirror.
#[derive(Debug, Clone)]
pub struct Embedded<'a> {
    /// `price`, or `plan` in very old payloads.
    pub object_type: &'static str,
    /// Its id.
    pub object_id: String,
    /// The object as it was written.
    pub content: Json<'a>,
}

/// The prices of a subscription's items; where an item has no price object, its plan. Bare ids and stubs of deleted
/// objects carry no content and are left out.
///
/// In the order of type and id, each once: of two with one id the first in the payload stands (they are the same).
pub fn embedded(subscription: Json<'_>) -> Vec<Embedded<'_>> {
    let items = subscription.get("items").get("data").array().unwrap_or_default();
    let mut found = BTreeMap::new();
    for item in items.into_iter().filter_map(Json::object) {
        if let Some((object_type, object_id, content)) = price_of(&item) {
            found.entry((object_type, object_id)).or_insert(content);
        }
    }
    let embed = |((object_type, object_id), content)| Embedded { object_type, object_id, content };
    found.into_iter().map(embed).collect()
}

/// From 2020-08-27 on an item has both, with the same id; the plan is the price's older shape and adds nothing.
fn price_of<'a>(item: &Object<'a>) -> Option<(&'static str, String, Json<'a>)> {
    ["price", "plan"].into_iter().find_map(|object_type| {
        let content = item.get(object_type);
        whole(content).map(|id| (object_type, id, content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> (Option<ItemView>, bool) {
        let mut reader = Reader::default();
        let view = ItemView::read(Json::parse(text).unwrap(), &mut reader);
        (view, !reader.notes.is_empty())
    }

    fn price(text: &str) -> (Option<String>, bool) {
        let view = item(text).0.unwrap();
        (view.price_id, view.price_is_whole)
    }

    fn first(items: &str) -> Option<String> {
        let mut reader = Reader::default();
        let elements = Json::parse(items).unwrap().array().unwrap();
        let mut items: Vec<_> = elements.into_iter().filter_map(|json| ItemView::read(json, &mut reader)).collect();
        sort_by_age(&mut items);
        items.first().and_then(|item| item.id.clone())
    }

    #[test]
    fn the_price_is_read_before_the_plan() {
        let known = |id: &str| (Some(id.to_owned()), true);
        let bare = |id: &str| (Some(id.to_owned()), false);
        assert_eq!(price(r#"{"price":{"id":"price_1"},"plan":{"id":"plan_1"}}"#), known("price_1"));
        assert_eq!(price(r#"{"plan":{"id":"plan_1"}}"#), known("plan_1"), "very old");
        assert_eq!(price(r#"{"price":"price_1","plan":{"id":"price_1"}}"#), known("price_1"), "one id, two shapes");
        assert_eq!(price(r#"{"price":"price_1","plan":{"id":"plan_1"}}"#), bare("price_1"));
        assert_eq!(price(r#"{"price":"price_1"}"#), bare("price_1"));
        assert_eq!(price(r#"{"price":{"id":"price_1","deleted":true}}"#), bare("price_1"), "a stub");
        assert_eq!(price("{}"), (None, false));
    }

    #[test]
    fn an_item_that_is_no_object_is_left_out_and_noted() {
        assert_eq!(item("\"si_1\""), (None, true));
        assert_eq!(item("null"), (None, true));
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

    #[test]
    fn embedded_prices_come_in_order_and_once() {
        let text = r#"{"items":{"data":[
            {"price":{"id":"price_2"},"plan":{"id":"price_2"}}, {"plan":{"id":"plan_1"}}, {"price":{"id":"price_1"}},
            {"price":"price_9","plan":{"id":"price_9"}}, {"price":{"id":"price_2","again":1}},
            {"price":"price_8"}, {"price":{"id":"price_7","deleted":true}}, {"price":{"id":5}}, 5]}}"#;
        let found = embedded(Json::parse(text).unwrap());
        let keys: Vec<_> = found.iter().map(|found| (found.object_type, found.object_id.as_str())).collect();
        assert_eq!(keys, [("plan", "plan_1"), ("plan", "price_9"), ("price", "price_1"), ("price", "price_2")]);
        assert_eq!(found[3].content.raw(), r#"{"id":"price_2"}"#);
    }

    #[test]
    fn nothing_is_embedded_where_nothing_can_be_read() {
        for text in ["null", "{}", r#"{"items":null}"#, r#"{"items":{"data":5}}"#, r#"{"items":[]}"#] {
            assert!(embedded(Json::parse(text).unwrap()).is_empty(), "{text}");
        }
    }
}
