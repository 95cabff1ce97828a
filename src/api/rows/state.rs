//! The answer to "may they use it, how much is left": one row for a workspace or a customer.

use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::entities::Limit;
use super::found::{Found, found};
use super::fragments::{limits_json, visible};
use crate::api::principal::Access;
use crate::database::Connection;

/// Whose state is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A workspace.
    Workspace(Uuid),
    /// A customer: the ids that its billing contact may have, one for each account.
    Customer(Vec<Uuid>),
}

/// Whether a workspace or customer may use the product now, and its limits.
#[derive(Debug, Deserialize)]
pub(crate) struct State {
    pub(crate) workspace_id: Option<Uuid>,
    pub(crate) billing_contact_id: Option<Uuid>,
    pub(crate) stripe_customer_id: Option<String>,
    pub(crate) subscription_id: Option<Uuid>,
    pub(crate) stripe_subscription_id: Option<String>,
    pub(crate) stripe_status: Option<String>,
    pub(crate) pricing_plan_id: Option<Uuid>,
    pub(crate) active: bool,
    pub(crate) inactive_reason: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) end_date: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) changed_at: Option<OffsetDateTime>,
    pub(crate) limits: Vec<Limit>,
}

/// The state by the subscription `s` of `live_subscriptions` and the contact `c`.
macro_rules! state_json {
    ($workspace:literal) => {
        concat!(
            "json_build_object('workspace_id', ",
            $workspace,
            ", 'billing_contact_id', c.id, 'stripe_customer_id', c.stripe_customer_id, 'subscription_id', s.id,
            'stripe_subscription_id', s.stripe_subscription_id, 'stripe_status', s.stripe_status,
            'pricing_plan_id', s.pricing_plan_id, 'active', coalesce(s.active, false),
            'inactive_reason', CASE WHEN s.id IS NULL THEN 'no_subscription' ELSE s.inactive_reason END,
            'end_date', s.end_date, 'changed_at', s.updated_at,
            'limits', (SELECT ",
            limits_json!(),
            " FROM billing.current_limits(s.id) AS l))::text"
        )
    };
}

const OF_WORKSPACE: &str = concat!(
    "-- api.state_of_workspace
    SELECT ",
    state_json!("b.workspace_id"),
    ", row_to_json(f)::text
    FROM billing.workspace_billing AS b
    LEFT JOIN billing.billing_contacts AS c ON c.id = b.billing_contact_id
    LEFT JOIN billing.live_subscriptions AS s ON s.id = b.current_subscription_id
    CROSS JOIN LATERAL billing.freshness(coalesce(c.account, ''), c.stripe_customer_id) AS f
    WHERE b.workspace_id = $1 AND ",
    visible!("b.workspace_id")
);

/// A customer may have subscriptions of several workspaces: the one with the lowest rank counts, as in
/// `workspace_billing`, of those that the caller may see.
const OF_CUSTOMER: &str = concat!(
    "-- api.state_of_customer
    SELECT ",
    state_json!("coalesce(s.workspace_id, c.workspace_id)"),
    ", row_to_json(f)::text
    FROM billing.billing_contacts AS c
    LEFT JOIN LATERAL (
        SELECT * FROM billing.live_subscriptions AS own
        WHERE own.billing_contact_id = c.id AND NOT EXISTS (
                SELECT FROM billing.workspaces AS w WHERE w.id = own.workspace_id AND w.deleted_at IS NOT NULL)
            AND ",
    visible!("own.workspace_id"),
    "
        ORDER BY billing.subscription_rank(own.stripe_status, own.payment_paused), own.stripe_created_at DESC NULLS LAST,
            own.stripe_subscription_id DESC
        LIMIT 1
    ) AS s ON true
    CROSS JOIN LATERAL billing.freshness(c.account, c.stripe_customer_id) AS f
    WHERE c.id = ANY($1) AND (s.id IS NOT NULL OR ",
    visible!("c.workspace_id"),
    ")
        AND NOT EXISTS (
            SELECT FROM billing.workspaces AS w
            WHERE w.id = coalesce(s.workspace_id, c.workspace_id) AND w.deleted_at IS NOT NULL)
    -- one Stripe id may exist in several accounts; the own account comes first
    ORDER BY c.account LIMIT 1"
);

/// The state of a workspace or customer; `None` if the caller may not see it.
///
/// # Errors
/// Database errors.
pub(crate) async fn state(
    conn: &mut Connection,
    subject: &Subject,
    access: Access,
) -> Result<Option<Found<State>>, sqlx::Error> {
    let (all, user) = access.parameters();
    let query = match subject {
        Subject::Workspace(id) => sqlx::query_as(OF_WORKSPACE).bind(id),
        Subject::Customer(ids) => sqlx::query_as(OF_CUSTOMER).bind(ids),
    };
    found(query.bind(all).bind(user).fetch_optional(conn).await?)
}
