//! What changed the rows of a workspace: its contacts and subscriptions, newest change first.

use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::found::parse;
use crate::api::principal::Access;

/// One change of one row.
#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    pub(crate) id: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) changed_at: OffsetDateTime,
    pub(crate) table_name: String,
    pub(crate) row_id: Uuid,
    pub(crate) causes: Vec<String>,
    /// An object: each changed column with its value before and after.
    pub(crate) changes: Box<RawValue>,
}

/// Which changes are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistoryPage {
    /// Only changes with a smaller id.
    pub(crate) before: i64,
    /// At most this number.
    pub(crate) size: i64,
}

/// The changes; `None` if the caller may not see the workspace.
///
/// # Errors
/// Database errors.
pub(crate) async fn changes(
    conn: &mut PgConnection,
    workspace: Uuid,
    page: HistoryPage,
    access: Access,
) -> Result<Option<Vec<Change>>, sqlx::Error> {
    let (all, user) = access.parameters();
    let text = sqlx::query_scalar!(
        r#"-- api.history
        SELECT coalesce((
            SELECT json_agg(change ORDER BY change.id DESC)
            FROM (
                SELECT r.id, r.changed_at, r.table_name, r.row_id, r.causes, r.changes
                FROM billing.row_changes AS r
                WHERE r.row_id IN (
                        SELECT s.id FROM billing.subscriptions AS s WHERE s.workspace_id = $1
                        UNION SELECT s.billing_contact_id FROM billing.subscriptions AS s WHERE s.workspace_id = $1
                        UNION SELECT c.id FROM billing.billing_contacts AS c WHERE c.workspace_id = $1
                        UNION SELECT b.billing_contact_id)
                    AND r.id < $4
                ORDER BY r.id DESC LIMIT $5
            ) AS change), '[]')::text AS "changes!"
        FROM billing.workspace_billing AS b
        WHERE b.workspace_id = $1 AND ($2 OR EXISTS (
            SELECT FROM billing.workspace_members AS m WHERE m.workspace_id = b.workspace_id AND m.user_id = $3))"#,
        workspace,
        all,
        user,
        page.before,
        page.size
    )
    .fetch_optional(conn)
    .await?;
    text.as_deref().map(parse).transpose()
}
