//! Events that prove a change: they carry the idempotency key of its line.

use uuid::Uuid;

use super::open;
use crate::database::Connection;
use crate::domain::object::{ObjectKey, row_id};

/// An event of Stripe that carries the idempotency key of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The line.
    pub line: Uuid,
    /// The object of the event.
    pub key: ObjectKey,
    /// Stripe's request id.
    pub request_id: Option<String>,
}

/// Closes the lines whose events have arrived: Stripe has made the change. Each with the id of its object, and Stripe's
/// request id. A change may cause events of other objects too, which prove nothing here. A new payment link is left open:
/// its event has no answer with the URL, and recovery gets that.
///
/// # Errors
/// Database errors.
pub async fn prove(conn: &mut Connection, proven: &[Proof]) -> Result<(), sqlx::Error> {
    if proven.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Proof) -> &str| proven.iter().map(|one| of(one).to_owned()).collect::<Vec<_>>();
    let lines: Vec<Uuid> = proven.iter().map(|one| one.line).collect();
    let accounts = column(|one| &one.key.account);
    let types = column(|one| &one.key.object_type);
    let objects = column(|one| &one.key.object_id);
    let requests: Vec<Option<String>> = proven.iter().map(|one| one.request_id.clone()).collect();
    // a line that another transaction holds is sent just now: its process closes it
    let closed = sqlx::query!(
        r#"-- ledger.prove
        UPDATE billing.api_writes AS w
        SET state = 'done', object_id = p.object_id, finished_at = clock_timestamp(),
            stripe_request_id = coalesce(p.request_id, w.stripe_request_id), leased_until = NULL
        FROM (
            SELECT held.id, p.object_id, p.request_id,
                p.object_type = 'customer' AND held.object_id IS NULL AS is_new_customer
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
                AS p (id, account, object_type, object_id, request_id)
            JOIN billing.api_writes AS held ON held.id = p.id AND held.account = p.account
                AND held.object_type = p.object_type AND coalesce(held.object_id, p.object_id) = p.object_id
            WHERE held.state IN ('begun', 'sent', 'unknown') AND NOT held.follow_up_due
                AND held.object_type <> 'payment_link'
            ORDER BY held.id FOR UPDATE OF held SKIP LOCKED
        ) AS p
        WHERE w.id = p.id
        RETURNING w.account, w.workspace_id, p.object_id AS "object_id!", p.is_new_customer AS "is_new_customer!""#,
        &lines,
        &accounts,
        &types,
        &objects,
        &requests as &[Option<String>]
    )
    .fetch_all(&mut *conn)
    .await?;
    for line in closed {
        if let Some(workspace) = line.workspace_id.filter(|_| line.is_new_customer) {
            open::note_creator(conn, row_id(&line.account, &line.object_id), workspace).await?;
        }
    }
    Ok(())
}
