//! SQL of the product tables: writes projected rows in bulk.
//!
//! Called inside the transaction that holds the locks of the rows' objects. A new column needs a field in the row and a
//! name in its table's list. Must not know Stripe's JSON.

mod statement;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use self::statement::{held, upsert};
use crate::database::Connection;
use crate::domain::checkout_session::CheckoutSession;
use crate::domain::contact::BillingContact;
use crate::domain::coupon::Coupon;
use crate::domain::plan::{PlanLimit, PricingPlan};
use crate::domain::subscription::Subscription;

/// A row to write, with its causes.
#[derive(Debug, Clone)]
pub struct CausedRow<T> {
    /// The row.
    pub row: T,
    /// Event ids, or `read`; empty if the change of another object caused it.
    pub causes: Vec<String>,
}

/// A row that was written, because it is new or has changed.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// The table, without its schema.
    pub table: &'static str,
    /// Id of the row.
    pub row_id: Uuid,
    /// Id of its Stripe object; for a limit, its key.
    pub name: String,
    /// Whether the row was inserted.
    pub is_new: bool,
    /// A JSON object: each changed column with its old and new value.
    pub changes: String,
}

impl Change {
    /// Whether this column has changed.
    pub fn has(&self, column: &str) -> bool {
        let columns = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&self.changes);
        columns.is_ok_and(|columns| columns.contains_key(column))
    }
}

impl fmt::Debug for Change {
    /// Prints no values: they may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("table", &self.table)
            .field("row_id", &self.row_id)
            .field("is_new", &self.is_new)
            .finish_non_exhaustive()
    }
}

/// A row type of a synced table, with its SQL statements.
pub trait Table: Serialize {
    /// Name of the table, without its schema.
    const NAME: &'static str;
    /// Statement that returns the rows that another session has locked, and locks the others.
    const HELD: &'static str;
    /// Statement that writes rows.
    const SAVE: &'static str;
    /// Id of the row.
    fn id(&self) -> Uuid;
    /// Id of its Stripe object; for a limit, its key.
    fn name(&self) -> &str;
}

macro_rules! table {
    ($row:ident in $table:literal, named by $name:ident: $($column:ident),+ $(,)?) => {
        impl Table for $row {
            const NAME: &'static str = $table;
            const HELD: &'static str = held!($table);
            const SAVE: &'static str = upsert!($table: $($column),+);
            fn id(&self) -> Uuid {
                self.id
            }
            fn name(&self) -> &str {
                &self.$name
            }
        }
    };
}

table!(BillingContact in "billing_contacts", named by stripe_customer_id:
    id, account, stripe_customer_id, livemode, name, email, address_line1, address_line2, city, postal_code, state,
    country, active_discount, active_discount_ends_at, default_payment_method, default_payment_method_card_brand,
    default_payment_card_number_last_four_digits, workspace_id, stripe_created_at, stripe_deleted_at);

table!(Subscription in "subscriptions", named by stripe_subscription_id:
    id, account, stripe_subscription_id, stripe_customer_id, livemode, billing_contact_id, workspace_id, stripe_status,
    active, inactive_reason, payment_paused, payment_resumes_at, pause_reason, paused_at, pauses_at, resumes_at,
    sepa_payment_failed, is_trial, trial_started_at, trial_ends_at, trial_end_behavior, is_grace_period, end_date, next_subscription_cycle_start, currency, stripe_subscription_item_id,
    stripe_price_id, pricing_plan_id, items, new_stripe_price_id, new_pricing_plan_id, new_pricing_plan_at, payment_type,
    payment_method_card_brand, payment_card_number_last_four_digits, active_discounts, active_discount_ends,
    stripe_created_at, started_at);

table!(PricingPlan in "pricing_plans", named by stripe_price_id:
    id, account, stripe_price_id, stripe_product_id, livemode, active, billing_interval, billing_interval_count,
    currency, unit_amount_decimal, stripe_track_usage, plan_rank, product_name, price_in_euro, price_per_currency);

table!(PlanLimit in "plan_limits", named by limit_key:
    id, pricing_plan_id, limit_key, included, per_unit, unlimited, invalid_value);

table!(Coupon in "coupons", named by stripe_coupon_id:
    id, account, stripe_coupon_id, livemode, name, discount_percentage, amount_off, currency, duration,
    duration_in_months, redeem_by, max_redemptions, times_redeemed, valid, stripe_created_at, stripe_deleted_at);

table!(CheckoutSession in "checkout_sessions", named by stripe_session_id:
    id, account, stripe_session_id, livemode, status, payment_status, stripe_customer_id, stripe_subscription_id,
    stripe_price_id, stripe_coupon_id, callback_url, language, workspace_id, stripe_created_at, expires_at);

