//! Checkout links: the plans that one sells, and the row beside the payment link in Stripe.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::found::parse;
use crate::database::Connection;

/// A price of the own account, with its product, as a checkout link shows it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SoldPlan {
    pub(crate) id: Uuid,
    pub(crate) stripe_price_id: String,
    pub(crate) stripe_product_id: Option<String>,
    pub(crate) product_name: Option<String>,
    /// The product's own name of the plan, else that of the product in Stripe.
    pub(crate) display_name: Option<String>,
    pub(crate) active: Option<bool>,
    pub(crate) billing_interval: Option<String>,
    pub(crate) billing_interval_count: Option<i64>,
    pub(crate) currency: Option<String>,
    /// The price of a unit in that currency, with all its digits; `None` for tiers and custom amounts.
    pub(crate) unit_price: Option<Box<RawValue>>,
    pub(crate) category_id: Option<String>,
}

const SOLD_PLANS: &str = "-- api.sold_plans
    SELECT json_build_object('id', p.id, 'stripe_price_id', p.stripe_price_id,
        'stripe_product_id', p.stripe_product_id, 'product_name', p.product_name,
        'display_name', coalesce(p.display_name, p.product_name), 'active', p.active,
        'billing_interval', p.billing_interval, 'billing_interval_count', p.billing_interval_count,
        'currency', p.currency, 'category_id', p.category_id,
        'unit_price', CASE WHEN p.unit_amount_decimal IS NOT NULL THEN p.price_per_currency -> p.currency END)::text
    FROM billing.pricing_plans AS p
    WHERE p.account = '' AND (p.id = ANY($1) OR p.stripe_price_id = ANY($2))";

/// The plans of the own account with these ids: ours, or those of their prices in Stripe.
///
/// # Errors
/// Database errors.
pub(crate) async fn sold_plans(
    conn: &mut Connection,
    ids: Vec<Uuid>,
    prices: Vec<String>,
) -> Result<Vec<SoldPlan>, sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar(SOLD_PLANS).bind(ids).bind(prices).fetch_all(conn).await?;
    found.iter().map(|document| parse(document)).collect()
}

/// A checkout link to create.
#[derive(Debug)]
pub(crate) struct NewCheckoutLink<'a> {
    pub(crate) id: Uuid,
    pub(crate) name: Option<&'a str>,
    /// The body of the request, as it was sent.
    pub(crate) request: &'a str,
    pub(crate) principal: &'a str,
}

/// Creates the row of a link, before its payment link.
///
/// # Errors
/// Database errors.
pub(crate) async fn create_link(conn: &mut Connection, new: &NewCheckoutLink<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- checkout_links.create
        INSERT INTO billing.checkout_links (id, account, name, request, created_by)
        VALUES ($1, '', $2, ($3::text)::json, $4)",
        new.id,
        new.name,
        new.request,
        new.principal
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The row of a link whose payment link exists.
#[derive(Debug)]
pub(crate) struct CheckoutLink {
    pub(crate) id: Uuid,
    pub(crate) name: Option<String>,
    pub(crate) url: String,
    pub(crate) is_enabled: bool,
}

/// The link of the own account with this payment link.
///
/// # Errors
/// Database errors.
pub(crate) async fn link(conn: &mut Connection, payment_link: &str) -> Result<Option<CheckoutLink>, sqlx::Error> {
    sqlx::query_as!(
        CheckoutLink,
        r#"-- checkout_links.of_payment_link
        SELECT id, name, url AS "url!", is_enabled AS "is_enabled!"
        FROM billing.checkout_links WHERE account = '' AND stripe_payment_link_id = $1"#,
        payment_link
    )
    .fetch_optional(conn)
    .await
}
