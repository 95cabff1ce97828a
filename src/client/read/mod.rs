//! The reads that the client supports, and the request for each: async-stripe's builders make the paths and queries.
//!
//! PURE. The lists of all objects are in [`lists`]. Reads expand the fields that the projection needs and a webhook
//! does not contain; field names are those of [`super::API_VERSION`]. Stripe expands four levels deep at most.

mod lists;

use stripe_billing::invoice_payment::{
    ListInvoicePayment, ListInvoicePaymentPayment, ListInvoicePaymentPaymentType as PaymentType,
};
use stripe_billing::subscription_item::ListSubscriptionItem;
use stripe_billing::{
    invoice::RetrieveInvoice, plan::RetrievePlan, subscription::RetrieveSubscription,
    subscription_schedule::RetrieveSubscriptionSchedule,
};
use stripe_checkout::checkout_session::RetrieveCheckoutSession;
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest};
use stripe_core::charge::{ListCharge, RetrieveCharge};
use stripe_core::event::{ListEvent, RetrieveEvent};
use stripe_core::{
    customer::RetrieveCustomer, dispute::RetrieveDispute, payment_intent::RetrievePaymentIntent,
    payment_source::RetrievePaymentSource,
};
use stripe_payment::{payment_method::RetrievePaymentMethod, source::RetrieveSource};
use stripe_product::{
    coupon::RetrieveCoupon, price::RetrievePrice, product::RetrieveProduct,
    product_catalog_trial_offer::RetrieveProductCatalogTrialOffer, promotion_code::RetrievePromotionCode,
};
use stripe_types::RangeQueryTs;
use time::OffsetDateTime;

pub(super) use self::lists::list;
pub use self::lists::{ListKind, PAGE, Span};
use super::permission::Permission;

/// Prefix of API v2 paths. All other paths are of v1 and have no prefix.
pub(super) const V2: &str = "/v2";

/// Stripe's maximum number of event types in one list request.
pub const MOST_TYPES: usize = 20;

/// One object to read from Stripe, by its id, or one page of a list. The next page begins `after` the last id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The account of the key, or the connected account passed with the read.
    Account,
    /// A list of one object, to test whether the key has the permission.
    Probe(Permission),
    /// An event; Stripe keeps it for 30 days.
    Event(String),
    /// An event of API v2, with its data.
    CoreEvent(String),
    /// A page of events, newest first; Stripe keeps 30 days.
    Events {
        /// Event types, at most [`MOST_TYPES`].
        types: Vec<String>,
        /// Created at this time or later.
        from: OffsetDateTime,
        /// The last event of the previous page.
        after: Option<String>,
        /// Page size, at most [`PAGE`].
        limit: i64,
    },
    /// A customer with the default payment method, the default source, the discount's coupon and its test clock.
    Customer(String),
    /// A subscription with its payment methods, discounts and their coupons, its schedule and its test clock.
    Subscription(String),
    /// A page of a subscription's items with their discounts: the subscription itself contains only about the first
    /// ten.
    SubscriptionItems {
        /// The subscription.
        subscription: String,
        /// The last item of the previous page.
        after: Option<String>,
    },
    /// A payment method.
    PaymentMethod(String),
    /// A legacy card or bank account (`card_…`, `ba_…`), which exists only below its customer.
    CustomerSource {
        /// The source's customer.
        customer: String,
        /// The source.
        source: String,
    },
    /// A source (`src_…`).
    Source(String),
    /// An invoice.
    Invoice(String),
    /// A page of payments of invoices.
    InvoicePayments {
        /// The invoice or payment intent.
        of: PaymentsOf,
        /// The last payment of the previous page.
        after: Option<String>,
    },
    /// A payment intent with its latest charge.
    PaymentIntent(String),
    /// A charge.
    Charge(String),
    /// A page of a payment intent's charges, failed ones included.
    Charges {
        /// The payment intent.
        payment_intent: String,
        /// The last charge of the previous page.
        after: Option<String>,
    },
    /// A dispute.
    Dispute(String),
    /// A subscription's schedule.
    Schedule(String),
    /// A coupon.
    Coupon(String),
    /// A promotion code.
    PromotionCode(String),
    /// A product.
    Product(String),
    /// A price with its product and its amounts in other currencies.
    Price(String),
    /// A plan with its product.
    Plan(String),
    /// A trial offer of an item.
    TrialOffer(String),
    /// A checkout session with its line items.
    CheckoutSession(String),
    /// A page of all objects of a kind, newest first.
    List {
        /// Kind of objects, and the customer if limited to one.
        of: ListKind,
        /// Range of creation times.
        span: Span,
        /// The last object of the previous page.
        after: Option<String>,
        /// Whether to expand the related objects that rows need. A server that does not know an expanded field rejects
        /// the whole request.
        expand: bool,
    },
    /// A page of the webhook endpoints of the account.
    WebhookEndpoints {
        /// The last endpoint of the previous page.
        after: Option<String>,
    },
}

/// Selects payments by invoice, or by payment intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentsOf {
    /// Payments of an invoice, each with its payment intent and the intent's latest charge.
    Invoice(String),
    /// Payments of a payment intent: since API version 2025-03-31 the intent itself does not name its invoice.
    PaymentIntent(String),
}

