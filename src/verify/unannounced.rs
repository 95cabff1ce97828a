//! Differences that are not drift: Stripe changes some fields of a coupon without sending an event.
//!
//! `times_redeemed` grows with every discount that is given. `valid` turns false when `redeem_by` passes or
//! `max_redemptions` is reached; `billing.live_coupons` computes that. These changes are written with `--fix`, but not
//! reported.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::database::Connection;
use crate::store::Change;

/// The columns of `billing.coupons` that change without an event.
const COLUMNS: [&str; 2] = ["times_redeemed", "valid"];

/// Removes the changes for which Stripe sends no event. Called inside the transaction that made them.
///
/// # Errors
/// Database errors.
pub(crate) async fn leave_out(conn: &mut Connection, changes: Vec<Change>) -> Result<Vec<Change>, sqlx::Error> {
    let silent: Vec<Uuid> = changes.iter().filter(|change| may_be_silent(change)).map(|change| change.row_id).collect();
    if silent.is_empty() {
        return Ok(changes);
    }
    // a coupon that is invalid for another reason was deleted, and for that Stripe sends an event
    let by_terms: Vec<Uuid> = sqlx::query_scalar(
        "-- verify.coupons_used_up
        SELECT id FROM billing.coupons
        WHERE id = ANY($1) AND (redeem_by < clock_timestamp() OR times_redeemed >= max_redemptions)",
    )
    .bind(&silent)
    .fetch_all(conn)
    .await?;
    let is_announced =
        |change: &Change| !may_be_silent(change) || (has(change, "valid") && !by_terms.contains(&change.row_id));
    Ok(changes.into_iter().filter(is_announced).collect())
}

fn may_be_silent(change: &Change) -> bool {
    change.table == "coupons" && !change.is_new && columns(change).keys().all(|column| COLUMNS.contains(&&**column))
}

fn has(change: &Change, column: &str) -> bool {
    columns(change).contains_key(column)
}

#[expect(clippy::zero_sized_map_values, reason = "the keys are read, and the values only skipped")]
fn columns(change: &Change) -> BTreeMap<String, IgnoredAny> {
    serde_json::from_str(&change.changes).unwrap_or_default()
}
