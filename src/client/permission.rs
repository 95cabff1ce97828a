//! The permissions of a restricted key that each operation needs, with their names in the Stripe dashboard.
//!
//! PURE. The names are those of the form for restricted keys at <https://dashboard.stripe.com/apikeys>. Called by the
//! client to name missing permissions, and by `doctor` to test each permission once.

use stripe_client_core::{RequestBuilder, StripeMethod};

/// Read access to one kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// The account of the key. Restricted keys often do not have it, and nothing depends on it.
    Account,
    /// Events.
    Events,
    /// Customers.
    Customers,
    /// Subscriptions, their items and their schedules.
    Subscriptions,
    /// Payment methods.
    PaymentMethods,
    /// Legacy sources and cards. Stripe has no list of them that a probe could request.
    Sources,
    /// Invoices and their payments.
    Invoices,
    /// Payment intents.
    PaymentIntents,
    /// Charges.
    Charges,
    /// Disputes.
    Disputes,
    /// Coupons.
    Coupons,
    /// Promotion codes.
    PromotionCodes,
    /// Products.
    Products,
    /// Prices and plans.
    Prices,
    /// Checkout sessions.
    CheckoutSessions,
    /// Payment links.
    PaymentLinks,
    /// Webhook endpoints. Only `doctor` reads and changes them.
    WebhookEndpoints,
}

impl Permission {
    /// The permissions that rows depend on and that a list request can test, in the order of the dashboard's groups.
    pub const PROBED: [Self; 13] = [
        Self::Events,
        Self::Customers,
        Self::Charges,
        Self::Disputes,
        Self::PaymentIntents,
        Self::PaymentMethods,
        Self::Products,
        Self::CheckoutSessions,
        Self::Coupons,
        Self::Invoices,
        Self::Prices,
        Self::PromotionCodes,
        Self::Subscriptions,
    ];

    /// The permissions that changes at Stripe need with write access, in the order of the dashboard's groups. A probe
    /// tests read access, which write access includes.
    pub const WRITTEN: [Self; 4] = [Self::Customers, Self::CheckoutSessions, Self::Subscriptions, Self::PaymentLinks];

