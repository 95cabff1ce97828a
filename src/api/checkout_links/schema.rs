//! The bodies of checkout links, with the field names of the public page. PURE.
//!
//! Absent values are null, never left out.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

/// What follows a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// The customer is sent to `url`.
    Redirect,
    /// Stripe's page shows `confirmationMessage`.
    ConfirmationMessage,
}

/// The type of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemType {
    /// A product, with the given quantity.
    Product,
    /// A plan. Stripe has no counterpart of plans that customers configure: it is sold like a product.
    Plan,
}

/// A checkout link: a payment link in Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckoutLink {
    pub(crate) after_checkout: AfterCheckout,
    /// The unique identifier of the checkout link.
    pub(crate) id: Uuid,
    /// Whether customers can visit the link.
    pub(crate) is_enabled: bool,
    pub(crate) items: Vec<CheckoutLinkItem>,
    /// The names of the items, separated by commas; null if none has a name.
    pub(crate) name: Option<String>,
    pub(crate) options: CheckoutLinkOptions,
    /// The URL of the checkout link, at Stripe.
    pub(crate) url: String,
}

/// What follows a checkout.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AfterCheckout {
    pub(crate) action: Action,
    /// The URL of a button that leads back, as it was sent. Stripe has no counterpart: it has no effect.
    pub(crate) back_to_provider_url: Option<String>,
    /// The message after the checkout; null means that of Stripe.
    pub(crate) confirmation_message: Option<String>,
    /// The URL to which the customer is sent.
    pub(crate) url: Option<String>,
}

/// The options of a checkout link.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckoutLinkOptions {
    /// Whether customers may enter promotion codes.
    pub(crate) allow_coupons: bool,
    /// Whether the name of a company is required, and its tax id asked for.
    pub(crate) force_company: bool,
    /// Whether customers may change the quantities.
    pub(crate) quantity_editable: bool,
    /// Days of the trial; null if there is none.
    pub(crate) trial_days: Option<u32>,
}

/// What a checkout link sells.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckoutLinkItem {
    /// The contract periods, as they were sent. Stripe has no counterpart: they have no effect.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) periods: Option<Vec<Value>>,
    /// The plan of the price.
    pub(crate) plan: Plan,
    pub(crate) price: Price,
    /// The product of the price; null until it is known.
    pub(crate) product: Option<Product>,
    pub(crate) quantity: u32,
    #[serde(rename = "type")]
    pub(crate) kind: ItemType,
}

/// A plan: a price in Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    /// Whether the plan can be bought.
    pub(crate) allow_checkout: Option<bool>,
    /// Always null: plans have no code.
    pub(crate) code: Option<String>,
    /// Always null: plans have no description.
    pub(crate) description: Option<String>,
    /// The category of the plan.
    pub(crate) family: Option<Reference>,
    pub(crate) id: Uuid,
    /// The name of the plan, else that of its product in Stripe.
    pub(crate) name: Option<String>,
    /// The product of its price; null until it is known.
    pub(crate) origin_product: Option<Product>,
    /// `active` or `inactive`; null until it is known.
    pub(crate) status: Option<&'static str>,
}

/// A product in Stripe.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Product {
    /// Always null: there are no custom fields.
    pub(crate) custom_fields: Option<BTreeMap<String, String>>,
    /// Always null: billing-sync does not store descriptions.
    pub(crate) description: Option<String>,
    /// Stripe's id of the product.
    pub(crate) id: String,
    /// Always null: Stripe decides what an invoice shows.
    pub(crate) invoice_visibility: Option<String>,
    /// The name of the product in Stripe; null until it is known.
    pub(crate) name: Option<String>,
    /// `product` if the price is recurring, `charge` if it is paid once.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

/// A price in Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the public page has this field")]
#[serde(rename_all = "camelCase")]
pub(crate) struct Price {
    /// Always null: in Stripe, a trial applies to a whole subscription.
    pub(crate) apply_trial: Option<bool>,
    /// The billing interval: `1M` is a month, `1Y` a year, `2W` two weeks, `30D` thirty days. Null: it is paid once.
    pub(crate) billing_interval: Option<String>,
    /// Always null: prices in Stripe have no charges.
    pub(crate) charge: Option<Reference>,
    /// Always null: billing-sync does not list the links of a price.
    pub(crate) checkout_links: Option<Vec<Uuid>>,
    /// Three letters in lower case (ISO 4217).
    pub(crate) currency: Option<String>,
    /// Always null: prices in Stripe belong to no customer.
    pub(crate) customer: Option<Reference>,
    /// Always null: free units are a tier in Stripe.
    pub(crate) free_units: Option<f64>,
    /// The same id as that of the plan.
    pub(crate) id: Uuid,
    /// Stripe's id of the price.
    pub(crate) internal_name: String,
    /// Always null.
    pub(crate) is_custom: Option<bool>,
    /// Always null: billing-sync does not count who has a price.
    pub(crate) is_in_use: Option<bool>,
    /// Always null: Stripe decides when an item is charged.
    pub(crate) is_paid_in_advance: Option<bool>,
    /// Always null: proration is chosen for each change of a subscription.
    pub(crate) is_prorated: Option<bool>,
    /// The price of a unit in the billing interval, with all its digits; null for tiers and custom amounts.
    #[schema(value_type = Option<f64>)]
    pub(crate) price: Option<Box<RawValue>>,
    /// The product; null until it is known.
    pub(crate) product: Option<Product>,
    /// Always null: products in Stripe have no options.
    pub(crate) product_set_option: Option<Reference>,
    /// Always null: Stripe has no sales channels.
    pub(crate) sales_channel: Option<Reference>,
    /// Always null: a price is shown for its billing interval.
    pub(crate) show_price_per: Option<String>,
    /// `active` or `archived`; null until it is known.
    pub(crate) status: Option<&'static str>,
    /// `per_unit`, or null for tiers and custom amounts.
    #[serde(rename = "type")]
    pub(crate) kind: Option<&'static str>,
}

/// The id of another object.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reference {
    pub(crate) id: String,
}
