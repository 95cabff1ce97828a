//! The ledger of changes at Stripe: the SQL of `billing.api_writes`.
//!
//! ```text
//!           lease                    answer merged, or its event applied
//!   begun ────────▶ sent ──────────────────────────────────────────────────▶ done
//!                    │ ▲ │                                                     ▲
//!    outcome unknown │ │ │ Stripe refuses: nothing was changed                 │ event with our key,
//!                    └─┘ ├────────────────────────────────────▶ refused        │ `writes resolve`
//!             retry_at   └────────────────────────────────────▶ unknown ───────┘
//!                          key too old, and no look at Stripe can tell
//! ```
//!
//! `crate::writes` sends the lines; the worker closes a line whose event arrives ([`prove::prove`]). Must not know HTTP.

pub mod admin;
pub mod links;
pub mod open;
pub mod prove;
pub mod read;

use uuid::Uuid;

use crate::database::Connection;

/// Prefix of the idempotency keys of our writes at Stripe.
const KEY_PREFIX: &str = "billing-sync-";
/// Prefix of the causes that are lines.
const CAUSE_PREFIX: &str = "write:";

/// A line to begin.
#[derive(Debug, Clone)]
pub struct NewLine<'a> {
    /// A new id.
    pub id: Uuid,
    /// Who asked for it.
    pub principal: &'a str,
    /// Connected account, or empty.
    pub account: &'a str,
    /// What the change belongs to, as `type/id`.
    pub target: &'a str,
    /// The workspace for which it is made.
    pub workspace: Option<Uuid>,
    /// Stripe's type of the object that is changed or created.
    pub object_type: &'a str,
    /// Its id, unless it is created.
    pub object_id: Option<&'a str>,
    /// The operation, one of `client::Write::OPERATIONS`.
    pub operation: &'a str,
    /// Path of the request.
    pub path: &'a str,
    /// Form of the request.
    pub form: &'a str,
    /// The line from which this one follows.
    pub previous: Option<Uuid>,
    /// The subscription that ends once the session is complete.
    pub replaces: Option<&'a str>,
    /// Whether another line will follow from this one.
    pub is_follow_up_due: bool,
}

/// The cause of what a line changed: one word, because the causes of a row are separated by blanks.
pub fn cause_of(line: Uuid) -> String {
    format!("{CAUSE_PREFIX}{line}")
}

/// The line that is this cause.
pub fn line_of_cause(cause: &str) -> Option<Uuid> {
    Uuid::try_parse(cause.strip_prefix(CAUSE_PREFIX)?).ok()
}

/// The idempotency key at Stripe.
pub fn stripe_key(id: Uuid, number: i32) -> String {
    format!("{KEY_PREFIX}{id}-{number}")
}

/// The line whose idempotency key this is.
pub fn line_of_key(key: &str) -> Option<Uuid> {
    let (id, number) = key.strip_prefix(KEY_PREFIX)?.rsplit_once('-')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| Uuid::try_parse(id).ok())?
}

/// Begins a line. Returns false, and changes nothing, while another line of its target is open.
///
/// # Errors
/// Database errors.
pub async fn begin(conn: &mut Connection, line: &NewLine<'_>) -> Result<bool, sqlx::Error> {
    // without RETURNING, because the role of the API may insert and not read
    let begun = sqlx::query!(
        "-- ledger.begin
        INSERT INTO billing.api_writes (id, principal, operation, account, target, workspace_id, object_type, object_id, path,
            form, previous_id, replaces, follow_up_due)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT DO NOTHING",
        line.id,
        line.principal,
        line.operation,
        line.account,
        line.target,
        line.workspace,
        line.object_type,
        line.object_id,
        line.path,
        line.form,
        line.previous,
        line.replaces,
        line.is_follow_up_due
    )
    .execute(conn)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// Number of lines that are deleted, or lose their form, at a time.
const FORGET_BATCH: i64 = 5_000;

/// Deletes lines that were finished 30 days ago, and the forms of those that were finished a day ago. Returns whether
/// there may be more.
///
/// # Errors
/// Database errors.
pub async fn forget(conn: &mut Connection) -> Result<bool, sqlx::Error> {
    let forms = sqlx::query!(
        "-- ledger.forget_forms
        UPDATE billing.api_writes AS w SET form = NULL FROM (
            SELECT id FROM billing.api_writes
            WHERE state IN ('done', 'refused') AND finished_at < clock_timestamp() - interval '1 day' AND form IS NOT NULL
            LIMIT $1 FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE w.id = old.id",
        FORGET_BATCH
    );
    let forms = forms.execute(&mut *conn).await?;
    let lines = sqlx::query!(
        "-- ledger.forget
        DELETE FROM billing.api_writes AS w USING (
            SELECT old.id FROM billing.api_writes AS old
            WHERE old.state IN ('done', 'refused') AND old.finished_at < clock_timestamp() - interval '30 days'
                AND NOT old.follow_up_due
                AND NOT EXISTS (SELECT FROM billing.api_writes AS next WHERE next.previous_id = old.id)
            ORDER BY old.finished_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE w.id = old.id",
        FORGET_BATCH
    );
    let lines = lines.execute(conn).await?;
    Ok(forms.rows_affected().max(lines.rows_affected()) >= FORGET_BATCH.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_line() {
        let id = Uuid::from_u128(7);
        assert_eq!(line_of_key(&stripe_key(id, 3)), Some(id));
        for other in ["", "billing-sync-", "billing-sync-x-1", "billing-sync-00000000-0000-0000-0000-000000000007-x"] {
            assert_eq!(line_of_key(other), None, "{other}");
        }
    }
}