    /// The objects that the permission allows to read, for use in a sentence.
    pub fn objects(self) -> &'static str {
        match self {
            Self::Account => "its account",
            Self::Events => "events",
            Self::Customers => "customers",
            Self::Subscriptions => "subscriptions",
            Self::PaymentMethods => "payment methods",
            Self::Sources => "sources",
            Self::Invoices => "invoices",
            Self::PaymentIntents => "payment intents",
            Self::Charges => "charges",
            Self::Disputes => "disputes",
            Self::Coupons => "coupons",
            Self::PromotionCodes => "promotion codes",
            Self::Products => "products",
            Self::Prices => "prices",
            Self::CheckoutSessions => "checkout sessions",
            Self::PaymentLinks => "payment links",
            Self::WebhookEndpoints => "webhook endpoints",
        }
    }

    /// The permission's name in the Stripe dashboard.
    pub fn in_dashboard(self) -> &'static str {
        match self {
            Self::Account => "Accounts",
            Self::Events => "Events",
            Self::Customers => "Customers",
            Self::Subscriptions => "Subscriptions",
            Self::PaymentMethods => "PaymentMethods",
            Self::Sources => "Sources",
            Self::Invoices => "Invoices",
            Self::PaymentIntents => "PaymentIntents",
            Self::Charges => "Charges and Refunds",
            Self::Disputes => "Disputes",
            Self::Coupons => "Coupons",
            Self::PromotionCodes => "Promotion Codes",
            Self::Products => "Products",
            Self::Prices => "Prices",
            Self::CheckoutSessions => "Checkout Sessions",
            Self::PaymentLinks => "Payment Links",
            Self::WebhookEndpoints => "Webhook Endpoints",
        }
    }

    /// The permission with this name in Stripe's responses (`rak_plan_read`).
    pub fn named(word: &str) -> Option<Self> {
        Some(match word.strip_prefix("rak_")?.strip_suffix("_read")? {
            "accounts_kyc_basic" | "connected_account" | "account" => Self::Account,
            "event" => Self::Events,
            "customer" => Self::Customers,
            "subscription" => Self::Subscriptions,
            "payment_method" => Self::PaymentMethods,
            "source" => Self::Sources,
            "invoice" => Self::Invoices,
            "payment_intent" => Self::PaymentIntents,
            "charge" => Self::Charges,
            "dispute" => Self::Disputes,
            "coupon" => Self::Coupons,
            "promotion_code" => Self::PromotionCodes,
            "product" => Self::Products,
            "plan" | "price" => Self::Prices,
            "checkout_session" => Self::CheckoutSessions,
            "payment_link" => Self::PaymentLinks,
            "webhook" | "webhook_endpoint" => Self::WebhookEndpoints,
            _ => return None,
        })
    }

    /// The permission that an operation of [`super::Read::OPERATIONS`] needs; `None` if unknown.
    pub fn of(operation: &str) -> Option<Self> {
        Some(match operation.split_once('.').map_or(operation, |(object, _)| object) {
            "account" => Self::Account,
            "event" | "events" | "core_event" => Self::Events,
            "customer" | "customers" => Self::Customers,
            "subscription" | "subscriptions" | "subscription_items" | "schedule" | "schedules" => Self::Subscriptions,
            "payment_method" | "payment_methods" => Self::PaymentMethods,
            "customer_source" | "source" => Self::Sources,
            "invoice" | "invoices" | "invoice_payments" => Self::Invoices,
            "payment_intent" | "payment_intents" => Self::PaymentIntents,
            "charge" | "charges" => Self::Charges,
            "dispute" | "disputes" => Self::Disputes,
            "coupon" | "coupons" => Self::Coupons,
            "promotion_code" | "promotion_codes" => Self::PromotionCodes,
            "product" | "products" => Self::Products,
            "price" | "prices" | "plan" | "plans" => Self::Prices,
            "checkout_session" | "checkout_sessions" => Self::CheckoutSessions,
            "payment_link" | "payment_links" => Self::PaymentLinks,
            "webhook_endpoint" | "webhook_endpoints" => Self::WebhookEndpoints,
            _ => return None,
        })
    }

    /// The operation that tests the permission.
    pub(super) fn probe(self) -> &'static str {
        match self {
            Self::Account => "account.retrieve",
            Self::Events => "events.list",
            Self::Customers => "customers.list",
            Self::Subscriptions => "subscriptions.list",
            Self::PaymentMethods => "payment_methods.list",
            Self::Sources => "source.retrieve",
            Self::Invoices => "invoices.list",
            Self::PaymentIntents => "payment_intents.list",
            Self::Charges => "charges.list",
            Self::Disputes => "disputes.list",
            Self::Coupons => "coupons.list",
            Self::PromotionCodes => "promotion_codes.list",
            Self::Products => "products.list",
            Self::Prices => "prices.list",
            Self::CheckoutSessions => "checkout_sessions.list",
            Self::PaymentLinks => "payment_links.list",
            Self::WebhookEndpoints => "webhook_endpoints.list",
        }
    }

    /// The cheapest request that shows whether a key has the permission: a list of one.
    pub(super) fn request(self) -> RequestBuilder {
        let path = match self {
            Self::Account | Self::Sources => "/account",
            Self::Events => "/events",
            Self::Customers => "/customers",
            Self::Subscriptions => "/subscriptions",
            Self::PaymentMethods => "/payment_methods",
            Self::Invoices => "/invoices",
            Self::PaymentIntents => "/payment_intents",
            Self::Charges => "/charges",
            Self::Disputes => "/disputes",
            Self::Coupons => "/coupons",
            Self::PromotionCodes => "/promotion_codes",
            Self::Products => "/products",
            Self::Prices => "/prices",
            Self::CheckoutSessions => "/checkout/sessions",
            Self::PaymentLinks => "/payment_links",
            Self::WebhookEndpoints => "/webhook_endpoints",
        };
        let request = RequestBuilder::new(StripeMethod::Get, path);
        RequestBuilder { query: (path != "/account").then(|| "limit=1".to_owned()), ..request }
    }
}
