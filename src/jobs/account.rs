//! The account and mode that the last backfill was made of, by which a key of another one is known. A backfill writes it.

use sqlx::PgConnection;

/// An account of Stripe's, in one of its two modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `acct_…`
    pub id: String,
    /// As Stripe's `livemode` says it.
    pub livemode: bool,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {} mode", self.id, if self.livemode { "live" } else { "test" })
    }
}

/// That of the newest backfill whose key told it; `None` where there was none.
///
/// # Errors
/// Those of the database.
pub async fn known(conn: &mut PgConnection) -> Result<Option<Account>, sqlx::Error> {
    sqlx::query_as!(
        Account,
        r#"-- jobs.known_account
        SELECT stripe_account AS "id!", livemode AS "livemode!" FROM billing.backfill_runs
        WHERE stripe_account IS NOT NULL ORDER BY id DESC LIMIT 1"#
    )
    .fetch_optional(conn)
    .await
}
