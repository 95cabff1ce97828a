//! The limits of a workspace: reads them, and calls the product's functions that consume and release them.

use serde::Deserialize;
use uuid::Uuid;

use super::entities::Limit;
use super::found::{Found, found};
use super::fragments::{limits_json, visible};
use crate::api::principal::Access;
use crate::database::Connection;

const LIMITS: &str = concat!(
    "-- api.limits
    SELECT json_build_object('limits', coalesce((SELECT ",
    limits_json!(),
    " FROM billing.live_subscriptions AS s CROSS JOIN LATERAL billing.current_limits(s.id) AS l
            WHERE s.id = b.current_subscription_id), '[]'))::text,
        row_to_json(f)::text
    FROM billing.workspace_billing AS b
    LEFT JOIN billing.billing_contacts AS payer ON payer.id = b.billing_contact_id
    CROSS JOIN LATERAL billing.freshness(coalesce(payer.account, ''), payer.stripe_customer_id) AS f
    WHERE b.workspace_id = $1 AND ",
    visible!("b.workspace_id")
);

#[derive(Debug, Deserialize)]
struct Limits {
    limits: Vec<Limit>,
}

/// The limits of the workspace's current subscription, none without one; `None` if the caller may not see the
/// workspace.
///
/// # Errors
/// Database errors.
pub(crate) async fn limits(
    conn: &mut Connection,
    workspace: Uuid,
    access: Access,
) -> Result<Option<Found<Vec<Limit>>>, sqlx::Error> {
    let (all, user) = access.parameters();
    let found = found(sqlx::query_as(LIMITS).bind(workspace).bind(all).bind(user).fetch_optional(conn).await?)?;
    Ok(found.map(|found: Found<Limits>| Found { row: found.row.limits, freshness: found.freshness }))
}

/// Consumes this amount of a limit and returns what remains, `None` if it is unlimited.
///
/// # Errors
/// `LM001` to `LM010` and `22023` as documented at `billing.consume`; other database errors.
pub(crate) async fn consume(
    conn: &mut Connection,
    workspace: Uuid,
    key: &str,
    amount: i64,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- api.consume
        SELECT billing.consume($1, $2, $3)",
        workspace,
        key,
        amount
    )
    .fetch_one(conn)
    .await
}

/// Releases this amount of a capacity and returns what remains, `None` if it is unlimited.
///
/// # Errors
/// `LM003` to `LM010` and `22023` as documented at `billing.release`; other database errors.
pub(crate) async fn release(
    conn: &mut Connection,
    workspace: Uuid,
    key: &str,
    amount: i64,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- api.release
        SELECT billing.release($1, $2, $3)",
        workspace,
        key,
        amount
    )
    .fetch_one(conn)
    .await
}
