//! What a new checkout session depends on: the payer, the plan, and what the workspace had before.

use serde::Deserialize;
use uuid::Uuid;

use super::entities::Plan;
use super::found::parse;
use super::fragments::plan_json;
use crate::database::Connection;

/// Which plan is bought.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PlanChoice {
    /// The plan with this id.
    Id(Uuid),
    /// The plan with this id in a legacy system.
    Legacy(i64),
    /// The default plan.
    Default,
}

/// What a new checkout session depends on.
#[derive(Debug, Deserialize)]
pub(crate) struct CheckoutBasis {
    /// Connected account, or empty.
    pub(crate) account: String,
    pub(crate) stripe_customer_id: String,
    /// The chosen plan, which can be bought.
    pub(crate) plan: Plan,
    /// Whether a subscription of the workspace ever had a trial.
    pub(crate) had_trial: bool,
    /// The current subscription, unless it has ended.
    pub(crate) live_subscription: Option<String>,
    /// The coupons that the product offers for the plan, and that can be given now.
    pub(crate) coupons: Vec<String>,
}

const BASIS: &str = concat!(
    "-- api.checkout_basis
    SELECT json_build_object('account', c.account, 'stripe_customer_id', c.stripe_customer_id,
        'plan', ",
    plan_json!("p.id = chosen.id"),
    ",
        'had_trial', b.trial_started_at IS NOT NULL,
        'live_subscription', (SELECT s.stripe_subscription_id FROM billing.subscriptions AS s
            WHERE s.id = b.current_subscription_id AND s.account = c.account
                AND s.stripe_status NOT IN ('canceled', 'incomplete_expired', 'incomplete')),
        'coupons', ARRAY(SELECT q.stripe_coupon_id FROM billing.live_coupons AS q
            WHERE q.account = c.account AND q.pricing_plan_id = chosen.id AND q.valid
            ORDER BY q.stripe_coupon_id LIMIT 2))::text
    FROM billing.workspace_billing AS b
    CROSS JOIN billing.billing_contacts AS c
    CROSS JOIN LATERAL (
        SELECT p.id FROM billing.pricing_plans AS p
        WHERE p.account = c.account AND p.active AND p.billing_interval IS NOT NULL
            AND CASE WHEN $3::uuid IS NOT NULL THEN p.id = $3
                WHEN $4::bigint IS NOT NULL THEN p.imported_from_legacy_id = $4
                ELSE p.is_default END
        LIMIT 2
    ) AS chosen
    WHERE b.workspace_id = $1 AND c.id = $2"
);

/// What a new session of a workspace and its contact depends on. `None` if there is no such plan, or not exactly one: it
/// does not exist, is archived, is no subscription, or belongs to another account than the contact.
///
/// # Errors
/// Database errors.
pub(crate) async fn checkout_basis(
    conn: &mut Connection,
    workspace: Uuid,
    contact: Uuid,
    plan: PlanChoice,
) -> Result<Option<CheckoutBasis>, sqlx::Error> {
    let (id, legacy) = match plan {
        PlanChoice::Id(id) => (Some(id), None),
        PlanChoice::Legacy(legacy) => (None, Some(legacy)),
        PlanChoice::Default => (None, None),
    };
    let found: Vec<String> =
        sqlx::query_scalar(BASIS).bind(workspace).bind(contact).bind(id).bind(legacy).fetch_all(conn).await?;
    match found.as_slice() {
        [only] => Ok(Some(parse(only)?)),
        _ => Ok(None),
    }
}
