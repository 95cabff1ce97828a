//! The writes that the client supports, and the form for each: async-stripe's builders make the paths and forms.
//!
//! PURE. [`outcome`] interprets Stripe's answers to them. A write is sent again in exactly the same form, also by
//! another process and a later release, so [`WriteRequest`] is text that can be stored.

mod locale;
pub(super) mod outcome;
pub(super) mod webhook_endpoint;

use std::collections::HashMap;

use stripe_billing::subscription::{CancelSubscription, CancelSubscriptionCancellationDetails};
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionDiscounts, CreateCheckoutSessionLineItems,
    CreateCheckoutSessionSubscriptionData,
};
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest};
use stripe_core::customer::{CreateCustomer, UpdateCustomer};
use stripe_payment::payment_link::{
    AdjustableQuantityParams, AfterCompletionConfirmationPageParams, AfterCompletionRedirectParams, CreatePaymentLink,
    CreatePaymentLinkAfterCompletion, CreatePaymentLinkAfterCompletionType, CreatePaymentLinkLineItems,
    CreatePaymentLinkSubscriptionData, CreatePaymentLinkTaxIdCollection, NameCollectionBusinessParams,
    NameCollectionParams, UpdatePaymentLink,
};
use stripe_shared::{CheckoutSessionMode, CheckoutSessionUiMode};

pub use self::locale::is_checkout_locale;
use self::locale::locale;
use super::read::{list, segment};

/// One change to make at Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A new customer.
    CreateCustomer {
        /// `name`.
        name: Option<String>,
        /// `email`.
        email: Option<String>,
        /// `preferred_locales`, with at most one.
        locale: Option<String>,
        /// `metadata`.
        metadata: Vec<(&'static str, String)>,
    },
    /// A new name and e-mail address of a customer.
    UpdateCustomer {
        /// The customer.
        customer: String,
        /// `name`.
        name: String,
        /// `email`.
        email: String,
    },
    /// A new checkout session.
    CreateCheckoutSession(NewCheckoutSession),
    /// A new payment link.
    CreatePaymentLink(NewPaymentLink),
    /// A payment link that can be visited, or not.
    SetPaymentLinkActive {
        /// The payment link.
        payment_link: String,
        /// `active`.
        active: bool,
    },
    /// The end of a subscription, at once; unused time is credited to the customer's balance.
    CancelSubscription {
        /// The subscription.
        subscription: String,
        /// `cancellation_details[comment]`.
        comment: String,
    },
}

/// A checkout session for one new subscription, embedded in a page of the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheckoutSession {
    /// `customer`.
    pub customer: String,
    /// The price of the only line item.
    pub price: String,
    /// `return_url`; may contain `{CHECKOUT_SESSION_ID}`.
    pub return_url: String,
    /// `locale`, one of [`is_checkout_locale`]; `None`: that of the browser.
    pub locale: Option<String>,
    /// `client_reference_id`.
    pub reference: String,
    /// The only coupon of `discounts`; without it, the customer may enter promotion codes.
    pub coupon: Option<String>,
    /// `subscription_data[trial_period_days]`.
    pub trial_days: Option<u32>,
    /// `metadata` of the session and of its subscription.
    pub metadata: Vec<(&'static str, String)>,
}

/// A payment link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPaymentLink {
    /// `line_items`: prices and quantities.
    pub items: Vec<(String, u64)>,
    /// Whether the customer may change the quantities.
    pub is_quantity_adjustable: bool,
    /// `after_completion`; `None`: Stripe's default page.
    pub after_completion: Option<AfterCompletion>,
    /// `allow_promotion_codes`.
    pub allow_promotion_codes: bool,
    /// Whether the name of a business and its tax id are required.
    pub requires_business: bool,
    /// `subscription_data[trial_period_days]`.
    pub trial_days: Option<u32>,
    /// `metadata` of the link.
    pub metadata: Vec<(&'static str, String)>,
}

/// What happens after a payment link was paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterCompletion {
    /// The customer is sent to this URL.
    Redirect(String),
    /// Stripe shows this message, or its own.
    Message(Option<String>),
}

/// A write as it is sent, each time the same.
#[derive(Clone, PartialEq, Eq)]
pub struct WriteRequest {
    /// The operation, one of [`Write::OPERATIONS`].
    pub operation: &'static str,
    /// Path without `/v1`.
    pub path: String,
    /// The form, URL-encoded.
    pub form: String,
}

