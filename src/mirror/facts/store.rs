//! The SQL of the facts. Every statement only adds: a known value stays, and a time only becomes earlier. So the rows
//! are the same in whatever order, and however often, the facts arrive.
//!
//! Rows are written in key order, because two workers may add one charge at once: the charge's own event holds the lock
//! of the charge, an event of its payment intent holds another lock.

use serde::Serialize;

use super::fold::Fact;
use crate::database::Connection;

/// A fact as a row of its table.
#[derive(Serialize)]
struct Row<'a> {
    account: &'a str,
    #[serde(flatten)]
    fact: &'a Fact,
}

/// Adds facts, each with its account; the timeline is left to [`super::timeline`].
///
/// # Errors
/// Database errors.
pub async fn add(conn: &mut Connection, facts: &[(String, Fact)]) -> Result<(), sqlx::Error> {
    add_charges(conn, facts).await?;
    add_payments(conn, facts).await?;
    add_invoices(conn, facts).await?;
    add_disputes(conn, facts).await?;
    add_trials(conn, facts).await
}

/// The rows of one table as the text for `json_populate_recordset`; `None` if there are none.
pub(super) fn recordset(facts: &[(String, Fact)], of_table: fn(&Fact) -> bool) -> Result<Option<String>, sqlx::Error> {
    let of_table = facts.iter().filter(|(_, fact)| of_table(fact));
    let rows: Vec<Row<'_>> = of_table.map(|(account, fact)| Row { account, fact }).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&rows).map(Some).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

async fn add_charges(conn: &mut Connection, facts: &[(String, Fact)]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(facts, |fact| matches!(fact, Fact::Charge { .. }))? else { return Ok(()) };
    sqlx::query!(
        "-- facts.add_charges
        INSERT INTO billing.charge_facts AS t
            (account, charge_id, customer_id, payment_intent_id, charged_at, first_seen_at, sepa, failed, succeeded)
        SELECT account, charge_id, max(customer_id), max(payment_intent_id), min(charged_at), min(first_seen_at),
            bool_or(sepa), bool_or(failed), bool_or(succeeded)
        FROM json_populate_recordset(NULL::billing.charge_facts, $1::text::json)
        GROUP BY account, charge_id
        ORDER BY account, charge_id
        ON CONFLICT (account, charge_id) DO UPDATE SET
            customer_id = GREATEST(t.customer_id, excluded.customer_id),
            payment_intent_id = GREATEST(t.payment_intent_id, excluded.payment_intent_id),
            charged_at = LEAST(t.charged_at, excluded.charged_at), first_seen_at = LEAST(t.first_seen_at, excluded.first_seen_at),
            sepa = t.sepa OR excluded.sepa, failed = t.failed OR excluded.failed,
            succeeded = t.succeeded OR excluded.succeeded",
        rows
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_payments(conn: &mut Connection, facts: &[(String, Fact)]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(facts, |fact| matches!(fact, Fact::Payment { .. }))? else { return Ok(()) };
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

async fn add_invoices(conn: &mut Connection, facts: &[(String, Fact)]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(facts, |fact| matches!(fact, Fact::Invoice { .. }))? else { return Ok(()) };
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

async fn add_disputes(conn: &mut Connection, facts: &[(String, Fact)]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(facts, |fact| matches!(fact, Fact::Dispute { .. }))? else { return Ok(()) };
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

async fn add_trials(conn: &mut Connection, facts: &[(String, Fact)]) -> Result<(), sqlx::Error> {
    let Some(rows) = recordset(facts, |fact| matches!(fact, Fact::Trial { .. }))? else { return Ok(()) };
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
