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

/// Asks for a reproject of the customers of subscriptions that lack a balance of a limit of their items: those of the time
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

/// The reads that are asked for and not made yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// All of them.
    pub left: u64,
    /// Those that failed and wait to be tried again.
    pub failing: u64,
    /// Of those the objects, as type and id, and why; at most a hundred.
    pub failures: Vec<(String, String)>,
}

/// What is still to be read.
///
/// # Errors
/// Those of the database.
pub async fn reads_left(conn: &mut PgConnection) -> Result<Waiting, sqlx::Error> {
    let counts = sqlx::query!(
        r#"-- jobs.reads_left
        SELECT count(*) AS "left!", count(last_error) AS "failing!" FROM billing.jobs WHERE kind IN ('fetch', 'confirm')"#
    )
    .fetch_one(&mut *conn)
    .await?;
    let failures = sqlx::query!(
        r#"-- jobs.reads_failing
        SELECT concat_ws(' ', object_type, object_id) AS "object!", last_error AS "error!"
        FROM billing.jobs WHERE kind IN ('fetch', 'confirm') AND last_error IS NOT NULL
        ORDER BY kind, account, object_type, object_id
        LIMIT 100"#
    )
    .fetch_all(conn)
    .await?;
    Ok(Waiting {
        left: u64::try_from(counts.left).unwrap_or_default(),
        failing: u64::try_from(counts.failing).unwrap_or_default(),
        failures: failures.into_iter().map(|row| (row.object, row.error)).collect(),
    })
}