/// Without the form, because it contains personal data.
impl std::fmt::Debug for WriteRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteRequest").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl WriteRequest {
    /// A request that was stored.
    pub fn stored(operation: &str, path: String, form: String) -> Option<Self> {
        let operation = Write::OPERATIONS.into_iter().find(|known| *known == operation)?;
        Some(Self { operation, path, form })
    }

    /// Whether it deletes; otherwise the method is POST.
    pub fn is_delete(&self) -> bool {
        self.operation == Write::CANCEL_SUBSCRIPTION
    }

    pub(super) fn request(&self) -> RequestBuilder {
        if self.is_delete() {
            // in the query, as Stripe's libraries send it, because proxies may drop the body of a DELETE
            let request = RequestBuilder::new(StripeMethod::Delete, self.path.clone());
            return RequestBuilder { query: Some(self.form.clone()), ..request };
        }
        let request = RequestBuilder::new(StripeMethod::Post, self.path.clone());
        RequestBuilder { body: Some(self.form.clone()), ..request }
    }
}

/// How async-stripe sends metadata without a key. Stripe reads an empty text as “unset”, and does not declare it for a
/// new session or payment link.
const NO_METADATA: [&str; 2] = ["metadata=", "subscription_data[metadata]="];

impl Write {
    /// Every operation, as the values of a metric's label.
    pub const OPERATIONS: [&str; 6] = [
        Self::CREATE_CUSTOMER,
        Self::UPDATE_CUSTOMER,
        Self::CREATE_CHECKOUT_SESSION,
        Self::CREATE_PAYMENT_LINK,
        Self::SET_PAYMENT_LINK_ACTIVE,
        Self::CANCEL_SUBSCRIPTION,
    ];
    /// The operation of [`Self::CreateCustomer`].
    pub const CREATE_CUSTOMER: &str = "customer.create";
    /// The operation of [`Self::UpdateCustomer`].
    pub const UPDATE_CUSTOMER: &str = "customer.update";
    /// The operation of [`Self::CreateCheckoutSession`].
    pub const CREATE_CHECKOUT_SESSION: &str = "checkout_session.create";
    /// The operation of [`Self::CreatePaymentLink`].
    pub const CREATE_PAYMENT_LINK: &str = "payment_link.create";
    /// The operation of [`Self::SetPaymentLinkActive`].
    pub const SET_PAYMENT_LINK_ACTIVE: &str = "payment_link.update";
    /// The operation of [`Self::CancelSubscription`].
    pub const CANCEL_SUBSCRIPTION: &str = "subscription.cancel";

    /// The operation, as a label's value.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::CreateCustomer { .. } => Self::CREATE_CUSTOMER,
            Self::UpdateCustomer { .. } => Self::UPDATE_CUSTOMER,
            Self::CreateCheckoutSession(_) => Self::CREATE_CHECKOUT_SESSION,
            Self::CreatePaymentLink(_) => Self::CREATE_PAYMENT_LINK,
            Self::SetPaymentLinkActive { .. } => Self::SET_PAYMENT_LINK_ACTIVE,
            Self::CancelSubscription { .. } => Self::CANCEL_SUBSCRIPTION,
        }
    }

    /// Builds the request.
    pub fn request(&self) -> WriteRequest {
        let RequestBuilder { path, body, .. } = self.build();
        // the order of metadata is random
        let mut pairs: Vec<&str> = body.iter().flat_map(|body| body.split('&')).collect();
        pairs.retain(|pair| !NO_METADATA.contains(pair));
        pairs.sort_unstable();
        WriteRequest { operation: self.operation(), path, form: pairs.join("&") }
    }

    fn build(&self) -> RequestBuilder {
        match self {
            Self::CreateCustomer { name, email, locale, metadata } => {
                let mut request = CreateCustomer::new().metadata(map(metadata));
                if let Some(name) = name {
                    request = request.name(name);
                }
                if let Some(email) = email {
                    request = request.email(email);
                }
                if let Some(locale) = locale {
                    request = request.preferred_locales(vec![locale.clone()]);
                }
                request.build()
            }
            Self::UpdateCustomer { customer, name, email } => {
                UpdateCustomer::new(segment(customer)).name(name).email(email).build()
            }
            Self::CreateCheckoutSession(new) => session(new),
            Self::CreatePaymentLink(new) => link(new),
            Self::SetPaymentLinkActive { payment_link, active } => {
                UpdatePaymentLink::new(segment(payment_link)).active(*active).build()
            }
            Self::CancelSubscription { subscription, comment } => {
                let mut details = CancelSubscriptionCancellationDetails::new();
                details.comment = Some(comment.clone());
                let request = CancelSubscription::new(segment(subscription)).prorate(true).invoice_now(true);
                request.cancellation_details(details).build()
            }
        }
    }
}

