//! Rows and requests as bodies of checkout links: names and nesting only. PURE.

use super::schema::{CheckoutLink, CheckoutLinkItem, Plan, Price, Product, Reference};
use super::wanted::{Wanted, WantedItem};
use crate::api::rows;
use crate::api::rows::SoldPlan;

/// The body for a link, with what it sells in the order of the request.
pub(super) fn link(row: rows::CheckoutLink, wanted: &Wanted, plans: &[SoldPlan]) -> CheckoutLink {
    CheckoutLink {
        after_checkout: wanted.after.clone(),
        id: row.id,
        is_enabled: row.is_enabled,
        items: wanted.items.iter().zip(plans).map(|(wanted, plan)| item(wanted, plan)).collect(),
        name: row.name,
        options: wanted.options.clone(),
        url: row.url,
    }
}

fn item(wanted: &WantedItem, plan: &SoldPlan) -> CheckoutLinkItem {
    CheckoutLinkItem {
        periods: wanted.periods.clone(),
        plan: Plan::from(plan),
        price: Price::from(plan),
        product: product(plan),
        quantity: wanted.quantity,
        kind: wanted.kind,
    }
}

impl From<&SoldPlan> for Plan {
    fn from(plan: &SoldPlan) -> Self {
        Self {
            allow_checkout: plan.active,
            code: None,
            description: None,
            family: plan.category_id.clone().map(|id| Reference { id }),
            id: plan.id,
            name: plan.display_name.clone(),
            origin_product: product(plan),
            status: plan.active.map(|active| if active { "active" } else { "inactive" }),
        }
    }
}

impl From<&SoldPlan> for Price {
    fn from(plan: &SoldPlan) -> Self {
        Self {
            apply_trial: None,
            billing_interval: billing_interval(plan),
            charge: None,
            checkout_links: None,
            currency: plan.currency.clone(),
            customer: None,
            free_units: None,
            id: plan.id,
            internal_name: plan.stripe_price_id.clone(),
            is_custom: None,
            is_in_use: None,
            is_paid_in_advance: None,
            is_prorated: None,
            price: plan.unit_price.clone(),
            product: product(plan),
            product_set_option: None,
            sales_channel: None,
            show_price_per: None,
            status: plan.active.map(|active| if active { "active" } else { "archived" }),
            kind: plan.unit_price.as_ref().map(|_| "per_unit"),
        }
    }
}

fn product(plan: &SoldPlan) -> Option<Product> {
    Some(Product {
        custom_fields: None,
        description: None,
        id: plan.stripe_product_id.clone()?,
        invoice_visibility: None,
        name: plan.product_name.clone(),
        kind: if plan.billing_interval.is_some() { "product" } else { "charge" },
    })
}

/// `1M` for a month; an interval that Stripe adds is null.
fn billing_interval(plan: &SoldPlan) -> Option<String> {
    let unit = match plan.billing_interval.as_deref()? {
        "day" => 'D',
        "week" => 'W',
        "month" => 'M',
        "year" => 'Y',
        _ => return None,
    };
    Some(format!("{}{unit}", plan.billing_interval_count.unwrap_or(1)))
}