impl Read {
    /// Every operation, as the values of a metric's label. `other` is for requests of async-stripe's builders.
    pub const OPERATIONS: [&str; 39] = [
        "account.retrieve",
        "event.retrieve",
        "events.list",
        "customer.retrieve",
        "subscription.retrieve",
        "subscription_items.list",
        "payment_method.retrieve",
        "customer_source.retrieve",
        "source.retrieve",
        "invoice.retrieve",
        "invoice_payments.list",
        "payment_intent.retrieve",
        "charge.retrieve",
        "charges.list",
        "dispute.retrieve",
        "schedule.retrieve",
        "coupon.retrieve",
        "promotion_code.retrieve",
        "product.retrieve",
        "price.retrieve",
        "plan.retrieve",
        "trial_offer.retrieve",
        "checkout_session.retrieve",
        "products.list",
        "prices.list",
        "plans.list",
        "coupons.list",
        "customers.list",
        "subscriptions.list",
        "invoices.list",
        "checkout_sessions.list",
        "disputes.list",
        "payment_methods.list",
        "payment_intents.list",
        "promotion_codes.list",
        "payment_links.list",
        "core_event.retrieve",
        "webhook_endpoints.list",
        Self::OTHER,
    ];

    /// The operations that only commands send (`backfill`, `doctor`). `serve` exports no series of them.
    const OF_COMMANDS: [&str; 9] = [
        "products.list",
        "prices.list",
        "plans.list",
        "coupons.list",
        "disputes.list",
        "payment_methods.list",
        "payment_intents.list",
        "promotion_codes.list",
        "webhook_endpoints.list",
    ];

    /// The operations that `serve` sends.
    pub fn served() -> Vec<&'static str> {
        Self::OPERATIONS.into_iter().filter(|operation| !Self::OF_COMMANDS.contains(operation)).collect()
    }

    pub(super) const OTHER: &str = "other";

    /// The operation, as a label's value.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Account => "account.retrieve",
            Self::Probe(permission) => permission.probe(),
            Self::Event(_) => "event.retrieve",
            Self::CoreEvent(_) => "core_event.retrieve",
            Self::Events { .. } => "events.list",
            Self::Customer(_) => "customer.retrieve",
            Self::Subscription(_) => "subscription.retrieve",
            Self::SubscriptionItems { .. } => "subscription_items.list",
            Self::PaymentMethod(_) => "payment_method.retrieve",
            Self::CustomerSource { .. } => "customer_source.retrieve",
            Self::Source(_) => "source.retrieve",
            Self::Invoice(_) => "invoice.retrieve",
            Self::InvoicePayments { .. } => "invoice_payments.list",
            Self::PaymentIntent(_) => "payment_intent.retrieve",
            Self::Charge(_) => "charge.retrieve",
            Self::Charges { .. } => "charges.list",
            Self::Dispute(_) => "dispute.retrieve",
            Self::Schedule(_) => "schedule.retrieve",
            Self::Coupon(_) => "coupon.retrieve",
            Self::PromotionCode(_) => "promotion_code.retrieve",
            Self::Product(_) => "product.retrieve",
            Self::Price(_) => "price.retrieve",
            Self::Plan(_) => "plan.retrieve",
            Self::TrialOffer(_) => "trial_offer.retrieve",
            Self::CheckoutSession(_) => "checkout_session.retrieve",
            Self::List { of, .. } => of.operation(),
            Self::WebhookEndpoints { .. } => "webhook_endpoints.list",
        }
    }

    /// Builds the request; `None` if an id is empty, because that would request the list of all.
    pub(super) fn request(&self) -> Option<RequestBuilder> {
        Some(self.build()).filter(names_one)
    }

    fn build(&self) -> RequestBuilder {
        match self {
            // the builder is in a separate crate, with all of Connect
            Self::Account => RequestBuilder::new(StripeMethod::Get, "/account"),
            Self::Probe(permission) => permission.request(),
            Self::Event(id) => RetrieveEvent::new(segment(id)).build(),
            Self::CoreEvent(id) => RequestBuilder::new(StripeMethod::Get, format!("{V2}/core/events/{}", segment(id))),
            Self::Events { types, from, after, limit } => events(types, *from, after.as_deref(), *limit),
            Self::Customer(id) => customer(id),
            Self::Subscription(id) => subscription(id),
            Self::SubscriptionItems { subscription, after } => items(subscription, after.as_deref()),
            Self::PaymentMethod(id) => RetrievePaymentMethod::new(segment(id)).build(),
            Self::CustomerSource { customer, source } => {
                RetrievePaymentSource::new(segment(customer), segment(source)).build()
            }
            Self::Source(id) => RetrieveSource::new(segment(id)).build(),
            Self::Invoice(id) => RetrieveInvoice::new(segment(id)).build(),
            Self::InvoicePayments { of, after } => payments(of, after.as_deref()),
            Self::PaymentIntent(id) => RetrievePaymentIntent::new(segment(id)).expand(list(["latest_charge"])).build(),
            Self::Charge(id) => RetrieveCharge::new(segment(id)).build(),
            Self::Charges { payment_intent, after } => charges(payment_intent, after.as_deref()),
            Self::Dispute(id) => RetrieveDispute::new(segment(id)).build(),
            Self::Schedule(id) => RetrieveSubscriptionSchedule::new(segment(id)).build(),
            Self::Coupon(id) => RetrieveCoupon::new(segment(id)).build(),
            Self::PromotionCode(id) => RetrievePromotionCode::new(segment(id)).build(),
            Self::Product(id) => RetrieveProduct::new(segment(id)).build(),
            Self::Price(id) => RetrievePrice::new(segment(id)).expand(list(["currency_options", "product"])).build(),
            Self::Plan(id) => RetrievePlan::new(segment(id)).expand(list(["product"])).build(),
            Self::TrialOffer(id) => RetrieveProductCatalogTrialOffer::new(segment(id)).build(),
            Self::CheckoutSession(id) => RetrieveCheckoutSession::new(segment(id)).expand(list(["line_items"])).build(),
            Self::List { of, span, after, expand } => lists::page(of, *span, after.as_deref(), *expand),
            Self::WebhookEndpoints { after } => webhook_endpoints(after.as_deref()),
        }
    }
}

