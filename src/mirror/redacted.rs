//! Customers whose personal data was removed: their objects are stored without it, whatever arrives later.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::incoming::{Arrival, Incoming, ReadResult};
use super::locks;
use super::store::{self, ContentSource, Mirror, MirrorRow};
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::stripe::json::Document;
use crate::stripe::redaction::without_personal_data;

/// Which customers of a merge are redacted, as far as that was asked.
#[derive(Default)]
pub(super) struct Redacted {
    /// Accounts and ids of customers.
    asked: BTreeSet<(String, String)>,
    found: BTreeSet<(String, String)>,
    /// Objects of events, with the account and the id of the customer that each has left.
    left: BTreeMap<ObjectKey, (String, String)>,
}

impl Redacted {
    /// For these events, which may contain the former customer of an object that is not stored yet.
    pub(super) fn of_events(arrivals: &[Arrival]) -> Self {
        let former = |one: &Arrival| {
            // the search saves parsing almost all events
            let previous = one.snapshot.previous.as_deref().filter(|json| json.contains("\"customer\""))?;
            let customer = Document::parse_or_null(previous).root().get("customer").str()?.into_owned();
            Some((one.key.clone(), (one.key.account.clone(), customer)))
        };
        Self { left: arrivals.iter().filter_map(former).collect(), ..Self::default() }
    }

