//! Reads the facts back: the charges of a subscription for the projection, and what is missing in the facts.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::domain::payment::Payment;
use crate::mirror::store::{columns, index};

/// The charges of some subscriptions: `(index of the question, charge)`.
///
/// # Errors
/// Database errors.
pub async fn payments(
    conn: &mut Connection,
    subscriptions: &[&ObjectKey],
) -> Result<Vec<(usize, Payment)>, sqlx::Error> {
    if subscriptions.is_empty() {
        return Ok(Vec::new());
    }
    let (accounts, _, ids) = columns(subscriptions.iter().copied());
    let rows = sqlx::query!(
        r#"-- facts.payments
        WITH made AS (
            SELECT asked.place, asked.account, i.paid_at, p.payment_type, p.payment_id
            FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (account, subscription_id, place)
            CROSS JOIN LATERAL (
                SELECT i.account, i.invoice_id, i.paid_at FROM billing.invoice_facts AS i
                WHERE i.subscription_id = asked.subscription_id
                OFFSET 0
            ) AS i
            CROSS JOIN LATERAL (
                SELECT p.payment_type, p.payment_id FROM billing.payment_facts AS p
                WHERE p.account = asked.account AND p.invoice_id = i.invoice_id
                OFFSET 0
            ) AS p
            WHERE i.account = asked.account
        ), charged AS (
            SELECT made.place, made.paid_at, c.*
            FROM made
            CROSS JOIN LATERAL (
                SELECT * FROM billing.charge_facts AS c
                WHERE c.account = made.account AND c.charge_id = made.payment_id
                OFFSET 0
            ) AS c
            WHERE made.payment_type = 'charge'
            UNION
            SELECT made.place, made.paid_at, c.*
            FROM made
            CROSS JOIN LATERAL (
                SELECT * FROM billing.charge_facts AS c
                WHERE c.payment_intent_id = made.payment_id
                OFFSET 0
            ) AS c
            WHERE made.payment_type = 'payment_intent' AND c.account = made.account
        )
        SELECT c.place AS "place!", c.charge_id AS "charge_id!",
            min(COALESCE(c.charged_at, c.first_seen_at)) AS "created!", bool_or(c.sepa) AS "sepa!",
            bool_or(c.failed) AS "failed!", bool_or(c.succeeded) AS "succeeded!", max(c.paid_at) AS paid_at,
            array_agg(DISTINCT d.disputed_at) FILTER (WHERE NOT d.won) AS "disputed_at: Vec<OffsetDateTime>"
        FROM charged AS c
        LEFT JOIN LATERAL (
            SELECT d.account, d.disputed_at, d.won FROM billing.dispute_facts AS d
            WHERE d.charge_id = c.charge_id
            OFFSET 0
        ) AS d ON d.account = c.account
        GROUP BY c.place, c.charge_id
        ORDER BY 1, 2"#,
        &accounts,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let payment = rows.into_iter().map(|row| {
        let payment = Payment {
            charge_id: row.charge_id,
            created: row.created,
            sepa: row.sepa,
            failed: row.failed,
            succeeded: row.succeeded,
            invoice_paid_at: row.paid_at,
            disputed_at: row.disputed_at.unwrap_or_default(),
        };
        (index(row.place), payment)
    });
    Ok(payment.collect())
}

/// The objects to read because the facts of some customers, or of these disputed `charges`, are incomplete: the invoice
/// of a failed or disputed SEPA charge, the time of a charge known only from its payment intent, the charge of a
/// dispute.
///
/// A read that was made and contained nothing new is not requested again.
///
/// # Errors
/// Database errors.
pub async fn wanted(
    conn: &mut Connection,
    customers: &BTreeSet<ObjectKey>,
    charges: &BTreeSet<ObjectKey>,
) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    if customers.is_empty() && charges.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (accounts, _, ids) = columns(customers.iter());
    let (charge_accounts, _, charge_ids) = columns(charges.iter());
    let rows = sqlx::query!(
        r#"-- facts.wanted
        WITH debits AS (
            SELECT c.account, c.charge_id, c.payment_intent_id, c.charged_at, c.failed OR EXISTS (
                SELECT FROM billing.dispute_facts AS d WHERE d.account = c.account AND d.charge_id = c.charge_id
            ) AS counts
            FROM unnest($1::text[], $2::text[]) AS asked (account, customer_id)
            CROSS JOIN LATERAL (
                SELECT * FROM billing.charge_facts AS c
                WHERE c.customer_id = asked.customer_id AND c.sepa
                OFFSET 0
            ) AS c
            WHERE c.account = asked.account
        ), billed AS (
            SELECT d.account, d.payment_intent_id, p.invoice_id
            FROM debits AS d
            LEFT JOIN LATERAL (
                SELECT p.account, p.invoice_id FROM billing.payment_facts AS p
                WHERE p.payment_id = d.charge_id AND p.payment_type = 'charge'
                UNION ALL
                SELECT p.account, p.invoice_id FROM billing.payment_facts AS p
                WHERE p.payment_id = d.payment_intent_id AND p.payment_type = 'payment_intent'
                OFFSET 0
            ) AS p ON p.account = d.account
            WHERE d.counts
        ), wanted AS (
            SELECT account, 'payment_intent' AS object_type, payment_intent_id AS object_id
            FROM billed
            WHERE invoice_id IS NULL AND payment_intent_id IS NOT NULL
            UNION
            -- before 2025-03-31.basil a payment names its invoice, which may not have arrived itself
            SELECT b.account, 'invoice', b.invoice_id
            FROM billed AS b
            WHERE b.invoice_id IS NOT NULL AND NOT EXISTS (
                SELECT FROM billing.invoice_facts AS i WHERE i.account = b.account AND i.invoice_id = b.invoice_id)
            UNION
            SELECT account, 'charge', charge_id FROM debits WHERE charged_at IS NULL
            UNION
            SELECT asked.account, 'charge', asked.charge_id
            FROM unnest($3::text[], $4::text[]) AS asked (account, charge_id)
            LEFT JOIN LATERAL (
                SELECT c.charged_at FROM billing.charge_facts AS c
                WHERE c.account = asked.account AND c.charge_id = asked.charge_id
                OFFSET 0
            ) AS c ON true
            WHERE c.charged_at IS NULL
        )
        SELECT wanted.account AS "account!", wanted.object_type AS "object_type!", wanted.object_id AS "object_id!"
        FROM wanted
        LEFT JOIN LATERAL (
            SELECT o.not_found_at, o.expansion, o.expansion_version, o.expansion_stale_after
            FROM billing.stripe_objects AS o
            WHERE o.account = wanted.account AND o.object_type = wanted.object_type AND o.object_id = wanted.object_id
            OFFSET 0
        ) AS o ON true
        WHERE o.not_found_at IS NULL
            AND (o.expansion IS NULL OR o.expansion_version < o.expansion_stale_after)"#,
        &accounts,
        &ids,
        &charge_accounts,
        &charge_ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, &row.object_type, &row.object_id)).collect())
}