/// Writes the rows that are new or differ, and returns their changes.
///
/// # Errors
/// Database errors.
pub async fn save<T: Table>(conn: &mut Connection, rows: &[CausedRow<T>]) -> Result<Vec<Change>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let texts: Result<Vec<String>, _> = rows.iter().map(|one| serde_json::to_string(&one.row)).collect();
    let texts = texts.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let as_new: Vec<String> = texts.iter().map(|text| as_new(text)).collect();
    let by_id = rows.iter().zip(&as_new).map(|(one, as_new)| (one.row.id(), (one.row.name(), as_new.as_str())));
    let by_id: BTreeMap<Uuid, (&str, &str)> = by_id.collect();
    let all = format!("[{}]", texts.join(","));
    sqlx::query(T::SAVE)
        .bind(all)
        .bind(rows.iter().map(|one| one.row.id()).collect::<Vec<Uuid>>())
        .bind(rows.iter().map(|one| one.causes.join(" ")).collect::<Vec<String>>())
        .bind(&as_new)
        .try_map(|row: PgRow| {
            let (row_id, changes): (Uuid, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
            let (name, as_new) = by_id.get(&row_id).ok_or(sqlx::Error::RowNotFound)?;
            let is_new = changes.is_none();
            let changes = changes.unwrap_or_else(|| (*as_new).to_owned());
            Ok(Change { table: T::NAME, row_id, name: (*name).to_owned(), is_new, changes })
        })
        .fetch_all(conn)
        .await
}

/// The changes of a new row with this JSON: each column that is not null, with null as the old value.
fn as_new(row: &str) -> String {
    let columns: BTreeMap<&str, &RawValue> = serde_json::from_str(row).unwrap_or_default();
    let values = columns.iter().map(|(column, value)| (column, value.get())).filter(|(_, value)| *value != "null");
    let changes: Vec<String> = values.map(|(column, value)| format!("\"{column}\":[null,{value}]")).collect();
    format!("{{{}}}", changes.join(","))
}

/// Returns the rows that another session has locked, and locks the others until the end of the transaction. The product
/// may lock rows that contain its own columns for any time: the sync does not wait, and writes such rows later.
///
/// # Errors
/// Database errors.
pub async fn held<T: Table>(conn: &mut Connection, rows: &[CausedRow<T>]) -> Result<BTreeSet<Uuid>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids: Vec<Uuid> = rows.iter().map(|one| one.row.id()).collect();
    let held: Vec<Uuid> = sqlx::query_scalar(T::HELD).bind(ids).fetch_all(conn).await?;
    Ok(held.into_iter().collect())
}

/// Removes the limits of `plans` that are not in `limits`, because their keys were removed from the metadata. Returns
/// the plans of the removed limits.
///
/// # Errors
/// Database errors.
pub async fn remove_other_limits(
    conn: &mut Connection,
    plans: &[Uuid],
    limits: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- store.remove_other_limits
        WITH removed AS (
            DELETE FROM billing.plan_limits AS t
            WHERE t.pricing_plan_id = ANY($1) AND t.id <> ALL($2)
            RETURNING t.id, t.pricing_plan_id, t.limit_key, t.included
        ), noted AS (
            INSERT INTO billing.row_changes (table_name, row_id, causes, changes)
            SELECT 'plan_limits', id, '{}', jsonb_build_object(
                'limit_key', jsonb_build_array(limit_key, NULL), 'included', jsonb_build_array(included, NULL))
            FROM removed
        )
        SELECT pricing_plan_id FROM removed",
        plans,
        limits
    )
    .fetch_all(conn)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_every_column_and_its_table() {
        let save = PlanLimit::SAVE;
        assert!(save.starts_with("-- store.save_plan_limits\n"), "{save}");
        assert!(save.contains(
            "INSERT INTO billing.plan_limits AS t \
             (id, pricing_plan_id, limit_key, included, per_unit, unlimited, invalid_value)"
        ));
        assert!(save.contains("limit_key = excluded.limit_key") && save.contains("t.unlimited"), "{save}");
        assert!(
            save.contains(
                "field.key IN ('id', 'pricing_plan_id', 'limit_key', 'included', 'per_unit', 'unlimited', 'invalid_value')"
            ),
            "{save}"
        );
    }

    #[test]
    fn all_set_columns_of_a_new_row_are_changes() {
        assert_eq!(as_new(r#"{"id":"x","name":null,"amount":1.50}"#), r#"{"amount":[null,1.50],"id":[null,"x"]}"#);
    }

    #[test]
    fn debug_output_of_a_change_has_no_values() {
        let (name, changes) = ("cus_1".to_owned(), r#"{"email":[null,"ada@example.com"]}"#.to_owned());
        let change = Change { table: "billing_contacts", row_id: Uuid::nil(), name, is_new: true, changes };
        let text = format!("{change:?}");
        assert!(text.contains("billing_contacts") && !text.contains("ada@example.com"), "{text}");
    }
}
