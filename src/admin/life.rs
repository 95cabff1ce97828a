//! The changes by which a subscription became usable or not, for its picture. Reads only. Called by `explain --svg`.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Connection;

/// A subscription with its history, as far as it says whether the subscription may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The id in Stripe.
    pub stripe_subscription_id: String,
    /// When it started at Stripe.
    pub started_at: Option<OffsetDateTime>,
    /// The current values of its row.
    pub now: Usability,
    /// The changes of these values, the oldest first.
    pub changes: Vec<UsabilityChange>,
}

/// The columns that say whether a subscription may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of subscriptions, described in its migration")]
pub struct Usability {
    pub active: bool,
    pub inactive_reason: Option<String>,
    pub is_trial: bool,
    pub is_grace_period: bool,
}

/// A change of these columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsabilityChange {
    /// When Stripe created the event that caused it; for other causes, when the row changed.
    pub at: OffsetDateTime,
    /// As in `row_changes`.
    pub causes: Vec<String>,
    /// A JSON object: each changed column with the value before and after.
    pub changes: String,
}

/// The subscriptions with these row ids, each with its newest changes, at most `limit` each.
///
/// # Errors
/// Database errors.
pub async fn lives(conn: &mut Connection, ids: &[Uuid], limit: i64) -> Result<Vec<Life>, sqlx::Error> {
    let mut changes = changes(conn, ids, limit).await?;
    let rows = sqlx::query!(
        r#"-- explain.lives
        SELECT id, stripe_subscription_id, coalesce(started_at, stripe_created_at) AS started_at, active, inactive_reason,
            is_trial, is_grace_period
        FROM billing.subscriptions
        WHERE id = ANY($1)
        ORDER BY stripe_created_at, stripe_subscription_id"#,
        ids
    )
    .fetch_all(conn)
    .await?;
    let life = rows.into_iter().map(|row| Life {
        changes: changes.remove(&row.id).unwrap_or_default(),
        stripe_subscription_id: row.stripe_subscription_id,
        started_at: row.started_at,
        now: Usability {
            active: row.active,
            inactive_reason: row.inactive_reason,
            is_trial: row.is_trial,
            is_grace_period: row.is_grace_period,
        },
    });
    Ok(life.collect())
}

async fn changes(
    conn: &mut Connection,
    ids: &[Uuid],
    limit: i64,
) -> Result<BTreeMap<Uuid, Vec<UsabilityChange>>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- explain.usability_changes
        SELECT wanted.id AS "row_id!", change.at AS "at!", change.causes AS "causes!", change.changes AS "changes!"
        FROM unnest($1::uuid[]) AS wanted (id)
        CROSS JOIN LATERAL (
            SELECT coalesce((SELECT max(o.created) FROM billing.outbox AS o WHERE o.event_id = ANY(c.causes)), c.changed_at)
                AS at, c.causes, c.changes::text AS changes, c.id
            FROM billing.row_changes AS c
            WHERE c.row_id = wanted.id
                AND c.changes ?| ARRAY['active', 'inactive_reason', 'is_trial', 'is_grace_period']
            ORDER BY c.id DESC LIMIT $2
        ) AS change
        ORDER BY change.id"#,
        ids,
        limit
    )
    .fetch_all(conn)
    .await?;
    let mut of_rows: BTreeMap<Uuid, Vec<UsabilityChange>> = BTreeMap::new();
    for row in rows {
        let change = UsabilityChange { at: row.at, causes: row.causes, changes: row.changes };
        of_rows.entry(row.row_id).or_default().push(change);
    }
    Ok(of_rows)
}
