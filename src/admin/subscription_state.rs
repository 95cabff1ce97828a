//! Whether subscriptions may be used now, and the changes that led there. Reads only. Called by `explain`.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Connection;

/// A subscription as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of live_subscriptions, described in its migration")]
pub struct SubscriptionState {
    pub id: Uuid,
    pub stripe_subscription_id: String,
    pub workspace_id: Option<Uuid>,
    pub active: bool,
    pub inactive_reason: Option<String>,
    pub is_trial: bool,
    pub trial_ends_at: Option<OffsetDateTime>,
    pub end_date: Option<OffsetDateTime>,
    pub next_subscription_cycle_start: Option<OffsetDateTime>,
    /// Name of its plan.
    pub plan: Option<String>,
    /// Whether it is the current subscription of its workspace.
    pub is_current: bool,
    /// The last change between active and inactive. `None` if the history does not contain it.
    pub activity: Option<StateChange>,
    /// The last change of the reason.
    pub reason: Option<StateChange>,
}

/// A change in the history of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// When Stripe created the event that caused it; for other causes, when the row changed.
    pub at: OffsetDateTime,
    /// As in `row_changes`.
    pub causes: Vec<String>,
}

/// The subscriptions with these row ids, and those of this workspace, the current one of a workspace first.
///
/// # Errors
/// Database errors.
pub async fn subscriptions(
    conn: &mut Connection,
    ids: &[Uuid],
    workspace: Option<Uuid>,
) -> Result<Vec<SubscriptionState>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- explain.subscriptions
        SELECT s.id AS "id!", s.stripe_subscription_id AS "stripe_subscription_id!", s.workspace_id, s.active AS "active!",
            s.inactive_reason, s.is_trial AS "is_trial!", s.trial_ends_at, s.end_date, s.next_subscription_cycle_start,
            coalesce(p.display_name, p.product_name, s.stripe_price_id) AS "plan?", current.is_it AS "is_current!"
        FROM billing.live_subscriptions AS s
        LEFT JOIN billing.pricing_plans AS p ON p.id = s.pricing_plan_id
        CROSS JOIN LATERAL (
            SELECT EXISTS (SELECT FROM billing.current_subscriptions AS c WHERE c.workspace_id = s.workspace_id AND c.id = s.id)
                AS is_it
        ) AS current
        WHERE s.id = ANY($1) OR s.workspace_id = $2
        ORDER BY NOT current.is_it, s.stripe_created_at DESC NULLS LAST, s.stripe_subscription_id DESC"#,
        ids,
        workspace
    )
    .fetch_all(&mut *conn)
    .await?;
    let found: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut activity = last_changes(conn, &found, "active").await?;
    let mut reason = last_changes(conn, &found, "inactive_reason").await?;
    let state = rows.into_iter().map(|row| SubscriptionState {
        activity: activity.remove(&row.id),
        reason: reason.remove(&row.id),
        id: row.id,
        stripe_subscription_id: row.stripe_subscription_id,
        workspace_id: row.workspace_id,
        active: row.active,
        inactive_reason: row.inactive_reason,
        is_trial: row.is_trial,
        trial_ends_at: row.trial_ends_at,
        end_date: row.end_date,
        next_subscription_cycle_start: row.next_subscription_cycle_start,
        plan: row.plan,
        is_current: row.is_current,
    });
    Ok(state.collect())
}

/// The last change of a column in the history of each of these rows.
async fn last_changes(
    conn: &mut Connection,
    rows: &[Uuid],
    column: &str,
) -> Result<BTreeMap<Uuid, StateChange>, sqlx::Error> {
    let changes = sqlx::query!(
        r#"-- explain.last_changes
        SELECT wanted.id AS "row_id!", change.at AS "at!", change.causes AS "causes!"
        FROM unnest($1::uuid[]) AS wanted (id)
        CROSS JOIN LATERAL (
            SELECT coalesce((SELECT max(o.created) FROM billing.outbox AS o WHERE o.event_id = ANY(c.causes)), c.changed_at)
                AS at, c.causes
            FROM billing.row_changes AS c
            WHERE c.row_id = wanted.id AND c.changes ? $2 ORDER BY c.id DESC LIMIT 1
        ) AS change"#,
        rows,
        column
    )
    .fetch_all(conn)
    .await?;
    Ok(changes.into_iter().map(|row| (row.row_id, StateChange { at: row.at, causes: row.causes })).collect())
}

/// Why the workspace may not use the product now, as `workspace_state` answers it; `None` if it may.
///
/// # Errors
/// Database errors.
pub async fn inactive_reason(conn: &mut Connection, workspace: Uuid) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- explain.workspace
        SELECT inactive_reason FROM billing.workspace_state($1)",
        workspace
    )
    .fetch_one(conn)
    .await
}

/// A period of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of limit_history, described in its migration")]
pub struct Period {
    pub limit_key: String,
    pub period_start: OffsetDateTime,
    pub is_over: bool,
    /// `None`: unlimited.
    pub included: Option<i64>,
    pub spillover: i64,
    pub used: i64,
    pub bonus_used: i64,
    pub expired: i64,
}

/// The newest periods of each limit of a subscription, at most `limit` each, in order.
///
/// # Errors
/// Database errors.
pub async fn periods(conn: &mut Connection, subscription: Uuid, limit: i64) -> Result<Vec<Period>, sqlx::Error> {
    sqlx::query_as!(
        Period,
        r#"-- explain.periods
        SELECT limit_key AS "limit_key!", period_start AS "period_start!", is_over AS "is_over!", included,
            coalesce(spillover, 0) AS "spillover!", coalesce(used, 0) AS "used!", coalesce(bonus_used, 0) AS "bonus_used!",
            coalesce(expired, 0) AS "expired!"
        FROM (
            SELECT h.*, row_number() OVER (PARTITION BY h.limit_key ORDER BY h.period_start DESC) AS place
            FROM billing.limit_history($1) AS h
        ) AS numbered
        WHERE place <= $2
        ORDER BY limit_key, period_start"#,
        subscription,
        limit
    )
    .fetch_all(conn)
    .await
}
