//! Rows below a workspace: its billing contacts and their checkout sessions.
//!
//! Several contacts can belong to a workspace: its payer, the contacts of its subscriptions, and those whose metadata
//! in Stripe names it.

use uuid::Uuid;

use super::entities::{CheckoutSession, Contact};
use super::found::{Found, found};
use super::fragments::{contact_json, plan_json, visible};
use crate::api::principal::Access;
use crate::database::Connection;

/// `c` of `live_billing_contacts` belongs to the workspace `$1`, which the caller may see. The contact of a subscription
/// that has ended does not: it may be another workspace's payer now.
macro_rules! belongs {
    () => {
        concat!(
            "c.id = $4 AND EXISTS (
            SELECT FROM billing.workspace_billing AS b
            WHERE b.workspace_id = $1 AND ",
            visible!("b.workspace_id"),
            " AND (c.workspace_id = $1 OR b.billing_contact_id = c.id OR EXISTS (
                    SELECT FROM billing.subscriptions AS s
                    WHERE s.workspace_id = $1 AND s.billing_contact_id = c.id
                        AND s.stripe_status NOT IN ('canceled', 'incomplete_expired'))))"
        )
    };
}

const CONTACT: &str = concat!(
    "-- api.contact
    SELECT ",
    contact_json!(),
    "::text, row_to_json(f)::text
    FROM billing.live_billing_contacts AS c
    LEFT JOIN billing.row_origins AS o ON o.row_id = c.id
    CROSS JOIN LATERAL billing.freshness(c.account, c.stripe_customer_id) AS f
    WHERE ",
    belongs!()
);

/// The billing contact of a workspace; `None` if it does not belong to it, or the caller may not see the workspace.
///
/// # Errors
/// Database errors.
pub(crate) async fn contact(
    conn: &mut Connection,
    workspace: Uuid,
    contact: Uuid,
    access: Access,
) -> Result<Option<Found<Contact>>, sqlx::Error> {
    let (all, user) = access.parameters();
    found(sqlx::query_as(CONTACT).bind(workspace).bind(all).bind(user).bind(contact).fetch_optional(conn).await?)
}

const CHECKOUT_SESSION: &str = concat!(
    "-- api.checkout_session
    SELECT json_build_object('callback_url', d.callback_url, 'language', d.language, 'status', d.status,
        'stripe_price_id', d.stripe_price_id, 'stripe_subscription_id', d.stripe_subscription_id,
        'plan', ",
    plan_json!("p.account = d.account AND p.stripe_price_id = d.stripe_price_id"),
    ",
        'coupon', (SELECT json_build_object('discount_percentage', q.discount_percentage,
                'pricing_plan_id', q.pricing_plan_id, 'translation_key', q.translation_key, 'plan', ",
    plan_json!("p.id = q.pricing_plan_id"),
    ")
            FROM billing.coupons AS q
            WHERE q.account = d.account AND q.stripe_coupon_id = d.stripe_coupon_id))::text,
        row_to_json(f)::text
    FROM billing.live_billing_contacts AS c
    JOIN billing.checkout_sessions AS d ON d.account = c.account AND d.stripe_customer_id = c.stripe_customer_id
    CROSS JOIN LATERAL billing.freshness(c.account, c.stripe_customer_id) AS f
    WHERE d.stripe_session_id = $5 AND (d.workspace_id = $1 OR d.workspace_id IS NULL AND NOT EXISTS (
            -- of a customer that pays for several workspaces it is not known whose session it is
            SELECT FROM billing.subscriptions AS other
            WHERE other.billing_contact_id = c.id AND other.workspace_id <> $1)) AND ",
    belongs!()
);

/// A checkout session of a billing contact of a workspace, by its Stripe id; `None` if it does not belong to them, or
/// the caller may not see the workspace.
///
/// # Errors
/// Database errors.
pub(crate) async fn checkout_session(
    conn: &mut Connection,
    workspace: Uuid,
    contact: Uuid,
    session: &str,
    access: Access,
) -> Result<Option<Found<CheckoutSession>>, sqlx::Error> {
    let (all, user) = access.parameters();
    let query = sqlx::query_as(CHECKOUT_SESSION).bind(workspace).bind(all).bind(user).bind(contact).bind(session);
    found(query.fetch_optional(conn).await?)
}
