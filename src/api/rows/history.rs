//! What changed the rows of a workspace: its contacts and subscriptions, newest change first.

use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::found::parse;
use super::fragments::visible;
use crate::api::principal::Access;
use crate::database::Connection;
use crate::ledger::line_of_cause;

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

impl Change {
    /// The change as clients see it: without the id of a line in the ledger, which names who requested the change.
    fn shown(mut self) -> Self {
        for cause in &mut self.causes {
            if line_of_cause(cause).is_some() {
                "write".clone_into(cause);
            }
        }
        self
    }
}

/// Which changes are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistoryRange {
    /// Only changes with a smaller id.
    pub(crate) before: i64,
    /// At most this number.
    pub(crate) size: i64,
}

/// Of a subscription only the changes since it has this workspace: the earlier ones are another workspace's. By row,
/// because a search by the id alone would walk through the changes of all customers.
const CHANGES: &str = concat!(
    "-- api.history
    SELECT coalesce((
        SELECT json_agg(change ORDER BY change.id DESC)
        FROM (
            SELECT r.id, r.changed_at, r.table_name, r.row_id, r.causes, r.changes
            FROM (
                SELECT s.id, coalesce((
                    SELECT max(c.id) FROM billing.row_changes AS c
                    WHERE c.row_id = s.id AND c.changes ? 'workspace_id'), 0)
                FROM billing.subscriptions AS s WHERE s.workspace_id = $1
                UNION SELECT s.billing_contact_id, 0 FROM billing.subscriptions AS s
                    WHERE s.workspace_id = $1 AND s.stripe_status NOT IN ('canceled', 'incomplete_expired')
                UNION SELECT c.id, 0 FROM billing.billing_contacts AS c WHERE c.workspace_id = $1
                UNION SELECT b.billing_contact_id, 0
            ) AS own (id, since)
            CROSS JOIN LATERAL (
                SELECT * FROM billing.row_changes AS c
                WHERE c.row_id = own.id AND c.id >= own.since AND c.id < $4
                ORDER BY c.id DESC LIMIT $5
            ) AS r
            ORDER BY r.id DESC LIMIT $5
        ) AS change), '[]')::text
    FROM billing.workspace_billing AS b
    WHERE b.workspace_id = $1 AND ",
    visible!("b.workspace_id")
);

/// The changes; `None` if the caller may not see the workspace.
///
/// # Errors
/// Database errors.
pub(crate) async fn changes(
    conn: &mut Connection,
    workspace: Uuid,
    page: HistoryRange,
    access: Access,
) -> Result<Option<Vec<Change>>, sqlx::Error> {
    let (all, user) = access.parameters();
    let query = sqlx::query_scalar(CHANGES).bind(workspace).bind(all).bind(user).bind(page.before).bind(page.size);
    let text: Option<String> = query.fetch_optional(conn).await?;
    let changes: Option<Vec<Change>> = text.as_deref().map(parse).transpose()?;
    Ok(changes.map(|changes| changes.into_iter().map(Change::shown).collect()))
}
