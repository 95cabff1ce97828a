//! Reads the database for the output and the checks of the demo; never writes.
//!
//! Must not know the expected results. Waits for the worker and the scheduler by polling.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::{ContactRow, LimitRow, OutcomeRow, Row, SettledRow, SubscriptionRow, WorkspaceRow};
use crate::database::Connection;

/// Timeout for one event. An event takes milliseconds, but the machine may be under load.
pub(super) const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// Interval of polling an event that is being processed.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Polls an event until the worker is done with it. The caller sets the timeout.
pub(super) async fn settled(conn: &mut Connection, event_id: &str) -> Result<SettledRow, sqlx::Error> {
    let mut polls = tokio::time::interval(POLL_INTERVAL);
    loop {
        polls.tick().await;
        let query =
            "-- demo.settled\nSELECT state, outcome, reason, last_error FROM billing.outbox WHERE event_id = $1";
        let row: Option<SettledRow> = sqlx::query_as(query).bind(event_id).fetch_optional(&mut *conn).await?;
        match row {
            Some(row) if row.state != "pending" => return Ok(row),
            _ => {}
        }
    }
}

/// The database's time, by which limits are renewed.
pub(super) async fn now(conn: &mut Connection) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar("-- demo.now\nSELECT clock_timestamp()").fetch_one(conn).await
}

/// Polls the ledger until it contains the period that ends at `period_end`. The caller sets the timeout.
pub(super) async fn renewed(
    conn: &mut Connection,
    subscription: &str,
    period_end: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let mut polls = tokio::time::interval(POLL_INTERVAL);
    loop {
        polls.tick().await;
        let query = r"
            -- demo.renewed
            SELECT EXISTS (
                SELECT FROM billing.limit_renewals AS r JOIN billing.subscriptions AS s ON s.id = r.subscription_id
                WHERE s.stripe_subscription_id = $1 AND r.period_end = $2)
            ";
        if sqlx::query_scalar(query).bind(subscription).bind(period_end).fetch_one(&mut *conn).await? {
            return Ok(());
        }
    }
}

/// The ids of these events that are in the outbox, once per row.
pub(super) async fn stored(conn: &mut Connection, event_ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    let query = "-- demo.stored\nSELECT event_id FROM billing.outbox WHERE event_id = ANY($1)";
    sqlx::query_scalar(query).bind(event_ids).fetch_all(conn).await
}

/// The row that has the key of `like`, if there is one.
pub(super) async fn same_key(conn: &mut Connection, like: &Row) -> Result<Option<Row>, sqlx::Error> {
    Ok(match like {
        Row::Subscription(row) => {
            let rows = subscriptions(conn).await?;
            rows.into_iter().find(|it| it.stripe_subscription_id == row.stripe_subscription_id).map(Row::Subscription)
        }
        Row::Contact(row) => {
            let rows = contacts(conn).await?;
            rows.into_iter().find(|it| it.stripe_customer_id == row.stripe_customer_id).map(Row::Contact)
        }
        Row::Workspace(row) => {
            let rows = workspaces(conn).await?;
            rows.into_iter().find(|it| it.workspace_id == row.workspace_id).map(Row::Workspace)
        }
        Row::Limit(row) => limit(conn, row.workspace_id, &row.limit_key).await?.map(Row::Limit),
    })
}

/// All contacts.
pub(super) async fn contacts(conn: &mut Connection) -> Result<Vec<ContactRow>, sqlx::Error> {
    sqlx::query_as(
        r"
        -- demo.contacts
        SELECT stripe_customer_id, name, email, city, stripe_deleted_at
        FROM billing.billing_contacts
        ORDER BY stripe_customer_id
        ",
    )
    .fetch_all(conn)
    .await
}

