//! The view of an object of any type, to compare two states of it: everything that rows read.
//!
//! Owns the fields of a view that differ between API versions without a difference in meaning. PURE; called by the
//! mirror, which orders the events of one second by these views.

use std::collections::BTreeSet;

use super::charge::{ChargeView, DisputeView, PaymentIntentView};
use super::checkout::CheckoutView;
use super::coupon::CouponView;
use super::customer::CustomerView;
use super::discount::{DiscountView, ListedDiscount};
use super::invoice::{InvoicePaymentView, InvoiceView};
use super::method::{self, MethodView};
use super::price::PriceView;
use super::product::ProductView;
use super::schedule::ScheduleView;
use super::subscription::SubscriptionView;
use crate::stripe::json::Json;
use crate::stripe::nested::type_of;
use crate::stripe::reference::{customer_of, named};

/// The view of an object of any type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnyView {
    customer_id: Option<String>,
    fields: Fields,
}

/// The view by the object's type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fields {
    Charge(ChargeView),
    Checkout(CheckoutView),
    Coupon(CouponView),
    Customer(Box<CustomerView>),
    Discount(Option<DiscountView>),
    Dispute(DisputeView),
    Invoice(InvoiceView),
    InvoicePayment(InvoicePaymentView),
    Method(Option<MethodView>),
    PaymentIntent(PaymentIntentView),
    Price(PriceView),
    Product(ProductView),
    Schedule(ScheduleView),
    Subscription(Box<SubscriptionView>),
    /// Types of which rows use only the references.
    Names(BTreeSet<(&'static str, String)>),
}

impl AnyView {
    /// Reads an object; `None` if its type is unknown, or a mandatory field is missing or invalid.
    pub fn read(object: Json<'_>) -> Option<Self> {
        let object_type = type_of(object)?;
        let fields = match object_type {
            "charge" => Fields::Charge(ChargeView::read(object)),
            "checkout.session" => Fields::Checkout(CheckoutView::read(object)),
            "coupon" => Fields::Coupon(CouponView::read(object)),
            "customer" => Fields::Customer(Box::new(CustomerView::read(object).ok()?)),
            "discount" => Fields::Discount(DiscountView::of_object(object)),
            "dispute" => Fields::Dispute(DisputeView::read(object)),
            "invoice" => Fields::Invoice(InvoiceView::read(object)),
            "invoice_payment" => Fields::InvoicePayment(InvoicePaymentView::read(object)),
            "bank_account" | "card" | "payment_method" | "source" => {
                Fields::Method(method::of_object(object_type, object))
            }
            "payment_intent" => Fields::PaymentIntent(PaymentIntentView::read(object)),
            "plan" | "price" => Fields::Price(PriceView::read(object).ok()?),
            "product" => Fields::Product(ProductView::read(object)),
            "subscription" => Fields::Subscription(Box::new(normalize(SubscriptionView::read(object).ok()?))),
            "subscription_schedule" => Fields::Schedule(ScheduleView::read(object)),
            _ => Fields::Names(named(object_type, object)),
        };
        Some(Self { customer_id: customer_of(object), fields })
    }
}

/// Removes differences that depend only on the API version: moves the period of old versions to each item, and reduces
/// a discount to its id, as in versions that do not contain it whole.
fn normalize(mut view: SubscriptionView) -> SubscriptionView {
    for item in &mut view.items {
        item.current_period_end = item.current_period_end.or(view.current_period_end);
    }
    if !view.items.is_empty() {
        view.current_period_end = None;
    }
    let id = |listed: ListedDiscount| match listed {
        ListedDiscount::Whole(discount) => ListedDiscount::Id(discount.id.unwrap_or(discount.coupon_id)),
        ListedDiscount::Id(id) => ListedDiscount::Id(id),
    };
    let ids: BTreeSet<ListedDiscount> = view.discounts.into_iter().map(id).collect();
    view.discounts = ids.into_iter().collect();
    view
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn read(text: &str) -> AnyView {
        AnyView::read(json(text)).unwrap()
    }

    #[test]
    fn a_subscription_in_two_api_versions_is_one_state() {
        let old = r#"{"object":"subscription","id":"sub_1","customer":"cus_1","status":"active",
            "current_period_end":1767225600,"discount":{"id":"di_1","coupon":{"id":"SAVE20"}},
            "items":{"data":[{"id":"si_1","price":{"id":"price_1"}}]}}"#;
        let new = r#"{"object":"subscription","id":"sub_1","customer":"cus_1","status":"active","discounts":["di_1"],
            "items":{"data":[{"id":"si_1","price":{"id":"price_1"},"current_period_end":1767225600}]}}"#;
        assert!(read(old) == read(new));
        assert!(read(old) != read(&new.replace("di_1", "di_2")) && read(old) != read(&new.replace("active", "unpaid")));
    }

    #[test]
    fn unread_fields_make_no_difference() {
        let mandate = r#"{"object":"mandate","id":"mandate_1","payment_method":"pm_1","status":"active"}"#;
        assert!(read(mandate) == read(&mandate.replace("active", "inactive")));
        assert!(read(mandate) != read(&mandate.replace("pm_1", "pm_2")));
        assert!(AnyView::read(json(r#"{"object":"frobnicator"}"#)).is_none());
        assert!(AnyView::read(json(r#"{"object":"customer"}"#)).is_none(), "without an id");
    }
}
