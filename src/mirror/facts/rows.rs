//! The SQL of the facts. Every statement adds: a value once known stays, a time moves only to the earlier, so that the
//! rows are the same in whatever order the facts come, and however often.
//!
//! Rows are written in the order of their keys, for two workers may learn of one charge at once: its own event holds
//! the lock of the charge, and an event of its payment intent another one.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fold::Fact;
use crate::domain::object::ObjectKey;
use crate::domain::payment::Payment;
use crate::mirror::rows::columns;

/// Facts as rows, one list a table.
#[derive(Default)]
struct Rows {
    charges: Vec<Value>,
    payments: Vec<Value>,
    invoices: Vec<Value>,
    disputes: Vec<Value>,
    trials: Vec<Value>,
    timeline: Vec<Value>,
}

/// Adds facts, each with its account.
///
/// # Errors
/// Those of the database.
pub async fn add(conn: &mut PgConnection, facts: &[(String, Fact)]) -> Result<(), sqlx::Error> {
    let mut rows = Rows::default();
    for (account, fact) in facts {
        rows.push(account, fact);
    }
    add_charges(conn, &rows.charges).await?;
    add_payments(conn, &rows.payments).await?;
    add_invoices(conn, &rows.invoices).await?;
    add_disputes(conn, &rows.disputes).await?;
    add_trials(conn, &rows.trials).await?;
    add_timeline(conn, &rows.timeline).await
}

impl Rows {
    fn push(&mut self, account: &str, fact: &Fact) {
        let (table, mut row) = match fact {
            Fact::Charge {
                charge_id,
                customer_id,
                payment_intent_id,
                charged_at,
                told_at,
                sepa,
                failed,
                succeeded,
            } => (
                &mut self.charges,
                json!({ "charge_id": charge_id, "customer_id": customer_id, "payment_intent_id": payment_intent_id,
                    "charged_at": charged_at.map(text), "told_at": text(*told_at), "sepa": sepa, "failed": failed,
                    "succeeded": succeeded }),
            ),
            Fact::Payment { invoice_id, payment_type, payment_id } => (
                &mut self.payments,
                json!({ "invoice_id": invoice_id, "payment_type": payment_type.as_str(), "payment_id": payment_id }),
            ),
            Fact::Invoice { invoice_id, subscription_id, paid_at } => (
                &mut self.invoices,
                json!({ "invoice_id": invoice_id, "subscription_id": subscription_id,
                    "paid_at": paid_at.map(text) }),
            ),
            Fact::Dispute { dispute_id, charge_id, disputed_at, won } => (
                &mut self.disputes,
                json!({ "dispute_id": dispute_id, "charge_id": charge_id, "disputed_at": text(*disputed_at),
                    "won": won }),
            ),
            Fact::Trial { subscription_id, started_at } => {
                (&mut self.trials, json!({ "subscription_id": subscription_id, "started_at": text(*started_at) }))
            }
            Fact::Timeline {
                subscription_id,
                effective_from,
                source,
                status,
                payment_paused,
                ended_at,
                stripe_price_id,
                start_date,
                billing_cycle_anchor,
                anchor_day,
            } => (
                &mut self.timeline,
                json!({ "subscription_id": subscription_id, "effective_from": text(*effective_from), "source": source,
                    "status": status, "payment_paused": payment_paused, "ended_at": ended_at.map(text),
                    "stripe_price_id": stripe_price_id, "start_date": start_date.map(text),
                    "billing_cycle_anchor": billing_cycle_anchor.map(text), "anchor_day": anchor_day }),
            ),
        };
        if let Some(members) = row.as_object_mut() {
            members.insert("account".to_owned(), Value::from(account));
        }
        table.push(row);
    }
}

/// A time as PostgreSQL reads it.
fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// Rows as the text that `json_populate_recordset` takes; `None` where there are none.
fn recordset(rows: &[Value]) -> Option<String> {
    (!rows.is_empty()).then(|| Value::from(rows).to_string())
}

