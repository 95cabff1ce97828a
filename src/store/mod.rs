//! The SQL of the product tables: what the projection says, written set-based.
//!
//! Rows travel as one JSON array and take their types from the table itself, so a new column is a field of the
//! row and a name in one statement. A row that would not change is not written, so `updated_at` tells the truth.
//! Called by the worker inside its transaction, with the customers' locks held. Knows nothing of Stripe.

use serde::Serialize;
use sqlx::PgConnection;

use crate::domain::contact::BillingContact;
use crate::domain::plan::PricingPlan;
use crate::domain::subscription::Subscription;

/// A row, and what caused it to be written.
pub struct Caused<T> {
    /// The row.
    pub row: T,
    /// Event ids, or words.
    pub causes: Vec<String>,
}

/// A row that was written.
pub struct Change {
    /// The row.
    pub row_id: uuid::Uuid,
    /// It is new.
    pub is_new: bool,
}

/// shim
pub async fn save_coupons(_c: &mut PgConnection, _r: &[Caused<()>]) -> Result<Vec<Change>, sqlx::Error> { Ok(Vec::new()) }
/// shim
pub async fn save_checkout_sessions(_c: &mut PgConnection, _r: &[Caused<()>]) -> Result<Vec<Change>, sqlx::Error> { Ok(Vec::new()) }

/// Rows as the JSON text that `json_populate_recordset` takes.
fn json<T: Serialize>(rows: &[T]) -> Result<String, sqlx::Error> {
    serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// Writes billing contacts.
///
/// # Errors
/// Those of the database.
pub async fn save_contacts(conn: &mut PgConnection, rows: &[Caused<BillingContact>]) -> Result<Vec<Change>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<_> = rows.iter().map(|one| &one.row).collect();
    sqlx::query!(
        "-- store.save_contacts
        INSERT INTO billing.billing_contacts AS t
            (id, account, stripe_customer_id, livemode, name, email, address_line1, address_line2, city, postal_code,
             state, country, active_discount, active_discount_ends_at, workspace_id, stripe_created_at,
             stripe_deleted_at)
        SELECT id, account, stripe_customer_id, livemode, name, email, address_line1, address_line2, city, postal_code,
             state, country, active_discount, active_discount_ends_at, workspace_id, stripe_created_at,
             stripe_deleted_at
        FROM json_populate_recordset(NULL::billing.billing_contacts, $1::text::json)
        ON CONFLICT (id) DO UPDATE SET
            livemode = excluded.livemode, name = excluded.name, email = excluded.email,
            address_line1 = excluded.address_line1, address_line2 = excluded.address_line2, city = excluded.city,
            postal_code = excluded.postal_code, state = excluded.state, country = excluded.country,
            active_discount = excluded.active_discount, active_discount_ends_at = excluded.active_discount_ends_at,
            workspace_id = excluded.workspace_id, stripe_created_at = excluded.stripe_created_at,
            stripe_deleted_at = excluded.stripe_deleted_at, updated_at = clock_timestamp()
        WHERE (t.livemode, t.name, t.email, t.address_line1, t.address_line2, t.city, t.postal_code, t.state,
               t.country, t.active_discount, t.active_discount_ends_at, t.workspace_id, t.stripe_created_at,
               t.stripe_deleted_at)
            IS DISTINCT FROM
              (excluded.livemode, excluded.name, excluded.email, excluded.address_line1, excluded.address_line2,
               excluded.city, excluded.postal_code, excluded.state, excluded.country, excluded.active_discount,
               excluded.active_discount_ends_at, excluded.workspace_id, excluded.stripe_created_at,
               excluded.stripe_deleted_at)",
        json(&rows)?
    )
    .execute(conn)
    .await?;
    Ok(Vec::new())
}

