//! The checkout session.
//!
//! Owns the location of its fields: an embedded session returns to `return_url`, a hosted one to `success_url`. The
//! `dahlia` versions of 2026 renamed the modes, which are not read. `discounts` came with 2025-01-27.acacia. The client
//! secret is never read. Must not look up other objects: a coupon outside the payload stays unknown. PURE.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::discount::DiscountView;
use super::reader::Reader;
use super::workspace::WorkspaceLink;
use crate::domain::event::Reason;
use crate::stripe::json::{Json, Object};

const STATUSES: [&str; 3] = ["complete", "expired", "open"];
const PAYMENT_STATUSES: [&str; 3] = ["no_payment_required", "paid", "unpaid"];

/// The fields read from a checkout session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckoutView {
    /// `livemode`.
    pub livemode: Option<bool>,
    /// `status`, unknown values kept.
    pub status: Option<String>,
    /// `payment_status`, unknown values kept.
    pub payment_status: Option<String>,
    /// `customer`.
    pub customer_id: Option<String>,
    /// `subscription`.
    pub subscription_id: Option<String>,
    /// The coupon of the first discount whose coupon the payload contains, also as the coupon of a promotion code.
    pub coupon_id: Option<String>,
    /// `return_url`, else `success_url`.
    pub callback_url: Option<String>,
    /// `locale`.
    pub locale: Option<String>,
    /// `metadata`, else `client_reference_id`.
    pub workspace: WorkspaceLink,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// `expires_at`.
    pub expires_at: Option<OffsetDateTime>,
    /// Notes on invalid and unknown values.
    pub notes: BTreeSet<Reason>,
}

impl CheckoutView {
    /// Reads a checkout session.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        let session = json.object().unwrap_or_default();
        let status = reader.text(session.get("status"));
        let payment_status = reader.text(session.get("payment_status"));
        reader.expect_one_of(status.as_deref(), &STATUSES);
        reader.expect_one_of(payment_status.as_deref(), &PAYMENT_STATUSES);
        let embedded = reader.text(session.get("return_url"));
        Self {
            livemode: reader.boolean(session.get("livemode")),
            status,
            payment_status,
            customer_id: reader
                .reference(session.get("customer"))
                .or_else(|| reader.reference(session.get("customer_account"))),
            subscription_id: reader.reference(session.get("subscription")),
            coupon_id: coupon(&session, &mut reader),
            callback_url: embedded.or_else(|| reader.text(session.get("success_url"))),
            locale: reader.text(session.get("locale")),
            workspace: WorkspaceLink::of_session(json),
            created: reader.instant(session.get("created")),
            expires_at: reader.instant(session.get("expires_at")),
            notes: reader.notes,
        }
    }
}

/// Reads the coupon from `discounts`, else from `total_details.breakdown`: the discounts that were applied, which a
/// request can expand in every API version.
fn coupon(session: &Object<'_>, reader: &mut Reader) -> Option<String> {
    let offered = reader.elements(session.get("discounts"));
    if let Some(coupon_id) = offered.into_iter().find_map(|discount| coupon_of_offered(discount, reader)) {
        return Some(coupon_id);
    }
    let details = reader.members(session.get("total_details"));
    let breakdown = reader.members(details.get("breakdown"));
    let applied = reader.elements(breakdown.get("discounts"));
    applied.into_iter().find_map(|one| Some(DiscountView::read(one.get("discount"), reader)?.coupon_id))
}

/// Reads the coupon of one of `discounts`: a coupon or a promotion code, each an id or the whole object.
fn coupon_of_offered(discount: Json<'_>, reader: &mut Reader) -> Option<String> {
    let discount = reader.members(discount);
    let coupon_id = reader.reference(discount.get("coupon"));
    coupon_id.or_else(|| coupon_of_code(discount.get("promotion_code"), reader))
}

/// Reads the coupon of a whole promotion code: `promotion.coupon` since 2025-09-30.clover, before that `coupon`. A bare
/// id contains none.
fn coupon_of_code(code: Json<'_>, reader: &mut Reader) -> Option<String> {
    reader.reference(code)?;
    let code = code.object()?;
    let promotion = reader.members(code.get("promotion"));
    reader.reference(promotion.get("coupon")).or_else(|| reader.reference(code.get("coupon")))
}

