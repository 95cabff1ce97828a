//! The statement of a workspace's limits, which explains its balances. Reads only. Called by `explain`.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Connection;

/// A row of `billing.limit_statement`. Amounts are text, because a sum may have any size.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the view, described in its migration")]
pub struct Line {
    pub stripe_subscription_id: Option<String>,
    pub limit_key: String,
    pub period_start: Option<OffsetDateTime>,
    pub period_end: Option<OffsetDateTime>,
    pub at: OffsetDateTime,
    pub line: String,
    pub amount: Option<String>,
    pub bonus: String,
    pub stripe_price_id: Option<String>,
    pub quantity: Option<i64>,
    pub reason: Option<String>,
}

/// The remaining amount of a bonus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of workspace_bonus")]
pub struct Bonus {
    pub limit_key: String,
    pub amount: i64,
}

/// The lines of a workspace, for one limit or all: by limit and subscription, periods in order, and the bonus last.
///
/// # Errors
/// Database errors.
pub async fn lines(conn: &mut Connection, workspace: Uuid, limit: Option<&str>) -> Result<Vec<Line>, sqlx::Error> {
    sqlx::query_as!(
        Line,
        r#"-- statement.lines
        SELECT stripe_subscription_id, limit_key AS "limit_key!", period_start, period_end, at AS "at!", line AS "line!",
            amount::text AS amount, bonus::text AS "bonus!", stripe_price_id, quantity, reason
        FROM billing.limit_statement
        WHERE workspace_id = $1 AND ($2::text IS NULL OR limit_key = $2)
        ORDER BY limit_key, stripe_subscription_id NULLS LAST, period_start, place, at, stripe_price_id, quantity"#,
        workspace,
        limit
    )
    .fetch_all(conn)
    .await
}

/// The remaining bonuses of a workspace.
///
/// # Errors
/// Database errors.
pub async fn bonuses(conn: &mut Connection, workspace: Uuid) -> Result<Vec<Bonus>, sqlx::Error> {
    sqlx::query_as!(
        Bonus,
        "-- statement.bonuses
        SELECT limit_key, amount FROM billing.workspace_bonus WHERE workspace_id = $1 ORDER BY limit_key",
        workspace
    )
    .fetch_all(conn)
    .await
}

/// The values in Stripe because of which limits of the workspace's current subscription cannot be read.
///
/// # Errors
/// Database errors.
pub async fn invalid_values(
    conn: &mut Connection,
    workspace: Uuid,
    limit: Option<&str>,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- statement.invalid_values
        SELECT DISTINCT l.invalid_value AS "value!"
        FROM billing.current_subscriptions AS c
        JOIN billing.subscription_items AS i ON i.subscription_id = c.id
        JOIN billing.plan_limits AS l ON l.pricing_plan_id = i.pricing_plan_id
        WHERE c.workspace_id = $1 AND ($2::text IS NULL OR l.limit_key = $2) AND l.invalid_value IS NOT NULL
        ORDER BY 1"#,
        workspace,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Whether anything names the workspace, or it has a bonus.
///
/// # Errors
/// Database errors.
pub async fn is_known(conn: &mut Connection, workspace: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- statement.is_known
        SELECT EXISTS (SELECT FROM billing.workspace_billing WHERE workspace_id = $1)
            OR EXISTS (SELECT FROM billing.bonus_grants WHERE workspace_id = $1) AS "known!""#,
        workspace
    )
    .fetch_one(conn)
    .await
}