/// All subscriptions.
pub(super) async fn subscriptions(conn: &mut Connection) -> Result<Vec<SubscriptionRow>, sqlx::Error> {
    sqlx::query_as(
        r"
        -- demo.subscriptions
        SELECT stripe_subscription_id, stripe_status, active, payment_paused, is_trial, trial_ends_at, is_grace_period,
            end_date, next_subscription_cycle_start, stripe_price_id, payment_type
        FROM billing.subscriptions
        ORDER BY stripe_subscription_id
        ",
    )
    .fetch_all(conn)
    .await
}

/// All workspaces.
pub(super) async fn workspaces(conn: &mut Connection) -> Result<Vec<WorkspaceRow>, sqlx::Error> {
    sqlx::query_as(
        r"
        -- demo.workspaces
        SELECT workspace_id, active, inactive_reason FROM billing.workspace_billing ORDER BY workspace_id
        ",
    )
    .fetch_all(conn)
    .await
}

/// A limit of a workspace.
pub(super) async fn limit(conn: &mut Connection, workspace: Uuid, key: &str) -> Result<Option<LimitRow>, sqlx::Error> {
    sqlx::query_as(
        r"
        -- demo.limit
        SELECT workspace_id, limit_key, included, spillover, used, available, period_started_at, limit_renewal_date
        FROM billing.workspace_limits
        WHERE workspace_id = $1 AND limit_key = $2
        ",
    )
    .bind(workspace)
    .bind(key)
    .fetch_optional(conn)
    .await
}

/// Number of events in the outbox, by state, outcome and reason.
pub(super) async fn outcomes(conn: &mut Connection) -> Result<Vec<OutcomeRow>, sqlx::Error> {
    sqlx::query_as(
        r"
        -- demo.outcomes
        SELECT state, outcome, reason, count(*) AS events
        FROM billing.outbox
        GROUP BY state, outcome, reason
        ORDER BY state, outcome, reason NULLS FIRST
        ",
    )
    .fetch_all(conn)
    .await
}

/// Every row of the product tables, the outbox and the limits as one line of JSON, with all columns and the table's
/// name first.
pub(super) async fn as_json(conn: &mut Connection) -> Result<Vec<String>, sqlx::Error> {
    let mut lines = Vec::new();
    for query in [
        r#"
        -- demo.contacts_json
        SELECT row_to_json(line)::text
        FROM (SELECT 'billing_contacts' AS "table", * FROM billing.billing_contacts ORDER BY stripe_customer_id) AS line
        "#,
        r#"
        -- demo.subscriptions_json
        SELECT row_to_json(line)::text
        FROM (SELECT 'subscriptions' AS "table", * FROM billing.subscriptions ORDER BY stripe_subscription_id) AS line
        "#,
        r#"
        -- demo.plans_json
        SELECT row_to_json(line)::text
        FROM (SELECT 'pricing_plans' AS "table", * FROM billing.pricing_plans ORDER BY stripe_price_id) AS line
        "#,
        r#"
        -- demo.outbox_json
        SELECT row_to_json(line)::text
        FROM (SELECT 'outbox' AS "table", * FROM billing.outbox ORDER BY event_id DESC) AS line
        "#,
        r#"
        -- demo.workspaces_json
        SELECT row_to_json(line)::text
        FROM (SELECT 'workspace_billing' AS "table", * FROM billing.workspace_billing ORDER BY workspace_id) AS line
        "#,
        r#"
        -- demo.limits_json
        SELECT row_to_json(line)::text
        FROM (SELECT 'workspace_limits' AS "table", * FROM billing.workspace_limits ORDER BY workspace_id, limit_key) AS line
        "#,
        r#"
        -- demo.renewals_json
        SELECT row_to_json(line)::text
        FROM (
            SELECT 'limit_renewals' AS "table", * FROM billing.limit_renewals ORDER BY subscription_id, limit_key, period_start
        ) AS line
        "#,
    ] {
        lines.extend(sqlx::query_scalar::<_, String>(query).fetch_all(&mut *conn).await?);
    }
    Ok(lines)
}
