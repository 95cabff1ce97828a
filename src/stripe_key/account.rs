//! The account and mode of the last backfill, which shows whether a key belongs to another one. A backfill writes it.

use time::OffsetDateTime;

use crate::database::Connection;

/// A Stripe account, in live or test mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `acct_…`
    pub id: String,
    /// Stripe's `livemode`.
    pub livemode: bool,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {} mode", self.id, if self.livemode { "live" } else { "test" })
    }
}

/// Up to three customers of the own account that an event or a read has shown before `until`.
///
/// # Errors
/// Database errors.
pub async fn customers(conn: &mut Connection, until: OffsetDateTime) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- stripe_key.customers
        SELECT object_id FROM billing.stripe_objects
        WHERE account = '' AND object_type = 'customer' AND version < $1 AND deleted_at IS NULL
            AND not_found_at IS NULL AND origin IN ('event', 'read')
        LIMIT 3",
        until
    )
    .fetch_all(conn)
    .await
}

/// The account of the latest backfill that could read it; `None` if there was none.
///
/// # Errors
/// Database errors.
pub async fn known(conn: &mut Connection) -> Result<Option<Account>, sqlx::Error> {
    sqlx::query_as!(
        Account,
        r#"-- stripe_key.known_account
        SELECT stripe_account AS "id!", livemode AS "livemode!" FROM billing.backfill_runs
        WHERE stripe_account IS NOT NULL ORDER BY id DESC LIMIT 1"#
    )
    .fetch_optional(conn)
    .await
}