/// Those of `customers` that ever paid by SEPA, and the customers of the subscriptions whose latest invoice is one of
/// `invoices`: for others a historical payment changes no row.
///
/// # Errors
/// Database errors.
pub async fn with_relevant_payments(
    conn: &mut Connection,
    customers: &BTreeSet<ObjectKey>,
    invoices: &BTreeSet<ObjectKey>,
) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    if customers.is_empty() && invoices.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (accounts, _, ids) = columns(customers.iter());
    let (invoice_accounts, _, invoice_ids) = columns(invoices.iter());
    let rows = sqlx::query!(
        r#"-- facts.with_relevant_payments
        SELECT asked.account AS "account!", asked.customer_id AS "customer_id!"
        FROM unnest($1::text[], $2::text[]) AS asked (account, customer_id)
        WHERE EXISTS (
            SELECT FROM billing.charge_facts AS c
            WHERE c.account = asked.account AND c.customer_id = asked.customer_id AND c.sepa)
        UNION
        SELECT s.account, s.customer_id
        FROM unnest($3::text[], $4::text[]) AS asked (account, invoice_id)
        -- one index lookup for each, as in mirror.customers_around
        CROSS JOIN LATERAL (
            SELECT o.account, o.object_type, o.customer_id
            FROM billing.stripe_objects AS o
            WHERE o.refs @> ARRAY['invoice/' || asked.invoice_id]
            OFFSET 0
        ) AS s
        WHERE s.account = asked.account AND s.object_type = 'subscription' AND s.customer_id IS NOT NULL"#,
        &accounts,
        &ids,
        &invoice_accounts,
        &invoice_ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, "customer", &row.customer_id)).collect())
}
