//! What no event asks for: a trial whose end has passed while Stripe still calls it one, and limits that are lacking.

use sqlx::PgConnection;

/// Asks for a confirm of each subscription whose trial should be over for five minutes. At most one read an hour of
/// each: Stripe moves them by and by. Returns how many.
///
/// # Errors
/// Those of the database.
pub async fn overdue_trials(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "-- jobs.overdue_trials
        INSERT INTO billing.jobs (kind, account, object_type, object_id, later_than)
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

/// Asks for a reproject of the customers of subscriptions that lack a balance of a limit of their plan: those of the time
/// before there were balances, or before an old release of ours was stopped. Returns how many.
///
/// # Errors
/// Those of the database.
pub async fn lacking_limits(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "-- jobs.lacking_limits
        INSERT INTO billing.jobs (kind, account, object_type, object_id)
        SELECT DISTINCT 'reproject', s.account, 'customer', s.stripe_customer_id
        FROM billing.subscriptions AS s
        JOIN billing.plan_limits AS l ON l.pricing_plan_id = s.pricing_plan_id AND (l.unlimited OR l.included IS NOT NULL)
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
