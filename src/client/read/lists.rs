//! The lists of all objects of a kind, and the request for each page. A page expands the same fields as the read of a
//! single object, one level deeper.
//!
//! PURE. Stripe expands four levels at most, the list's own `data` among them: a payment's charge is the deepest.

use stripe_billing::invoice::ListInvoice;
use stripe_billing::invoice_payment::ListInvoicePayment;
use stripe_billing::plan::ListPlan;
use stripe_billing::subscription::{ListSubscription, ListSubscriptionStatus};
use stripe_checkout::checkout_session::ListCheckoutSession;
use stripe_client_core::{RequestBuilder, StripeRequest};
use stripe_core::customer::ListCustomer;
use stripe_core::dispute::ListDispute;
use stripe_payment::payment_link::ListPaymentLink;
use stripe_product::coupon::ListCoupon;
use stripe_product::price::ListPrice;
use stripe_product::product::ListProduct;
use stripe_types::{RangeBoundsTs, RangeQueryTs};

/// Stripe's maximum page size.
pub const PAGE: i64 = 100;

/// Kinds of lists. Deleted objects are in no list, and objects on a test clock are only in that clock's lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    /// Products, including archived ones.
    Products,
    /// Prices with their amounts in other currencies, including archived ones.
    Prices,
    /// Plans: the substitute on a server without a list of prices.
    Plans,
    /// Coupons.
    Coupons,
    /// Customers, with the fields of `Read::Customer`.
    Customers,
    /// Subscriptions of every status, with the fields of `Read::Subscription`; optionally of one customer.
    Subscriptions(Option<String>),
    /// Invoices of every status; optionally of one customer.
    Invoices(Option<String>),
    /// Checkout sessions with their line items; optionally of one customer.
    Sessions(Option<String>),
    /// Disputes.
    Disputes,
    /// Payment links; there is no filter by time.
    PaymentLinks,
    /// Payments of all invoices, each with its payment intent and the intent's latest charge.
    Payments,
}

/// A range of creation times, in whole seconds. Without bounds it covers all times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first second.
    pub from: Option<i64>,
    /// The second after the last.
    pub until: Option<i64>,
}

impl Span {
    /// Whether the range contains a creation time. An object without a creation time is in every range.
    pub fn covers(&self, created: Option<i64>) -> bool {
        created.is_none_or(|created| {
            self.from.is_none_or(|from| created >= from) && self.until.is_none_or(|until| created < until)
        })
    }
}

impl ListKind {
    /// The operation, as a label's value.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::Products => "products.list",
            Self::Prices => "prices.list",
            Self::Plans => "plans.list",
            Self::Coupons => "coupons.list",
            Self::Customers => "customers.list",
            Self::Subscriptions(_) => "subscriptions.list",
            Self::Invoices(_) => "invoices.list",
            Self::Sessions(_) => "checkout_sessions.list",
            Self::Disputes => "disputes.list",
            Self::PaymentLinks => "payment_links.list",
            Self::Payments => "invoice_payments.list",
        }
    }
}

/// Texts in the form that the builders take.
pub(in crate::client) fn list<const N: usize>(fields: [&str; N]) -> Vec<String> {
    fields.map(str::to_owned).to_vec()
}

/// Adds the parameters common to all lists to a request, and builds it.
macro_rules! request {
    ($list:expr, $expand:expr, $span:expr, $after:expr) => {{
        let mut request = $list.limit(PAGE);
        if !$expand.is_empty() {
            request = request.expand($expand);
        }
        if let Some(created) = created($span) {
            request = request.created(created);
        }
        if let Some(after) = $after {
            request = request.starting_after(after);
        }
        request.build()
    }};
}

/// Builds the request for a page.
pub(super) fn page(of: &ListKind, span: Span, after: Option<&str>, expand: bool) -> RequestBuilder {
    let expand = if expand { expanded(of) } else { Vec::new() };
    match of {
        ListKind::Products => request!(ListProduct::new(), expand, span, after),
        ListKind::Prices => request!(ListPrice::new(), expand, span, after),
        ListKind::Plans => request!(ListPlan::new(), expand, span, after),
        ListKind::Coupons => request!(ListCoupon::new(), expand, span, after),
        ListKind::Customers => request!(ListCustomer::new(), expand, span, after),
        ListKind::Subscriptions(customer) => {
            let mut all = ListSubscription::new().status(ListSubscriptionStatus::All);
            if let Some(customer) = customer {
                all = all.customer(customer.as_str());
            }
            request!(all, expand, span, after)
        }
        ListKind::Invoices(customer) => {
            let mut all = ListInvoice::new();
            if let Some(customer) = customer {
                all = all.customer(customer.as_str());
            }
            request!(all, expand, span, after)
        }
        ListKind::Sessions(customer) => {
            let mut all = ListCheckoutSession::new();
            if let Some(customer) = customer {
                all = all.customer(customer.as_str());
            }
            request!(all, expand, span, after)
        }
        ListKind::Disputes => request!(ListDispute::new(), expand, span, after),
        ListKind::PaymentLinks => {
            let request = ListPaymentLink::new().limit(PAGE);
            match after {
                Some(after) => request.starting_after(after).build(),
                None => request.build(),
            }
        }
        ListKind::Payments => request!(ListInvoicePayment::new(), expand, span, after),
    }
}

/// The expanded fields. The test clock is not among them, because lists omit objects on test clocks.
fn expanded(of: &ListKind) -> Vec<String> {
    match of {
        ListKind::Products
        | ListKind::Plans
        | ListKind::Coupons
        | ListKind::Invoices(_)
        | ListKind::Disputes
        | ListKind::PaymentLinks => Vec::new(),
        ListKind::Prices => list(["data.currency_options"]),
        ListKind::Customers => {
            list(["data.invoice_settings.default_payment_method", "data.default_source", "data.discount.source.coupon"])
        }
        ListKind::Subscriptions(_) => list([
            "data.default_payment_method",
            "data.default_source",
            "data.discounts.source.coupon",
            "data.items.data.discounts",
            "data.schedule",
        ]),
        ListKind::Sessions(_) => list(["data.line_items"]),
        ListKind::Payments => list(["data.payment.charge", "data.payment.payment_intent.latest_charge"]),
    }
}

fn created(span: Span) -> Option<RangeQueryTs> {
    let bounds = RangeBoundsTs { gt: None, gte: span.from, lt: span.until, lte: None };
    (span != Span::default()).then_some(RangeQueryTs::Bounds(bounds))
}