/// The price of the first of `line_items`, a list that only reads contain.
pub fn first_price(line_items: Json<'_>) -> Option<String> {
    let items = line_items.get("data").array().unwrap_or_default();
    Reader::default().reference(items.first()?.get("price"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn view(fields: &str) -> CheckoutView {
        CheckoutView::read(json(&format!(r#"{{"id":"cs_1","object":"checkout.session",{fields}}}"#)))
    }

    /// The coupon, and whether an invalid value was noted.
    fn coupon(fields: &str) -> (Option<String>, bool) {
        let view = view(fields);
        (view.coupon_id, view.notes.contains(&Reason::InvalidValue))
    }

    fn found(coupon_id: &str) -> (Option<String>, bool) {
        (Some(coupon_id.to_owned()), false)
    }

    /// A session with these `discounts`, and with these objects as the discounts of its breakdown.
    fn with_breakdown(discounts: &str, applied: &str) -> String {
        format!(
            r#""discounts":{discounts},"total_details":{{"amount_discount":490,"breakdown":{{"taxes":[],
                "discounts":[{{"amount":490,"discount":{applied}}}]}}}}"#
        )
    }

    #[test]
    fn a_coupon_is_an_id_or_the_whole_object() {
        let by_id = r#""discounts":[{"coupon":"SAVE20","promotion_code":null}]"#;
        let whole =
            r#""discounts":[{"coupon":{"id":"SAVE20","object":"coupon","percent_off":20},"promotion_code":null}]"#;
        assert_eq!((coupon(by_id), coupon(whole)), (found("SAVE20"), found("SAVE20")));
        assert_eq!(view(by_id), view(whole), "two renderings of one state");
        assert_eq!(coupon(r#""discounts":[{"coupon":{"id":"SAVE20","deleted":true}}]"#), found("SAVE20"));
    }

    #[test]
    fn a_session_without_discounts_has_no_coupon() {
        let totals = r#""total_details":{"amount_discount":0,"amount_shipping":0,"amount_tax":0}"#;
        for fields in [totals, r#""discounts":null"#, r#""discounts":[]"#, r#""discounts":[],"total_details":null"#] {
            assert_eq!(coupon(fields), (None, false), "{fields}");
        }
        assert_eq!(
            coupon(&format!(r#""discounts":[{{"coupon":null,"promotion_code":null}}],{totals}"#)),
            (None, false)
        );
    }

    #[test]
    fn a_whole_promotion_code_contains_its_coupon_in_every_api_version() {
        let of_code = |fields: &str| {
            let code = format!(r#"{{"id":"promo_1","object":"promotion_code","code":"HELLO",{fields}}}"#);
            coupon(&format!(r#""discounts":[{{"coupon":null,"promotion_code":{code}}}]"#))
        };
        assert_eq!(of_code(r#""coupon":{"id":"SAVE20","object":"coupon"}"#), found("SAVE20"), "2025-03-31.basil");
        assert_eq!(of_code(r#""promotion":{"type":"coupon","coupon":"SAVE20"}"#), found("SAVE20"), "2025-09-30.clover");
        assert_eq!(of_code(r#""promotion":{"type":"coupon","coupon":{"id":"SAVE20"}}"#), found("SAVE20"), "expanded");
        assert_eq!(of_code(r#""promotion":{"coupon":"NEW"},"coupon":{"id":"OLD"}"#), found("NEW"), "the new one first");
        assert_eq!(of_code(r#""promotion":{"coupon":null},"coupon":{"id":"OLD"}"#), found("OLD"), "then the old one");
        assert_eq!(of_code(r#""promotion":{"type":"frobnicated","coupon":null}"#), (None, false), "it has none");
    }

    #[test]
    fn the_id_of_a_promotion_code_contains_no_coupon() {
        let code = r#"{"coupon":null,"promotion_code":"promo_1"}"#;
        assert_eq!(coupon(&format!(r#""discounts":[{code}]"#)), (None, false));
        let next = r#"{"coupon":"SAVE20","promotion_code":null}"#;
        assert_eq!(coupon(&format!(r#""discounts":[{code},{next}]"#)), found("SAVE20"), "the first known coupon");
        assert_eq!(coupon(r#""discounts":[{"coupon":"SAVE20","promotion_code":"promo_1"}]"#), found("SAVE20"), "both");
    }

    #[test]
    fn the_breakdown_contains_the_coupon_in_every_api_version() {
        let old = r#"{"id":"di_1","object":"discount","coupon":{"id":"SAVE20","object":"coupon"}}"#;
        let new = r#"{"id":"di_1","object":"discount","source":{"type":"coupon","coupon":"SAVE20"}}"#;
        assert_eq!(coupon(&with_breakdown("null", old)), found("SAVE20"), "2024-06-20, expanded");
        assert_eq!(coupon(&with_breakdown("null", new)), found("SAVE20"), "2025-09-30.clover, expanded");
        let code = r#"[{"coupon":null,"promotion_code":"promo_1"}]"#;
        assert_eq!(coupon(&with_breakdown(code, new)), found("SAVE20"), "the coupon of the promotion code");
        assert_eq!(coupon(&with_breakdown(r#"[{"coupon":"FIRST"}]"#, new)), found("FIRST"), "`discounts` comes first");
        assert_eq!(coupon(&with_breakdown("null", r#"{"id":"di_1","deleted":true}"#)), (None, false));
        assert_eq!(coupon(r#""total_details":{"breakdown":{"discounts":[],"taxes":[]}}"#), (None, false));
    }

    #[test]
    fn invalid_discounts_are_noted() {
        let invalid = [
            r#""discounts":5"#,
            r#""discounts":{}"#,
            r#""discounts":["di_1"]"#,
            r#""discounts":[{"coupon":5}]"#,
            r#""discounts":[{"coupon":{}}]"#,
            r#""discounts":[{"promotion_code":5}]"#,
            r#""discounts":[{"promotion_code":{"id":"promo_1","coupon":5}}]"#,
            r#""discounts":[{"promotion_code":{"id":"promo_1","promotion":"SAVE20"}}]"#,
            r#""total_details":5"#,
            r#""total_details":{"breakdown":5}"#,
            r#""total_details":{"breakdown":{"discounts":{}}}"#,
            r#""total_details":{"breakdown":{"discounts":[{"discount":"di_1"}]}}"#,
            r#""total_details":{"breakdown":{"discounts":[{"discount":{"id":"di_1","coupon":null}}]}}"#,
        ];
        for fields in invalid {
            assert_eq!(coupon(fields), (None, true), "{fields}");
        }
        let next = r#""discounts":[{"coupon":5},{"coupon":"SAVE20"}]"#;
        assert_eq!(coupon(next), (Some("SAVE20".to_owned()), true), "a valid one is found after it");
    }

    #[test]
    fn the_price_is_that_of_the_first_line_item() {
        let price = |items: &str| first_price(json(items));
        assert_eq!(price(r#"{"data":[{"price":{"id":"price_1"}},{"price":"price_2"}]}"#).as_deref(), Some("price_1"));
        assert_eq!((price(r#"{"data":[]}"#), price("null")), (None, None));
    }
}
