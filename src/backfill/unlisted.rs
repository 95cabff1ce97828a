//! Unlisted objects: stored here, but on no page. Stripe's lists omit deleted objects and objects on test clocks.
//!
//! A page raises the version of its objects to the start of the run or later, so an older version means unlisted. Also
//! the keys of stored objects that `verify` compares.

use time::OffsetDateTime;

use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// Types whose unlisted objects are fetched one by one.
pub(crate) const TYPES: [&str; 5] = ["customer", "subscription", "product", "price", "coupon"];

/// Returns the next unlisted objects after a key, in key order. Objects known to be deleted, or not found since, are
/// excluded.
///
/// # Errors
/// Database errors.
pub(crate) async fn next(
    conn: &mut Connection,
    accounts: &[String],
    types: &[String],
    began: OffsetDateTime,
    after: Option<&ObjectKey>,
    limit: i64,
) -> Result<Vec<ObjectKey>, sqlx::Error> {
    let (account, object_type, object_id) =
        after.map_or(("", "", ""), |key| (key.account.as_str(), key.object_type.as_str(), key.object_id.as_str()));
    let rows = sqlx::query!(
        "-- backfill.unlisted
        SELECT o.account, o.object_type, o.object_id
        FROM billing.stripe_objects AS o
        WHERE o.account = ANY($1) AND o.object_type = ANY($2) AND (o.account, o.object_type, o.object_id) > ($3, $4, $5)
            AND o.version < $6
            AND (o.deleted_at IS NULL OR o.recreated_at > o.deleted_at)
            AND (o.not_found_at IS NULL OR o.not_found_at <= o.version)
        ORDER BY o.account, o.object_type, o.object_id
        LIMIT $7",
        accounts,
        types,
        account,
        object_type,
        object_id,
        began,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, &row.object_type, &row.object_id)).collect())
}

/// Returns whether the mirror contains an object.
///
/// # Errors
/// Database errors.
pub(crate) async fn is_known(conn: &mut Connection, key: &ObjectKey) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- backfill.is_known
        SELECT EXISTS (
            SELECT FROM billing.stripe_objects WHERE account = $1 AND object_type = $2 AND object_id = $3) AS "known!""#,
        key.account,
        key.object_type,
        key.object_id
    )
    .fetch_one(conn)
    .await
}

/// Returns the next stored customers after a key, without those known to be deleted.
///
/// # Errors
/// Database errors.
pub(crate) async fn customers(
    conn: &mut Connection,
    accounts: &[String],
    after: Option<&ObjectKey>,
    limit: i64,
) -> Result<Vec<ObjectKey>, sqlx::Error> {
    let (account, id) = after.map_or(("", ""), |key| (key.account.as_str(), key.object_id.as_str()));
    let rows = sqlx::query!(
        "-- backfill.customers
        SELECT account, stripe_customer_id
        FROM billing.billing_contacts
        WHERE account = ANY($1) AND (account, stripe_customer_id) > ($2, $3) AND stripe_deleted_at IS NULL
        ORDER BY account, stripe_customer_id
        LIMIT $4",
        accounts,
        account,
        id,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, "customer", &row.stripe_customer_id)).collect())
}

/// Returns a random sample of the stored customers.
///
/// # Errors
/// Database errors.
pub(crate) async fn sample(
    conn: &mut Connection,
    accounts: &[String],
    limit: i64,
) -> Result<Vec<ObjectKey>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- backfill.sample
        SELECT account, stripe_customer_id
        FROM billing.billing_contacts AS c
        WHERE account = ANY($1) AND stripe_deleted_at IS NULL
            -- a redacted contact differs from Stripe on purpose
            AND NOT EXISTS (SELECT FROM billing.redacted_customers AS r
                WHERE r.account = c.account AND r.customer_id = c.stripe_customer_id)
        ORDER BY random()
        LIMIT $2",
        accounts,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, "customer", &row.stripe_customer_id)).collect())
}

/// Returns the next stored plans, coupons and checkout sessions after a key, without those known to be deleted.
///
/// # Errors
/// Database errors.
pub(crate) async fn others(
    conn: &mut Connection,
    accounts: &[String],
    after: Option<&ObjectKey>,
    limit: i64,
) -> Result<Vec<ObjectKey>, sqlx::Error> {
    let (account, object_type, id) =
        after.map_or(("", "", ""), |key| (key.account.as_str(), key.object_type.as_str(), key.object_id.as_str()));
    let rows = sqlx::query!(
        r#"-- backfill.others
        SELECT account AS "account!", object_type AS "object_type!", object_id AS "object_id!"
        FROM (
            (SELECT account, 'price' AS object_type, stripe_price_id AS object_id FROM billing.pricing_plans)
            UNION ALL
            (SELECT account, 'coupon', stripe_coupon_id FROM billing.coupons WHERE stripe_deleted_at IS NULL)
            UNION ALL
            (SELECT account, 'checkout.session', stripe_session_id FROM billing.checkout_sessions)
        ) AS one
        WHERE account = ANY($1)
            AND (account COLLATE "C", object_type COLLATE "C", object_id COLLATE "C") > ($2, $3, $4)
        ORDER BY account COLLATE "C", object_type COLLATE "C", object_id COLLATE "C"
        LIMIT $5"#,
        accounts,
        account,
        object_type,
        id,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, &row.object_type, &row.object_id)).collect())
}

/// Returns a random sample of the stored plans, coupons and checkout sessions, with an equal share of each kind if
/// there are enough.
///
/// # Errors
/// Database errors.
pub(crate) async fn sample_of_others(
    conn: &mut Connection,
    accounts: &[String],
    limit: i64,
) -> Result<Vec<ObjectKey>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- backfill.sample_of_others
        SELECT account AS "account!", object_type AS "object_type!", object_id AS "object_id!"
        FROM (
            SELECT account, object_type, object_id, row_number() OVER (PARTITION BY object_type ORDER BY random()) AS place
            FROM (
                (SELECT account, 'price' AS object_type, stripe_price_id AS object_id
                FROM billing.pricing_plans WHERE account = ANY($1) ORDER BY random() LIMIT $2)
                UNION ALL
                (SELECT account, 'coupon', stripe_coupon_id
                FROM billing.coupons WHERE account = ANY($1) AND stripe_deleted_at IS NULL ORDER BY random() LIMIT $2)
                UNION ALL
                (SELECT account, 'checkout.session', stripe_session_id
                FROM billing.checkout_sessions WHERE account = ANY($1) ORDER BY random() LIMIT $2)
            ) AS candidate
        ) AS drawn
        ORDER BY place
        LIMIT $2"#,
        accounts,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, &row.object_type, &row.object_id)).collect())
}
