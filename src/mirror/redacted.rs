//! Customers whose personal data was removed: their objects are stored without it, whatever arrives later.

use std::collections::BTreeSet;

use sqlx::{Connection, PgConnection};

use super::locks;
use super::store::{self, Mirror, MirrorRow};
use crate::domain::object::ObjectKey;
use crate::stripe::redaction::without_personal_data;

/// Removes personal data from the rows of redacted customers.
///
/// # Errors
/// Database errors.
pub(super) async fn redact(conn: &mut PgConnection, mirror: &mut Mirror) -> Result<(), sqlx::Error> {
    let customers: BTreeSet<(&str, &str)> =
        mirror.values().filter_map(|row| Some((row.key.account.as_str(), row.customer_id.as_deref()?))).collect();
    let (accounts, ids): (Vec<&str>, Vec<&str>) = customers.into_iter().unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let redacted = sqlx::query!(
        "-- mirror.redacted_customers
        SELECT r.account, r.customer_id
        FROM unnest($1::text[], $2::text[]) AS asked (account, customer_id)
        JOIN billing.redacted_customers AS r USING (account, customer_id)",
        &accounts as &[&str],
        &ids as &[&str]
    )
    .fetch_all(conn)
    .await?;
    let redacted: BTreeSet<(String, String)> = redacted.into_iter().map(|row| (row.account, row.customer_id)).collect();
    if redacted.is_empty() {
        return Ok(());
    }
    for row in mirror.values_mut() {
        let customer = row.customer_id.clone().map(|id| (row.key.account.clone(), id));
        if customer.is_some_and(|customer| redacted.contains(&customer)) {
            remove(row);
        }
    }
    Ok(())
}

fn remove(row: &mut MirrorRow) {
    if let Some(content) = &mut row.content {
        content.json = without_personal_data(&content.json);
    }
    if let Some(expansion) = &mut row.expansion {
        expansion.json = without_personal_data(&expansion.json);
    }
}

/// Removes personal data from all stored objects of a customer that is marked as redacted, in one transaction. Returns
/// the objects, the customer included.
///
/// It holds the locks of all of them, so transactions that began before the mark have ended, and later ones see it.
///
/// # Errors
/// Database errors.
pub async fn rewrite(conn: &mut PgConnection, customer: &ObjectKey) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    loop {
        let mut transaction = conn.begin().await?;
        let mut keys = objects(&mut transaction, customer).await?;
        keys.insert(customer.clone());
        locks::acquire(&mut transaction, &keys, &BTreeSet::new()).await?;
        let mut now = objects(&mut transaction, customer).await?;
        now.insert(customer.clone());
        // while this waited, another transaction has added an object, which must be locked in order, too
        if now != keys {
            transaction.rollback().await?;
            continue;
        }
        let mut rows = store::load(&mut transaction, keys.iter()).await?;
        rows.iter_mut().for_each(remove);
        store::save(&mut transaction, &rows).await?;
        transaction.commit().await?;
        return Ok(keys);
    }
}

async fn objects(conn: &mut PgConnection, customer: &ObjectKey) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- mirror.objects_of_customer
        SELECT object_type, object_id FROM billing.stripe_objects WHERE account = $1 AND customer_id = $2",
        customer.account,
        customer.object_id
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&customer.account, &row.object_type, &row.object_id)).collect())
}