async fn add_charges(conn: &mut PgConnection, rows: &[Value]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(rows) else { return Ok(()) };
    sqlx::query!(
        "-- facts.add_charges
        INSERT INTO billing.charge_facts AS t
            (account, charge_id, customer_id, payment_intent_id, charged_at, told_at, sepa, failed, succeeded)
        SELECT account, charge_id, max(customer_id), max(payment_intent_id), min(charged_at), min(told_at),
            bool_or(sepa), bool_or(failed), bool_or(succeeded)
        FROM json_populate_recordset(NULL::billing.charge_facts, $1::text::json)
        GROUP BY account, charge_id
        ORDER BY account, charge_id
        ON CONFLICT (account, charge_id) DO UPDATE SET
            customer_id = GREATEST(t.customer_id, excluded.customer_id),
            payment_intent_id = GREATEST(t.payment_intent_id, excluded.payment_intent_id),
            charged_at = LEAST(t.charged_at, excluded.charged_at), told_at = LEAST(t.told_at, excluded.told_at),
            sepa = t.sepa OR excluded.sepa, failed = t.failed OR excluded.failed,
            succeeded = t.succeeded OR excluded.succeeded",
        rows
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_payments(conn: &mut PgConnection, rows: &[Value]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(rows) else { return Ok(()) };
    sqlx::query!(
        "-- facts.add_payments
        INSERT INTO billing.payment_facts (account, invoice_id, payment_type, payment_id)
        SELECT DISTINCT account, invoice_id, payment_type, payment_id
        FROM json_populate_recordset(NULL::billing.payment_facts, $1::text::json)
        ORDER BY account, invoice_id, payment_type, payment_id
        ON CONFLICT DO NOTHING",
        rows
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_invoices(conn: &mut PgConnection, rows: &[Value]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(rows) else { return Ok(()) };
    sqlx::query!(
        "-- facts.add_invoices
        INSERT INTO billing.invoice_facts AS t (account, invoice_id, subscription_id, paid_at)
        SELECT account, invoice_id, max(subscription_id), min(paid_at)
        FROM json_populate_recordset(NULL::billing.invoice_facts, $1::text::json)
        GROUP BY account, invoice_id
        ORDER BY account, invoice_id
        ON CONFLICT (account, invoice_id) DO UPDATE SET
            subscription_id = GREATEST(t.subscription_id, excluded.subscription_id),
            paid_at = LEAST(t.paid_at, excluded.paid_at)",
        rows
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_disputes(conn: &mut PgConnection, rows: &[Value]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(rows) else { return Ok(()) };
    sqlx::query!(
        "-- facts.add_disputes
        INSERT INTO billing.dispute_facts AS t (account, dispute_id, charge_id, disputed_at, won)
        SELECT account, dispute_id, max(charge_id), min(disputed_at), bool_or(won)
        FROM json_populate_recordset(NULL::billing.dispute_facts, $1::text::json)
        GROUP BY account, dispute_id
        ORDER BY account, dispute_id
        ON CONFLICT (account, dispute_id) DO UPDATE SET
            disputed_at = LEAST(t.disputed_at, excluded.disputed_at), won = t.won OR excluded.won",
        rows
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_trials(conn: &mut PgConnection, rows: &[Value]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(rows) else { return Ok(()) };
    sqlx::query!(
        "-- facts.add_trials
        INSERT INTO billing.trial_facts AS t (account, subscription_id, started_at)
        SELECT account, subscription_id, min(started_at)
        FROM json_populate_recordset(NULL::billing.trial_facts, $1::text::json)
        GROUP BY account, subscription_id
        ORDER BY account, subscription_id
        ON CONFLICT (account, subscription_id) DO UPDATE SET started_at = LEAST(t.started_at, excluded.started_at)",
        rows
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_timeline(conn: &mut PgConnection, rows: &[Value]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(rows) else { return Ok(()) };
    sqlx::query!(
        "-- facts.add_timeline
        INSERT INTO billing.subscription_timeline
            (account, subscription_id, effective_from, source, status, payment_paused, ended_at, stripe_price_id,
             start_date, billing_cycle_anchor, anchor_day)
        SELECT account, subscription_id, effective_from, source, status, payment_paused, ended_at, stripe_price_id,
             start_date, billing_cycle_anchor, anchor_day
        FROM json_populate_recordset(NULL::billing.subscription_timeline, $1::text::json)
        ORDER BY account, subscription_id, effective_from, source
        ON CONFLICT DO NOTHING",
        rows
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The charges of some subscriptions: `(place of the question, charge)`.
///
/// # Errors
/// Those of the database.
pub async fn payments(
    conn: &mut PgConnection,
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
            JOIN billing.invoice_facts AS i USING (account, subscription_id)
            JOIN billing.payment_facts AS p USING (account, invoice_id)
        ), charged AS (
            SELECT made.place, made.paid_at, c.*
            FROM made JOIN billing.charge_facts AS c ON c.account = made.account AND c.charge_id = made.payment_id
            WHERE made.payment_type = 'charge'
            UNION
            SELECT made.place, made.paid_at, c.*
            FROM made
            JOIN billing.charge_facts AS c ON c.account = made.account AND c.payment_intent_id = made.payment_id
            WHERE made.payment_type = 'payment_intent'
        )
        SELECT c.place AS "place!", c.charge_id AS "charge_id!",
            min(COALESCE(c.charged_at, c.told_at)) AS "created!", bool_or(c.sepa) AS "sepa!",
            bool_or(c.failed) AS "failed!", bool_or(c.succeeded) AS "succeeded!", max(c.paid_at) AS paid_at,
            array_agg(DISTINCT d.disputed_at) FILTER (WHERE NOT d.won) AS "disputed_at: Vec<OffsetDateTime>"
        FROM charged AS c
        LEFT JOIN billing.dispute_facts AS d ON d.account = c.account AND d.charge_id = c.charge_id
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
        (usize::try_from(row.place - 1).unwrap_or_default(), payment)
    });
    Ok(payment.collect())
}

/// What only a read can tell about the facts of some customers, and about these disputed `charges`: the invoice of a
/// failed or disputed SEPA charge, the time of a charge that only its payment intent told of, the charge of a dispute.
///
/// A read that was made and told nothing is not asked for again.
///
/// # Errors
/// Those of the database.
pub async fn wanted(
    conn: &mut PgConnection,
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
        WITH wanted AS (
            SELECT c.account, 'payment_intent' AS object_type, c.payment_intent_id AS object_id
            FROM unnest($1::text[], $2::text[]) AS asked (account, customer_id)
            JOIN billing.charge_facts AS c USING (account, customer_id)
            WHERE c.sepa AND c.payment_intent_id IS NOT NULL
                AND (c.failed OR EXISTS (
                    SELECT FROM billing.dispute_facts AS d WHERE d.account = c.account AND d.charge_id = c.charge_id))
                AND NOT EXISTS (
                    SELECT FROM billing.payment_facts AS p WHERE p.account = c.account
                        AND ((p.payment_type = 'charge' AND p.payment_id = c.charge_id)
                            OR (p.payment_type = 'payment_intent' AND p.payment_id = c.payment_intent_id)))
            UNION
            -- before 2025-03-31.basil a payment names its invoice, which may not have been told itself
            SELECT p.account, 'invoice', p.invoice_id
            FROM unnest($1::text[], $2::text[]) AS asked (account, customer_id)
            JOIN billing.charge_facts AS c USING (account, customer_id)
            JOIN billing.payment_facts AS p ON p.account = c.account
                AND ((p.payment_type = 'charge' AND p.payment_id = c.charge_id)
                    OR (p.payment_type = 'payment_intent' AND p.payment_id = c.payment_intent_id))
            WHERE c.sepa AND (c.failed OR EXISTS (
                    SELECT FROM billing.dispute_facts AS d WHERE d.account = c.account AND d.charge_id = c.charge_id))
                AND NOT EXISTS (
                    SELECT FROM billing.invoice_facts AS i WHERE i.account = p.account AND i.invoice_id = p.invoice_id)
            UNION
            SELECT c.account, 'charge', c.charge_id
            FROM unnest($1::text[], $2::text[]) AS asked (account, customer_id)
            JOIN billing.charge_facts AS c USING (account, customer_id)
            WHERE c.sepa AND c.charged_at IS NULL
            UNION
            SELECT asked.account, 'charge', asked.charge_id
            FROM unnest($3::text[], $4::text[]) AS asked (account, charge_id)
            LEFT JOIN billing.charge_facts AS c USING (account, charge_id)
            WHERE c.charged_at IS NULL
        )
        SELECT wanted.account AS "account!", wanted.object_type AS "object_type!", wanted.object_id AS "object_id!"
        FROM wanted
        LEFT JOIN billing.stripe_objects AS o USING (account, object_type, object_id)
        WHERE o.missing_at IS NULL AND o.expansion IS NULL"#,
        &accounts,
        &ids,
        &charge_accounts,
        &charge_ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, &row.object_type, &row.object_id)).collect())
}