    /// Asks for the customers of these rows, if they are new, and for those that objects have left.
    ///
    /// # Errors
    /// Database errors.
    pub(super) async fn ask(&mut self, conn: &mut Connection, rows: &Mirror) -> Result<(), sqlx::Error> {
        let all = rows.values().filter_map(customer).chain(self.left.values().cloned());
        let new: BTreeSet<_> = all.filter(|one| !self.asked.contains(one)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let (accounts, ids): (Vec<String>, Vec<String>) = new.iter().cloned().unzip();
        let found = sqlx::query!(
            "-- mirror.redacted_customers
            SELECT r.account, r.customer_id
            FROM unnest($1::text[], $2::text[]) AS asked (account, customer_id)
            JOIN billing.redacted_customers AS r USING (account, customer_id)",
            &accounts,
            &ids
        )
        .fetch_all(conn)
        .await?;
        self.found.extend(found.into_iter().map(|row| (row.account, row.customer_id)));
        self.asked.extend(new);
        Ok(())
    }

    fn has(&self, row: &MirrorRow) -> bool {
        !self.found.is_empty() && customer(row).is_some_and(|customer| self.found.contains(&customer))
    }

    /// Removes personal data from what is compared with known rows: otherwise each read would seem to be a change.
    pub(super) fn remove_from_incoming(&self, known: &Mirror, incoming: &mut Incoming) {
        let is_redacted = |key: &ObjectKey| known.get(key).is_some_and(|row| self.has(row));
        for one in incoming.nested.iter_mut().filter(|one| is_redacted(&one.key)) {
            one.json = without_personal_data(&one.json);
        }
        for one in incoming.reads.iter_mut().filter(|one| is_redacted(&one.key)) {
            if let ReadResult::Object(json) | ReadResult::Written(json, _) = &mut one.found {
                *json = without_personal_data(json);
            }
            if let Some(expansion) = &mut one.expansion {
                *expansion = without_personal_data(expansion);
            }
        }
    }

    /// Takes out the events of the second in which a redacted object was last changed by another event. Their order is
    /// unknown without the content of that event. Returns the objects with the second: they must be read.
    pub(super) fn take_ambiguous(
        &self,
        known: &Mirror,
        arrivals: &mut Vec<Arrival>,
    ) -> BTreeMap<ObjectKey, OffsetDateTime> {
        let is_ambiguous = |one: &mut Arrival| {
            let row = known.get(&one.key).filter(|row| self.has(row));
            row.and_then(|row| row.content.as_ref()).is_some_and(|content| {
                content.origin == ContentSource::Event
                    && content.version == one.snapshot.created
                    && content.event_id != one.snapshot.event_id
            })
        };
        arrivals.extract_if(.., is_ambiguous).map(|one| (one.key, one.snapshot.created)).collect()
    }

    /// Removes personal data from rows, those of new objects included. An object that leaves a redacted customer, such as
    /// a detached card, still counts as the customer's.
    pub(super) fn remove_from_rows(&self, known: &Mirror, rows: &mut Mirror) {
        for row in rows.values_mut() {
            if let Some(before) = known.get(&row.key).filter(|before| self.has(before)) {
                row.customer_id = row.customer_id.take().or_else(|| before.customer_id.clone());
            }
            if row.customer_id.is_none()
                && let Some(former) = self.left.get(&row.key).filter(|former| self.found.contains(former))
            {
                row.customer_id = Some(former.1.clone());
            }
            if self.has(row) {
                remove(row);
            }
        }
    }
}

/// The account and the id of the customer of a row.
fn customer(row: &MirrorRow) -> Option<(String, String)> {
    Some((row.key.account.clone(), row.customer_id.clone()?))
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
pub async fn rewrite(conn: &mut Connection, customer: &ObjectKey) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    // reads the whole outbox, so not while locks are held. A card that is detached after the mark is still linked
    let mut also = detached(conn, customer).await?;
    also.insert(customer.clone());
    loop {
        let mut transaction = conn.begin().await?;
        let keys = &objects(&mut transaction, customer).await? | &also;
        locks::acquire(&mut transaction, &keys, &BTreeSet::new()).await?;
        // while this waited, another transaction has added an object, which must be locked in order, too
        if &objects(&mut transaction, customer).await? | &also != keys {
            transaction.rollback().await?;
            continue;
        }
        let mut rows = store::load(&mut transaction, keys.iter()).await?;
        for row in &mut rows {
            // later contents of objects that do not name the customer are recognised by it
            row.customer_id.get_or_insert_with(|| customer.object_id.clone());
            remove(row);
        }
        store::save(&mut transaction, &rows).await?;
        transaction.commit().await?;
        return Ok(keys);
    }
}

/// The objects that name the customer, and those that name one of these: disputes and mandates name a payment only.
async fn objects(conn: &mut Connection, customer: &ObjectKey) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- mirror.objects_of_customer
        WITH own AS (
            SELECT object_type, object_id FROM billing.stripe_objects WHERE account = $1 AND customer_id = $2
        )
        SELECT object_type AS "object_type!", object_id AS "object_id!" FROM own
        UNION
        SELECT o.object_type, o.object_id
        FROM own
        JOIN billing.stripe_objects AS o
            ON o.refs @> ARRAY[own.object_type || '/' || own.object_id] AND o.account = $1 AND o.customer_id IS NULL"#,
        customer.account,
        customer.object_id
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&customer.account, &row.object_type, &row.object_id)).collect())
}

/// The objects without a customer that had this one, such as detached cards: earlier events of them name the customer. If
/// only the detachment is stored, its payload does, as the former value.
async fn detached(conn: &mut Connection, customer: &ObjectKey) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- mirror.detached_from_customer
        SELECT DISTINCT o.object_type, o.object_id
        FROM billing.outbox AS e
        JOIN billing.stripe_objects AS o
            ON o.account = e.account AND o.object_type = e.object_type AND o.object_id = e.object_id
        WHERE e.account = $1 AND o.customer_id IS NULL
            AND (e.customer_id = $2 OR e.type = 'payment_method.detached' AND EXISTS (
                SELECT FROM billing.events AS a
                WHERE a.event_id = e.event_id AND a.created = e.created
                    AND position(convert_to('"' || $2 || '"', 'UTF8') IN a.payload) > 0))"#,
        customer.account,
        customer.object_id
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&customer.account, &row.object_type, &row.object_id)).collect())
}
