//! The worker's part of the limits: creates balances of new subscriptions, and marks limits as stale after a change.
//!
//! It only inserts, because an open transaction of the product may lock a balance for any time. The next renewal of
//! that balance finds the mark and recomputes. Called in the worker's transaction, with its locks held.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// Marks subscriptions whose past state differs from what was known, each with the time from which it differs.
///
/// # Errors
/// Database errors.
pub async fn mark_timelines(
    conn: &mut Connection,
    grown: &BTreeMap<ObjectKey, OffsetDateTime>,
) -> Result<(), sqlx::Error> {
    if grown.is_empty() {
        return Ok(());
    }
    let accounts: Vec<String> = grown.keys().map(|key| key.account.clone()).collect();
    let ids: Vec<String> = grown.keys().map(|key| key.object_id.clone()).collect();
    let since: Vec<OffsetDateTime> = grown.values().copied().collect();
    sqlx::query!(
        "-- limits.mark_timelines
        INSERT INTO billing.limit_recalculations (subscription_id, since)
        SELECT s.id, grown.since
        FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS grown (account, subscription_id, since)
        CROSS JOIN LATERAL (
            SELECT s.id FROM billing.subscriptions AS s
            WHERE s.account = grown.account AND s.stripe_subscription_id = grown.subscription_id
            OFFSET 0
        ) AS s
        WHERE EXISTS (SELECT FROM billing.subscription_limits AS b WHERE b.subscription_id = s.id)",
        &accounts,
        &ids,
        &since
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Creates the missing balances of the `projected` subscriptions. If another session has locked the table of limit
/// kinds, it returns false, and the caller projects them again later. Before that, it marks those whose periods or end
/// were `changed`, or whose items include another amount than their balance.
///
/// # Errors
/// Database errors.
pub async fn mark_subscriptions(
    conn: &mut Connection,
    projected: &[Uuid],
    changed: &[Uuid],
) -> Result<bool, sqlx::Error> {
    if projected.is_empty() {
        return Ok(true);
    }
    sqlx::query!(
        "-- limits.mark_subscriptions
        INSERT INTO billing.limit_recalculations (subscription_id, since)
        SELECT DISTINCT b.subscription_id, clock_timestamp()
        FROM billing.subscription_limits AS b
        JOIN billing.subscriptions AS s ON s.id = b.subscription_id
        LEFT JOIN LATERAL billing.in_force(s.account, s.stripe_subscription_id, 'infinity') AS is_now ON true
        CROSS JOIN LATERAL billing.included_by(s.account, is_now.price_ids, is_now.quantities, b.limit_key) AS has
        WHERE b.subscription_id = ANY($1) AND (b.subscription_id = ANY($2)
            OR has.is_known AND (b.included, b.unlimited) IS DISTINCT FROM (has.included, has.unlimited))",
        projected,
        changed
    )
    .execute(&mut *conn)
    .await?;
    let begun = sqlx::query_scalar!(
        r#"-- limits.create
        SELECT billing.try_create_limits($1) AS "begun!""#,
        projected
    );
    begun.fetch_one(conn).await
}
