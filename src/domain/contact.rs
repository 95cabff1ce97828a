//! The billing contact: the payer. One row for each Stripe customer.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::instant;

/// The synced columns of a row of `billing.billing_contacts`. Source: Stripe's customer object.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct BillingContact {
    /// Row id, see [`crate::domain::object::row_id`].
    pub id: Uuid,
    /// Connected account; empty for the key's own account.
    pub account: String,
    /// `customer.id`.
    pub stripe_customer_id: String,
    /// `customer.livemode`.
    pub livemode: Option<bool>,
    /// `customer.name`, unchanged.
    pub name: Option<String>,
    /// `customer.email`, unchanged.
    pub email: Option<String>,
    /// `customer.address.line1`; an empty string is null, in all six fields of the address.
    pub address_line1: Option<String>,
    /// `customer.address.line2`.
    pub address_line2: Option<String>,
    /// `customer.address.city`.
    pub city: Option<String>,
    /// `customer.address.postal_code`.
    pub postal_code: Option<String>,
    /// `customer.address.state`.
    pub state: Option<String>,
    /// `customer.address.country`, two letters.
    pub country: Option<String>,
    /// Coupon id of `customer.discount`; `None` means no discount.
    pub active_discount: Option<String>,
    /// `customer.discount.end`: the discount has no effect from then on.
    #[serde(serialize_with = "instant::option::serialize")]
    pub active_discount_ends_at: Option<OffsetDateTime>,
    /// Type of the payment method that invoices are charged to by default: `card`, `sepa_debit` …; unknown ones kept.
    pub default_payment_method: Option<String>,
    /// Brand of that card: visa, mastercard, amex …; `None` for other payment methods.
    pub default_payment_method_card_brand: Option<String>,
    /// Last four digits of that card, account or IBAN.
    pub default_payment_card_number_last_four_digits: Option<String>,
    /// The workspace in the customer's metadata, for its subscriptions without one.
    pub workspace_id: Option<Uuid>,
    /// `customer.created`.
    #[serde(serialize_with = "instant::option::serialize")]
    pub stripe_created_at: Option<OffsetDateTime>,
    /// When the customer was deleted in Stripe; the other columns keep their values.
    #[serde(serialize_with = "instant::option::serialize")]
    pub stripe_deleted_at: Option<OffsetDateTime>,
}

impl fmt::Debug for BillingContact {
    /// Prints the ids only: the rest is personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BillingContact")
            .field("id", &self.id)
            .field("stripe_customer_id", &self.stripe_customer_id)
            .finish_non_exhaustive()
    }
}
