//! What only the passing of time asks for: a trial whose end has passed while Stripe still calls it one.

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
