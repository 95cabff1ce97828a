//! Queues jobs that no event causes: for a trial past its end that Stripe still reports as a trial, and for missing
//! limits.

use crate::database::Connection;

/// Queues a confirm of each subscription whose trial ended more than five minutes ago. At most one read an hour of
/// each, because Stripe ends trials with a delay. Returns the number of jobs.
///
/// # Errors
/// Database errors.
pub async fn overdue_trials(conn: &mut Connection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "-- jobs.overdue_trials
        INSERT INTO billing.jobs (kind, account, object_type, object_id, newer_than)
        SELECT 'confirm', s.account, 'subscription', s.stripe_subscription_id, s.trial_ends_at
        FROM billing.subscriptions AS s
        WHERE s.is_trial AND s.trial_ends_at < clock_timestamp() - interval '5 min'
            AND NOT EXISTS (
                SELECT FROM billing.reads AS r
                WHERE r.object_id = s.stripe_subscription_id AND r.account = s.account
                    AND r.read_at > clock_timestamp() - interval '1 hour')
        ORDER BY s.account, s.stripe_subscription_id
        LIMIT 1000
        ON CONFLICT DO NOTHING"
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Queues a reproject of the customers of subscriptions without a balance for a limit of their items: subscriptions
/// older than balances, or written by an older release that was still running. Returns the number of jobs.
///
/// # Errors
/// Database errors.
pub async fn missing_limits(conn: &mut Connection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "-- jobs.missing_limits
        INSERT INTO billing.jobs (kind, account, object_type, object_id)
        SELECT DISTINCT 'reproject', s.account, 'customer', s.stripe_customer_id
        FROM billing.subscriptions AS s
        CROSS JOIN jsonb_to_recordset(s.items) AS i (price_id text)
        JOIN billing.pricing_plans AS p ON p.account = s.account AND p.stripe_price_id = i.price_id
        JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id AND (l.unlimited OR l.included IS NOT NULL)
        WHERE s.stripe_status NOT IN ('canceled', 'incomplete_expired')
            AND NOT EXISTS (
                SELECT FROM billing.subscription_limits AS b WHERE b.subscription_id = s.id AND b.limit_key = l.limit_key)
        ORDER BY s.account, s.stripe_customer_id
        ON CONFLICT DO NOTHING"
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
