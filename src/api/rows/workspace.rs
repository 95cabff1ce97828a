//! One workspace: reads it with its embedded rows, and creates, renames and deletes it.

use uuid::Uuid;

use super::entities::Workspace;
use super::found::{Found, found};
use super::fragments::{contact_json, limits_json, plan_json, subscription_json, visible, workspace_json};
use crate::api::principal::Access;
use crate::database::Connection;

/// What the caller is to a workspace that it may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// May change it: an owner, or the admin scope.
    Owner,
    /// May read it and use its limits.
    Member,
}

/// The statement of a GET of one workspace: `$1` its id, `$2` whether all are visible, `$3` otherwise the user.
pub const WORKSPACE: &str = concat!(
    "-- api.workspace
    SELECT ",
    workspace_json!(),
    "::text, row_to_json(f)::text
    FROM billing.workspace_billing AS b
    LEFT JOIN billing.workspaces AS w ON w.id = b.workspace_id
    LEFT JOIN billing.billing_contacts AS payer ON payer.id = b.billing_contact_id
    CROSS JOIN LATERAL billing.freshness(coalesce(payer.account, ''), payer.stripe_customer_id) AS f
    WHERE b.workspace_id = $1 AND ",
    visible!("b.workspace_id")
);

/// The workspace with its embedded rows; `None` if the caller may not see it.
///
/// # Errors
/// Database errors.
pub(crate) async fn workspace(
    conn: &mut Connection,
    id: Uuid,
    access: Access,
) -> Result<Option<Found<Workspace>>, sqlx::Error> {
    let (all, user) = access.parameters();
    found(sqlx::query_as(WORKSPACE).bind(id).bind(all).bind(user).fetch_optional(conn).await?)
}

/// What the caller is to the workspace; `None` if it may not see it.
///
/// # Errors
/// Database errors.
pub(crate) async fn role(conn: &mut Connection, id: Uuid, access: Access) -> Result<Option<Role>, sqlx::Error> {
    let (all, user) = access.parameters();
    let owns = sqlx::query_scalar!(
        r#"-- api.role
        SELECT $2 OR m.role = 'owner' AS "owns!"
        FROM billing.workspace_billing AS b
        LEFT JOIN billing.workspace_members AS m ON m.workspace_id = b.workspace_id AND m.user_id = $3
        WHERE b.workspace_id = $1 AND ($2 OR m.user_id IS NOT NULL)"#,
        id,
        all,
        user
    )
    .fetch_optional(conn)
    .await?;
    Ok(owns.map(|owns| if owns { Role::Owner } else { Role::Member }))
}

/// Locks the row of a workspace until the end of the transaction; false if it has none, because only Stripe's metadata
/// names it.
///
/// # Errors
/// Database errors.
pub(crate) async fn lock(conn: &mut Connection, id: Uuid) -> Result<bool, sqlx::Error> {
    let locked = sqlx::query!(
        "-- api.lock_workspace
        SELECT id FROM billing.workspaces WHERE id = $1 FOR NO KEY UPDATE",
        id
    );
    Ok(locked.fetch_optional(conn).await?.is_some())
}

/// A workspace to create.
#[derive(Debug)]
pub(crate) struct NewWorkspace<'a> {
    pub(crate) id: Uuid,
    pub(crate) name: Option<&'a str>,
    pub(crate) key: &'a str,
    pub(crate) key_index: i64,
    /// The user who creates it, and becomes its owner; `None` for a workspace that subscriptions name already.
    pub(crate) owner: Option<Uuid>,
    pub(crate) owners_legacy_customer: Option<i64>,
}

/// A number that no workspace has or had.
///
/// # Errors
/// Database errors.
pub(crate) async fn next_key_index(conn: &mut Connection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- api.next_key_index
        SELECT nextval('billing.workspaces_key_index_seq') AS "index!""#
    )
    .fetch_one(conn)
    .await
}

/// Moves on to numbers that no workspace has: the product may have stored some itself.
///
/// # Errors
/// Database errors.
pub(crate) async fn skip_key_indexes(conn: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- api.skip_key_indexes
        SELECT setval('billing.workspaces_key_index_seq', greatest(nextval('billing.workspaces_key_index_seq'),
            (SELECT max(key_index) FROM billing.workspaces)))"
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Creates a workspace with its owner. Returns false if a workspace has its id, key or number already.
///
/// # Errors
/// Database errors.
pub(crate) async fn create(conn: &mut Connection, new: &NewWorkspace<'_>) -> Result<bool, sqlx::Error> {
    let made = sqlx::query!(
        "-- api.create_workspace
        WITH made AS (
            INSERT INTO billing.workspaces (id, name, key, key_index, created_by_user_id)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
            RETURNING id, created_at
        ), owner AS (
            INSERT INTO billing.workspace_members (workspace_id, user_id, role, legacy_customer_id, created_at)
            SELECT made.id, $5, 'owner', $6, made.created_at FROM made WHERE $5::uuid IS NOT NULL
        )
        SELECT id FROM made",
        new.id,
        new.name,
        new.key,
        new.key_index,
        new.owner,
        new.owners_legacy_customer
    )
    .fetch_optional(conn)
    .await?;
    Ok(made.is_some())
}

/// Renames a workspace.
///
/// # Errors
/// Database errors.
pub(crate) async fn rename(conn: &mut Connection, id: Uuid, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- api.rename_workspace
        UPDATE billing.workspaces SET name = $2, updated_at = clock_timestamp() WHERE id = $1",
        id,
        name
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Number of workspaces that the user owns, counted up to `most`.
///
/// # Errors
/// Database errors.
pub(crate) async fn owned(conn: &mut Connection, user: Uuid, most: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- api.owned
        SELECT count(*) AS "owned!" FROM (
            SELECT FROM billing.workspace_members AS m
            JOIN billing.workspaces AS w ON w.id = m.workspace_id AND w.deleted_at IS NULL
            WHERE m.user_id = $1 AND m.role = 'owner' LIMIT $2
        ) AS owned"#,
        user,
        most
    )
    .fetch_one(conn)
    .await
}

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletion {
    Done,
    /// A subscription of the workspace has not ended.
    HasSubscription,
}

/// Marks a workspace as deleted, unless one of its subscriptions has not ended.
///
/// # Errors
/// Database errors.
pub(crate) async fn delete(conn: &mut Connection, id: Uuid) -> Result<Deletion, sqlx::Error> {
    let gone = sqlx::query!(
        "-- api.delete_workspace
        UPDATE billing.workspaces AS w SET deleted_at = clock_timestamp(), updated_at = clock_timestamp()
        WHERE w.id = $1 AND NOT EXISTS (
            SELECT FROM billing.subscriptions AS s
            WHERE s.workspace_id = w.id AND s.stripe_status NOT IN ('canceled', 'incomplete_expired'))",
        id
    )
    .execute(conn)
    .await?;
    Ok(if gone.rows_affected() == 1 { Deletion::Done } else { Deletion::HasSubscription })
}