/// Writes pricing plans.
///
/// # Errors
/// Those of the database.
pub async fn save_plans(conn: &mut PgConnection, rows: &[Caused<PricingPlan>], _limits: &[Caused<()>]) -> Result<Vec<Change>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<_> = rows.iter().map(|one| &one.row).collect();
    sqlx::query!(
        "-- store.save_plans
        INSERT INTO billing.pricing_plans AS t
            (id, account, stripe_price_id, stripe_product_id, livemode, active, billing_interval,
             billing_interval_count, currency, unit_amount_decimal, stripe_track_usage)
        SELECT id, account, stripe_price_id, stripe_product_id, livemode, active, billing_interval,
             billing_interval_count, currency, unit_amount_decimal, stripe_track_usage
        FROM json_populate_recordset(NULL::billing.pricing_plans, $1::text::json)
        ON CONFLICT (id) DO UPDATE SET
            stripe_product_id = excluded.stripe_product_id, livemode = excluded.livemode, active = excluded.active,
            billing_interval = excluded.billing_interval, billing_interval_count = excluded.billing_interval_count,
            currency = excluded.currency, unit_amount_decimal = excluded.unit_amount_decimal,
            stripe_track_usage = excluded.stripe_track_usage, updated_at = clock_timestamp()
        WHERE (t.stripe_product_id, t.livemode, t.active, t.billing_interval, t.billing_interval_count, t.currency,
               t.unit_amount_decimal, t.stripe_track_usage)
            IS DISTINCT FROM
              (excluded.stripe_product_id, excluded.livemode, excluded.active, excluded.billing_interval,
               excluded.billing_interval_count, excluded.currency, excluded.unit_amount_decimal,
               excluded.stripe_track_usage)",
        json(&rows)?
    )
    .execute(conn)
    .await?;
    Ok(Vec::new())
}

/// Writes subscriptions.
///
/// # Errors
/// Those of the database.
pub async fn save_subscriptions(conn: &mut PgConnection, rows: &[Caused<Subscription>]) -> Result<Vec<Change>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<_> = rows.iter().map(|one| &one.row).collect();
    sqlx::query!(
        "-- store.save_subscriptions
        INSERT INTO billing.subscriptions AS t
            (id, account, stripe_subscription_id, stripe_customer_id, livemode, billing_contact_id, workspace_id,
             stripe_status, active, payment_paused, is_trial, trial_started_at, trial_ends_at, is_grace_period,
             end_date, next_subscription_cycle_start, currency, stripe_subscription_item_id, stripe_price_id,
             pricing_plan_id, active_discounts, active_discount_ends, stripe_created_at, started_at)
        SELECT id, account, stripe_subscription_id, stripe_customer_id, livemode, billing_contact_id, workspace_id,
             stripe_status, active, payment_paused, is_trial, trial_started_at, trial_ends_at, is_grace_period,
             end_date, next_subscription_cycle_start, currency, stripe_subscription_item_id, stripe_price_id,
             pricing_plan_id, active_discounts, active_discount_ends, stripe_created_at, started_at
        FROM json_populate_recordset(NULL::billing.subscriptions, $1::text::json)
        ON CONFLICT (id) DO UPDATE SET
            stripe_customer_id = excluded.stripe_customer_id, livemode = excluded.livemode,
            billing_contact_id = excluded.billing_contact_id, workspace_id = excluded.workspace_id,
            stripe_status = excluded.stripe_status, active = excluded.active,
            payment_paused = excluded.payment_paused, is_trial = excluded.is_trial,
            trial_started_at = excluded.trial_started_at, trial_ends_at = excluded.trial_ends_at,
            is_grace_period = excluded.is_grace_period, end_date = excluded.end_date,
            next_subscription_cycle_start = excluded.next_subscription_cycle_start, currency = excluded.currency,
            stripe_subscription_item_id = excluded.stripe_subscription_item_id,
            stripe_price_id = excluded.stripe_price_id, pricing_plan_id = excluded.pricing_plan_id,
            active_discounts = excluded.active_discounts, active_discount_ends = excluded.active_discount_ends,
            stripe_created_at = excluded.stripe_created_at, started_at = excluded.started_at,
            updated_at = clock_timestamp()
        WHERE (t.stripe_customer_id, t.livemode, t.billing_contact_id, t.workspace_id, t.stripe_status, t.active,
               t.payment_paused, t.is_trial, t.trial_started_at, t.trial_ends_at, t.is_grace_period, t.end_date,
               t.next_subscription_cycle_start, t.currency, t.stripe_subscription_item_id, t.stripe_price_id,
               t.pricing_plan_id, t.active_discounts, t.active_discount_ends, t.stripe_created_at, t.started_at)
            IS DISTINCT FROM
              (excluded.stripe_customer_id, excluded.livemode, excluded.billing_contact_id, excluded.workspace_id,
               excluded.stripe_status, excluded.active, excluded.payment_paused, excluded.is_trial,
               excluded.trial_started_at, excluded.trial_ends_at, excluded.is_grace_period, excluded.end_date,
               excluded.next_subscription_cycle_start, excluded.currency, excluded.stripe_subscription_item_id,
               excluded.stripe_price_id, excluded.pricing_plan_id, excluded.active_discounts,
               excluded.active_discount_ends, excluded.stripe_created_at, excluded.started_at)",
        json(&rows)?
    )
    .execute(conn)
    .await?;
    Ok(Vec::new())
}