fn events(types: &[String], from: OffsetDateTime, after: Option<&str>, limit: i64) -> RequestBuilder {
    let created = RangeQueryTs::gte(from.unix_timestamp());
    let request = ListEvent::new().created(created).types(types).limit(limit);
    match after {
        Some(after) => request.starting_after(after).build(),
        None => request.build(),
    }
}

fn customer(id: &str) -> RequestBuilder {
    // objects on a test clock use its time
    let expand = ["invoice_settings.default_payment_method", "default_source", "discount.source.coupon", "test_clock"];
    RetrieveCustomer::new(segment(id)).expand(list(expand)).build()
}

fn subscription(id: &str) -> RequestBuilder {
    let expand = [
        "default_payment_method",
        "default_source",
        "discounts.source.coupon",
        "items.data.discounts",
        "schedule",
        "test_clock",
    ];
    RetrieveSubscription::new(segment(id)).expand(list(expand)).build()
}

fn items(subscription: &str, after: Option<&str>) -> RequestBuilder {
    let request = ListSubscriptionItem::new(subscription).limit(PAGE).expand(list(["data.discounts"]));
    match after {
        Some(after) => request.starting_after(after).build(),
        None => request.build(),
    }
}

fn payments(of: &PaymentsOf, after: Option<&str>) -> RequestBuilder {
    let request = ListInvoicePayment::new().limit(PAGE);
    let request = match of {
        PaymentsOf::Invoice(id) => {
            request.invoice(id.as_str()).expand(list(["data.payment.payment_intent.latest_charge"]))
        }
        PaymentsOf::PaymentIntent(id) => {
            let mut payment = ListInvoicePaymentPayment::new(PaymentType::PaymentIntent);
            payment.payment_intent = Some(id.clone());
            request.payment(payment)
        }
    };
    match after {
        Some(after) => request.starting_after(after).build(),
        None => request.build(),
    }
}

fn charges(payment_intent: &str, after: Option<&str>) -> RequestBuilder {
    let request = ListCharge::new().payment_intent(payment_intent).limit(PAGE);
    match after {
        Some(after) => request.starting_after(after).build(),
        None => request.build(),
    }
}

/// The builder is in a separate crate.
fn webhook_endpoints(after: Option<&str>) -> RequestBuilder {
    let after = after.map(|after| format!("&starting_after={}", segment(after))).unwrap_or_default();
    let request = RequestBuilder::new(StripeMethod::Get, "/webhook_endpoints");
    RequestBuilder { query: Some(format!("limit={PAGE}{after}")), ..request }
}

/// The same request without expansions that may need another permission: only fields of the objects themselves stay
/// expanded. `None` if the request has no such expansions.
pub(super) fn without_other_objects(request: &RequestBuilder) -> Option<RequestBuilder> {
    let is_other = |pair: &str| {
        let (name, field) = pair.split_once('=').unwrap_or((pair, ""));
        name.starts_with("expand") && !["currency_options", "line_items"].contains(&field.trim_start_matches("data."))
    };
    let query = request.query.as_deref()?;
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_other(pair)).collect();
    let plain = RequestBuilder::new(StripeMethod::Get, request.path.clone());
    (kept.len() < query.split('&').count()).then(|| RequestBuilder { query: Some(kept.join("&")), ..plain })
}

/// Encodes an id as one path segment. The builders insert ids unencoded, and merchants choose the ids of coupons, plans
/// and products, including spaces and slashes.
pub(super) fn segment(id: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    id.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Whether no id is empty, `.` or `..`: such segments would be removed from the path on the way.
fn names_one(request: &RequestBuilder) -> bool {
    let segments = request.path.split('/').skip(1).all(|segment| !["", ".", ".."].contains(&segment));
    segments && !request.query.iter().flat_map(|query| query.split('&')).any(|parameter| parameter.ends_with('='))
}

#[cfg(test)]
mod tests;
