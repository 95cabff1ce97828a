//! The discount: its coupon and its end.
//!
//! Owns the location of the coupon: `discount.coupon` (an object) up to 2025-08-27.basil, `discount.source.coupon` (an
//! id, or the object when expanded) since 2025-09-30.clover. Must not use the current time: queries decide whether an
//! end has passed. PURE; called by the customer and the subscription view, and by the projection.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::reader::Reader;
use crate::stripe::json::Json;

/// Fields that are set if a discount does not apply to all of a customer's invoices.
const NARROWER: [&str; 5] = ["checkout_session", "invoice", "invoice_item", "subscription", "subscription_item"];

/// A discount with its coupon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiscountView {
    /// `id`; `None` in the oldest versions.
    pub id: Option<String>,
    /// Whether it is the customer's own: not of a subscription, subscription item, invoice, invoice item or checkout
    /// session.
    pub of_customer: bool,
    /// The coupon's id.
    pub coupon_id: String,
    /// When it ends; `None` if it never does.
    pub ends_at: Option<OffsetDateTime>,
}

impl DiscountView {
    /// Reads a discount object; `None` if it has no coupon.
    pub fn of_object(value: Json<'_>) -> Option<Self> {
        Self::read(value, &mut Reader::default())
    }

    /// Reads a whole discount; `None` for null and for the stub of a deleted one.
    ///
    /// A discount without a coupon (`source.coupon` may be null) cannot be stored in a row, so it is noted.
    pub(super) fn read(value: Json<'_>, reader: &mut Reader) -> Option<Self> {
        let discount = reader.members(value);
        if !value.is_object() || discount.get("deleted").boolean() == Some(true) {
            return None;
        }
        let source = reader.members(discount.get("source"));
        let coupon = reader.reference(source.get("coupon")).or_else(|| reader.reference(discount.get("coupon")));
        let Some(coupon_id) = coupon else {
            reader.note_unreadable();
            return None;
        };
        Some(Self {
            id: discount.get("id").text(),
            of_customer: NARROWER.iter().all(|scope| discount.get(scope).is_null()),
            coupon_id,
            ends_at: reader.instant(discount.get("end")),
        })
    }
}

/// One entry of a list of discounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedDiscount {
    /// Only the id, as usual since 2023-10.
    Id(String),
    /// The whole discount.
    Whole(DiscountView),
}

/// The discounts of a payload: `elements` of its lists, and the single `discount` of old versions, which is whole if
/// the list contains its id.
pub(super) fn read_all(elements: &[Json<'_>], single: Json<'_>, reader: &mut Reader) -> Vec<ListedDiscount> {
    let single = DiscountView::read(single, reader);
    let known = single.as_ref().and_then(|discount| discount.id.clone());
    let mut listed = Vec::new();
    for element in elements {
        match element.text() {
            Some(id) if Some(&id) == known.as_ref() => {}
            Some(id) => listed.push(ListedDiscount::Id(id)),
            None => listed.extend(DiscountView::read(*element, reader).map(ListedDiscount::Whole)),
        }
    }
    listed.into_iter().chain(single.map(ListedDiscount::Whole)).collect()
}

/// One discount per coupon, in the order of the coupon ids, as pairs of coupon and end.
///
/// The order does not depend on the payload: subscription, items and the old `discount` contain the same coupon at
/// locations that differ by API version, and the row must not change with them. Of two discounts with the same coupon,
/// the one that ends last counts, because the coupon has an effect until then.
pub fn by_coupon(discounts: impl IntoIterator<Item = DiscountView>) -> Vec<(String, Option<OffsetDateTime>)> {
    let mut ends: BTreeMap<String, Option<OffsetDateTime>> = BTreeMap::new();
    for DiscountView { coupon_id, ends_at, .. } in discounts {
        ends.entry(coupon_id)
            .and_modify(|end| *end = end.zip(ends_at).map(|(one, other)| one.max(other)))
            .or_insert(ends_at);
    }
    ends.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Reason;
    use crate::stripe::json::json;
    use time::macros::datetime;

    fn read(text: &str) -> (Option<String>, bool) {
        let mut reader = Reader::default();
        let view = DiscountView::read(json(text), &mut reader);
        (view.map(|view| view.coupon_id), reader.notes.contains(&Reason::InvalidValue))
    }

    #[test]
    fn the_coupon_is_found_in_every_api_version() {
        let expected = (Some("SAVE20".to_owned()), false);
        assert_eq!(read(r#"{"id":"di_1","coupon":{"id":"SAVE20"},"end":null}"#), expected, "2020-08-27");
        assert_eq!(read(r#"{"source":{"type":"coupon","coupon":"SAVE20"}}"#), expected, "2025-09-30.clover");
        assert_eq!(read(r#"{"source":{"type":"coupon","coupon":{"id":"SAVE20"}}}"#), expected, "expanded");
        assert_eq!(read(r#"{"source":{"coupon":"SAVE20"},"coupon":{"id":"OLD"}}"#), expected, "the new one first");
        assert_eq!(read(r#"{"source":{"coupon":null},"coupon":{"id":"SAVE20"}}"#), expected, "then the old one");
    }

    #[test]
    fn a_discount_without_a_coupon_is_noted() {
        assert_eq!(read(r#"{"id":"di_1","source":{"type":"coupon","coupon":null}}"#), (None, true));
        assert_eq!(read(r#"{"id":"di_1","coupon":5}"#), (None, true));
        assert_eq!(read("\"di_1\""), (None, true));
        assert_eq!(read("null"), (None, false));
        assert_eq!(read(r#"{"id":"di_1","deleted":true,"coupon":{"id":"SAVE20"}}"#), (None, false));
    }

    #[test]
    fn a_bare_id_is_replaced_by_the_same_whole_discount() {
        let listed = |single: &str| {
            let id = json("\"di_1\"");
            let found = read_all(&[id], json(single), &mut Reader::default());
            found.iter().map(|one| matches!(one, ListedDiscount::Id(_))).collect::<Vec<_>>()
        };
        assert_eq!(listed("null"), [true]);
        assert_eq!(listed(r#"{"id":"di_2","coupon":{"id":"A"}}"#), [true, false]);
        assert_eq!(listed(r#"{"id":"di_1","coupon":{"id":"A"}}"#), [false]);
    }

    #[test]
    fn one_discount_per_coupon_with_the_later_end() {
        let (early, late) = (datetime!(2026-01-01 0:00 UTC), datetime!(2026-06-01 0:00 UTC));
        let discount =
            |coupon: &str, ends_at| DiscountView { id: None, of_customer: true, coupon_id: coupon.to_owned(), ends_at };
        let found = by_coupon([
            discount("B", Some(late)),
            discount("C", None),
            discount("A", Some(early)),
            discount("B", Some(early)),
            discount("C", Some(late)),
        ]);
        assert_eq!(found, [("A".to_owned(), Some(early)), ("B".to_owned(), Some(late)), ("C".to_owned(), None)]);
    }
}