fn session(new: &NewCheckoutSession) -> RequestBuilder {
    let mut item = CreateCheckoutSessionLineItems::new();
    (item.price, item.quantity) = (Some(new.price.clone()), Some(1));
    let mut subscription = CreateCheckoutSessionSubscriptionData::new();
    (subscription.metadata, subscription.trial_period_days) = (Some(map(&new.metadata)), new.trial_days);
    let request = CreateCheckoutSession::new()
        .mode(CheckoutSessionMode::Subscription)
        .ui_mode(CheckoutSessionUiMode::EmbeddedPage)
        .customer(&new.customer)
        .line_items(vec![item])
        .return_url(&new.return_url)
        .client_reference_id(&new.reference)
        .metadata(map(&new.metadata))
        .subscription_data(subscription)
        .expand(list(["line_items"]));
    let request = match new.locale.as_deref().and_then(locale) {
        Some(locale) => request.locale(locale),
        None => request,
    };
    match &new.coupon {
        Some(coupon) => {
            let mut discount = CreateCheckoutSessionDiscounts::new();
            discount.coupon = Some(coupon.clone());
            request.discounts(vec![discount]).build()
        }
        None => request.allow_promotion_codes(true).build(),
    }
}

fn link(new: &NewPaymentLink) -> RequestBuilder {
    let items = new.items.iter().map(|(price, quantity)| {
        let mut item = CreatePaymentLinkLineItems::new(*quantity);
        item.price = Some(price.clone());
        item.adjustable_quantity = new.is_quantity_adjustable.then(|| {
            let mut adjustable = AdjustableQuantityParams::new(true);
            // Stripe's default is 99
            adjustable.maximum = i64::try_from(*quantity).ok().filter(|quantity| *quantity > 99);
            adjustable
        });
        item
    });
    let mut request = CreatePaymentLink::new(items.collect::<Vec<_>>())
        .allow_promotion_codes(new.allow_promotion_codes)
        .metadata(map(&new.metadata));
    if let Some(after) = &new.after_completion {
        request = request.after_completion(after_completion(after));
    }
    if new.requires_business {
        let mut names = NameCollectionParams::new();
        names.business = Some(NameCollectionBusinessParams::new(true));
        request = request.name_collection(names).tax_id_collection(CreatePaymentLinkTaxIdCollection::new(true));
    }
    if let Some(days) = new.trial_days {
        let mut subscription = CreatePaymentLinkSubscriptionData::new();
        subscription.trial_period_days = Some(days);
        request = request.subscription_data(subscription);
    }
    request.build()
}

fn after_completion(after: &AfterCompletion) -> CreatePaymentLinkAfterCompletion {
    use CreatePaymentLinkAfterCompletionType::{HostedConfirmation, Redirect};
    match after {
        AfterCompletion::Redirect(url) => {
            let mut after = CreatePaymentLinkAfterCompletion::new(Redirect);
            after.redirect = Some(AfterCompletionRedirectParams::new(url));
            after
        }
        AfterCompletion::Message(message) => {
            let mut after = CreatePaymentLinkAfterCompletion::new(HostedConfirmation);
            let mut page = AfterCompletionConfirmationPageParams::new();
            page.custom_message.clone_from(message);
            after.hosted_confirmation = Some(page);
            after
        }
    }
}

fn map(metadata: &[(&'static str, String)]) -> HashMap<String, String> {
    metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_subscription_deletes() {
        let (id, metadata) = (|| "x".to_owned(), Vec::new());
        let session = NewCheckoutSession {
            customer: id(),
            price: id(),
            return_url: id(),
            locale: None,
            reference: id(),
            coupon: None,
            trial_days: None,
            metadata: metadata.clone(),
        };
        let link = NewPaymentLink {
            items: vec![(id(), 1)],
            is_quantity_adjustable: false,
            after_completion: None,
            allow_promotion_codes: false,
            requires_business: false,
            trial_days: None,
            metadata: metadata.clone(),
        };
        let all = [
            Write::CreateCustomer { name: None, email: None, locale: None, metadata },
            Write::UpdateCustomer { customer: id(), name: id(), email: id() },
            Write::CreateCheckoutSession(session),
            Write::CreatePaymentLink(link),
            Write::SetPaymentLinkActive { payment_link: id(), active: true },
            Write::CancelSubscription { subscription: id(), comment: id() },
        ];
        assert_eq!(all.each_ref().map(Write::operation), Write::OPERATIONS);
        for write in all {
            let by_builder = matches!(write.build().method, StripeMethod::Delete);
            assert_eq!(write.request().is_delete(), by_builder, "{}", write.operation());
        }
    }
}
