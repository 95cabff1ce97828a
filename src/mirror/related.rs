//! Finds related objects: the customers that an object affects, and the objects that belong to it or reference it.
//!
//! Reads the mirror only. Called by the worker before it locks, and again after it has merged.

use std::collections::BTreeSet;

use super::store::{columns, index};
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::stripe::nested::TRIAL_OFFER;

/// Types that many customers share: a job finds their dependants page by page.
const SHARED: [&str; 6] = ["coupon", "plan", "price", "product", "promotion_code", TRIAL_OFFER];

/// Whether many customers share the object. The merchant may choose its id, and reuse it after a deletion.
pub fn is_shared(key: &ObjectKey) -> bool {
    SHARED.contains(&key.object_type.as_str())
}

/// An object found for one of several questions.
struct Found {
    place: i64,
    account: String,
    object_type: String,
    object_id: String,
}

impl From<Found> for (usize, ObjectKey) {
    fn from(Found { place, account, object_type, object_id }: Found) -> Self {
        (index(place), ObjectKey { object_id, object_type, account })
    }
}

/// The customers related to `objects` and `named`, each with the object that leads to it: the owners of both, and the
/// owners of objects that reference one of `objects`. Shared objects are left out, because they belong to no customer.
///
/// # Errors
/// Database errors.
pub async fn customers_around(
    conn: &mut Connection,
    objects: &BTreeSet<ObjectKey>,
    named: &BTreeSet<ObjectKey>,
) -> Result<Vec<(ObjectKey, ObjectKey)>, sqlx::Error> {
    let owned = |key: &&ObjectKey| !is_shared(key);
    let (accounts, types, ids) = columns(objects.union(named).filter(owned));
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // all objects of a customer reference it, and all its invoices a subscription: both have an owner
    let by_others = |key: &&ObjectKey| owned(key) && !["customer", "subscription"].contains(&key.object_type.as_str());
    let (held_accounts, held_types, held_ids) = columns(objects.iter().filter(by_others));
    let rows = sqlx::query!(
        r#"-- mirror.customers_around
        SELECT o.account AS "account!", o.object_type AS "object_type!", o.object_id AS "object_id!",
            o.customer_id AS "customer_id!"
        FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (account, object_type, object_id)
        CROSS JOIN LATERAL (
            SELECT * FROM billing.stripe_objects AS o
            WHERE o.account = asked.account AND o.object_type = asked.object_type AND o.object_id = asked.object_id
            OFFSET 0
        ) AS o
        WHERE o.customer_id IS NOT NULL
        UNION
        SELECT held.account, held.object_type, held.object_id, holder.customer_id
        FROM unnest($4::text[], $5::text[], $6::text[]) AS held (account, object_type, object_id)
        -- by the reference only: with the account beside it, each lookup would read all objects of that account
        CROSS JOIN LATERAL (
            SELECT o.account, o.customer_id
            FROM billing.stripe_objects AS o
            WHERE o.refs @> ARRAY[held.object_type || '/' || held.object_id]
            OFFSET 0
        ) AS holder
        WHERE holder.account = held.account AND holder.customer_id IS NOT NULL"#,
        &accounts,
        &types,
        &ids,
        &held_accounts,
        &held_types,
        &held_ids
    )
    .fetch_all(conn)
    .await?;
    let pair = rows.into_iter().map(|row| {
        let customer = ObjectKey::new(&row.account, "customer", &row.customer_id);
        (ObjectKey::new(&row.account, &row.object_type, &row.object_id), customer)
    });
    Ok(pair.collect())
}

/// The objects of given types that belong to given customers: `(index of the question, object)`.
///
/// # Errors
/// Database errors.
pub async fn of_customers(
    conn: &mut Connection,
    asked: &[(&ObjectKey, &'static str)],
) -> Result<Vec<(usize, ObjectKey)>, sqlx::Error> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let (accounts, _, customers) = columns(asked.iter().map(|(key, _)| *key));
    let types: Vec<String> = asked.iter().map(|(_, object_type)| (*object_type).to_owned()).collect();
    let found = sqlx::query_as!(
        Found,
        r#"-- mirror.of_customers
        SELECT asked.place AS "place!", o.account, o.object_type, o.object_id
        FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
            AS asked (account, customer_id, object_type, place)
        CROSS JOIN LATERAL (
            SELECT o.account, o.object_type, o.object_id
            FROM billing.stripe_objects AS o
            WHERE o.customer_id = asked.customer_id
            OFFSET 0
        ) AS o
        WHERE o.account = asked.account AND o.object_type = asked.object_type"#,
        &accounts,
        &customers,
        &types
    )
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().map(Into::into).collect())
}

/// The objects of given types that reference given objects: `(index of the question, object)`.
///
/// # Errors
/// Database errors.
pub async fn referencing(
    conn: &mut Connection,
    asked: &[(&ObjectKey, &'static str)],
) -> Result<Vec<(usize, ObjectKey)>, sqlx::Error> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<String> = asked.iter().map(|(key, _)| key.account.clone()).collect();
    let refs: Vec<String> = asked.iter().map(|(key, _)| reference(key)).collect();
    let types: Vec<String> = asked.iter().map(|(_, object_type)| (*object_type).to_owned()).collect();
    let found = sqlx::query_as!(
        Found,
        r#"-- mirror.referencing
        SELECT asked.place AS "place!", o.account, o.object_type, o.object_id
        FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (account, ref, object_type, place)
        CROSS JOIN LATERAL (
            SELECT found.account, found.object_type, found.object_id
            FROM billing.stripe_objects AS found
            WHERE found.refs @> ARRAY[asked.ref]
            OFFSET 0
        ) AS o
        WHERE o.account = asked.account AND o.object_type = asked.object_type"#,
        &accounts,
        &refs,
        &types
    )
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().map(Into::into).collect())
}

/// The customers of the objects that reference a shared object, in order, after `cursor`, at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn customers_referencing(
    conn: &mut Connection,
    shared: &ObjectKey,
    cursor: &str,
    limit: i64,
) -> Result<Vec<ObjectKey>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"-- mirror.customers_referencing
        SELECT DISTINCT o.customer_id AS "customer_id!"
        FROM billing.stripe_objects AS o
        WHERE o.refs @> ARRAY[$2] AND o.account = $1 AND o.customer_id > $3
        ORDER BY 1
        LIMIT $4"#,
        shared.account,
        reference(shared),
        cursor,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.iter().map(|id| ObjectKey::new(&shared.account, "customer", id)).collect())
}

/// The prices and plans of a product.
///
/// # Errors
/// Database errors.
pub async fn prices_of(conn: &mut Connection, product: &ObjectKey) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- mirror.prices_of
        SELECT o.object_type, o.object_id
        FROM billing.stripe_objects AS o
        WHERE o.refs @> ARRAY[$2] AND o.account = $1 AND o.object_type IN ('price', 'plan')",
        product.account,
        reference(product)
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&product.account, &row.object_type, &row.object_id)).collect())
}

/// The reference to an object in `billing.stripe_objects.refs`.
fn reference(key: &ObjectKey) -> String {
    reference_of(&key.object_type, &key.object_id)
}

/// The reference made of a type and an id.
pub(super) fn reference_of(object_type: &str, object_id: &str) -> String {
    format!("{object_type}/{object_id}")
}
