//! The role of a session, and its privileges in the schema billing.
//!
//! Objects belong to the role that created them, and only their owner may alter them. Short-lived logins (from a
//! secrets manager) are members of the owner's group role. So every session changes to the owner, and the next login
//! may alter what this one creates. Sessions of the workspace API change to a role of their own, which may do only what
//! the API needs: [`needed_by_api`] is the only list of that.
//!
//! Missing privileges are found before a statement fails, with the statement or file that grants them. Called by
//! [`crate::migrations`], by `doctor`, by the start of `serve` and by every new session.

use std::fmt;

use super::connection::Connection;

/// The role of the workspace API's sessions, which `ops/roles.sql` creates.
pub const API_ROLE: &str = "billing_api";

/// A privilege to do one thing with one object of the schema, or with one column. Displayed as in a GRANT statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Privilege {
    /// `SELECT`, `INSERT`, `UPDATE`, `DELETE`, `USAGE` or `EXECUTE`.
    pub action: &'static str,
    /// `SCHEMA`, `TABLE` (or a view), `SEQUENCE` or `FUNCTION`.
    pub kind: &'static str,
    /// Name of the object, as in the schema; a function has its argument types.
    pub object: &'static str,
    /// The column; `None` for the whole object.
    pub column: Option<&'static str>,
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action)?;
        if let Some(column) = self.column {
            write!(f, " ({column})")?;
        }
        let schema = if self.kind == "SCHEMA" { "" } else { "billing." };
        write!(f, " ON {} {schema}{}", self.kind, self.object)
    }
}

/// Tables and views that the API reads.
const API_READS: [&str; 19] = [
    "schema_migrations",
    "workspace_billing",
    "live_subscriptions",
    "live_billing_contacts",
    "plans",
    "subscriptions",
    "billing_contacts",
    "pricing_plans",
    "coupons",
    "live_coupons",
    "checkout_sessions",
    "row_changes",
    "workspaces",
    "workspace_members",
    "workspace_avatars",
    "pricing_plan_categories",
    "row_origins",
    "api_requests",
    "checkout_links",
];

/// Functions that the API calls.
const API_CALLS: [&str; 6] = [
    "subscription_rank(text, boolean)",
    "current_limits(uuid)",
    "next_limit_renewal(uuid)",
    "freshness(text, text)",
    "consume(uuid, text, bigint, text)",
    "release(uuid, text, bigint)",
];

/// Columns that the API reads, if not all of the table, or writes.
const API_COLUMNS: [(&str, &str, &[&str]); 9] = [
    ("INSERT", "workspaces", &["id", "name", "key", "key_index", "created_by_user_id"]),
    ("UPDATE", "workspaces", &["name", "updated_at", "deleted_at"]),
    ("INSERT", "workspace_members", &["workspace_id", "user_id", "role", "legacy_customer_id", "created_at"]),
    ("SELECT", "api_tokens", &["id", "secret_sha256", "scopes", "user_id", "expires_at", "revoked_at", "last_used_at"]),
    ("UPDATE", "api_tokens", &["last_used_at"]),
    ("INSERT", "api_requests", &["principal", "idempotency_key", "fingerprint", "write_id"]),
    ("UPDATE", "api_requests", &["fingerprint", "write_id", "status", "location", "body", "created_at"]),
    (
        "INSERT",
        "api_writes",
        &[
            "id",
            "principal",
            "operation",
            "account",
            "target",
            "workspace_id",
            "object_type",
            "object_id",
            "path",
            "form",
            "previous_id",
            "replaces",
            "follow_up_due",
        ],
    ),
    ("INSERT", "checkout_links", &["id", "account", "name", "request", "created_by"]),
];

/// The privileges that the workspace API needs. `ops/roles.sql` grants exactly these to [`API_ROLE`].
pub fn needed_by_api() -> Vec<Privilege> {
    let whole = |action, kind, object| Privilege { action, kind, object, column: None };
    let mut needed = vec![whole("USAGE", "SCHEMA", "billing")];
    needed.extend(API_READS.map(|table| whole("SELECT", "TABLE", table)));
    needed.extend(API_CALLS.map(|function| whole("EXECUTE", "FUNCTION", function)));
    for (action, object, columns) in API_COLUMNS {
        let one = whole(action, "TABLE", object);
        needed.extend(columns.iter().map(|column| Privilege { column: Some(column), ..one }));
    }
    needed.push(whole("UPDATE", "SEQUENCE", "workspaces_key_index_seq"));
    needed.push(whole("DELETE", "TABLE", "api_requests"));
    needed
}

/// The roles of a session, quoted as in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRoles {
    /// The role whose rights the session has.
    pub role: String,
    /// The login.
    pub login: String,
}

/// The roles of this session.
///
/// # Errors
/// Any error of the database.
pub async fn of_session(conn: &mut Connection) -> Result<SessionRoles, sqlx::Error> {
    let (role, login): (String, String) = sqlx::query_as(
        "-- database.roles_of_session
        SELECT quote_ident(current_user), quote_ident(session_user)",
    )
    .fetch_one(conn)
    .await?;
    Ok(SessionRoles { role, login })
}

/// Whether the schema has a table, view or index with this name, which this session's role may not be able to use.
///
/// # Errors
/// Any error of the database.
pub async fn is_in_schema(conn: &mut Connection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- database.is_in_schema
        SELECT EXISTS (
            SELECT FROM pg_class AS relation JOIN pg_namespace AS schema ON schema.oid = relation.relnamespace
            WHERE schema.nspname = 'billing' AND relation.relname = $1)",
    )
    .bind(name)
    .fetch_one(conn)
    .await
}

/// The privilege that this session's role needs to read the applied migrations and does not have.
///
/// # Errors
/// Any error of the database.
pub async fn missing_privilege_to_read(conn: &mut Connection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        r"-- database.missing_privilege_to_read
        SELECT CASE WHEN has_schema_privilege(schema.oid, 'USAGE') THEN
            format('the role %1$I has no SELECT privilege on the table billing.schema_migrations: as its owner, %2$I, run '
                'GRANT SELECT ON billing.schema_migrations TO %1$I', current_user, owner.rolname)
        ELSE
            format('the role %1$I has no USAGE privilege on the schema billing: as its owner, %2$I, run '
                'GRANT %2$I TO %1$I (or, without its other rights, GRANT USAGE ON SCHEMA billing TO %1$I)',
                current_user, owner.rolname)
        END
        FROM pg_namespace AS schema
        JOIN pg_roles AS owner ON owner.oid = schema.nspowner
        LEFT JOIN pg_class AS migrations
            ON migrations.relnamespace = schema.oid AND migrations.relname = 'schema_migrations'
        WHERE schema.nspname = 'billing' AND NOT (
            has_schema_privilege(schema.oid, 'USAGE') AND coalesce(has_table_privilege(migrations.oid, 'SELECT'), true))",
    )
    .fetch_optional(conn)
    .await
}

/// The privilege that this session's role needs to create and alter our objects and does not have.
///
/// # Errors
/// Any error of the database.
pub async fn missing_privilege_to_migrate(conn: &mut Connection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        r"-- database.missing_privilege_to_migrate
        SELECT format('the role %1$I has no CREATE privilege on the database %2$I, and the schema billing does not '
            'exist: as an administrator run CREATE SCHEMA billing AUTHORIZATION %1$I', current_user, current_database())
        WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'billing')
            AND NOT has_database_privilege(current_database(), 'CREATE')
        UNION ALL
        SELECT format('the role %1$I has no CREATE privilege on the schema billing: as an administrator run '
            'ALTER SCHEMA billing OWNER TO %1$I, or GRANT %2$I TO %1$I', current_user, owner.rolname)
        FROM pg_namespace AS schema
        JOIN pg_roles AS owner ON owner.oid = schema.nspowner
        WHERE schema.nspname = 'billing' AND NOT has_schema_privilege(schema.oid, 'CREATE')
        UNION ALL
        (SELECT format('the role %1$I does not own the table billing.%2$I, which belongs to %3$I: as an administrator run '
            'GRANT %3$I TO %1$I', current_user, relation.relname, owner.rolname)
        FROM pg_class AS relation
        JOIN pg_namespace AS schema ON schema.oid = relation.relnamespace AND schema.nspname = 'billing'
        JOIN pg_roles AS owner ON owner.oid = relation.relowner
        WHERE relation.relkind IN ('r', 'p', 'v') AND NOT pg_has_role(owner.oid, 'USAGE')
        ORDER BY relation.oid LIMIT 1)
        LIMIT 1",
    )
    .fetch_optional(conn)
    .await
}

/// The privilege that this session's role needs to serve and does not have. `writes`: it processes events, and so
/// writes every table that does not belong to the product; otherwise it only stores events. `creates`: it creates the
/// partitions of the coming months.
///
/// # Errors
/// Any error of the database.
pub async fn missing_privilege_to_serve(
    conn: &mut Connection,
    writes: bool,
    creates: bool,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        r"-- database.missing_privilege_to_serve
        WITH object AS (
            SELECT relation.oid, relation.relname AS name, relation.relkind AS kind, relation.relowner AS owner
            FROM pg_class AS relation
            JOIN pg_namespace AS schema ON schema.oid = relation.relnamespace AND schema.nspname = 'billing'
            -- partitions are accessed through their table
            WHERE NOT relation.relispartition
        ), wanted AS (
            SELECT oid, name, kind, unnest(CASE
                WHEN kind = 'v' OR name IN ('schema_migrations', 'workspaces', 'limit_kinds') THEN ARRAY['SELECT']
                WHEN $1 OR name IN ('events', 'outbox') THEN ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']
                ELSE ARRAY['SELECT'] END) AS privilege
            FROM object WHERE kind IN ('r', 'p', 'v')
        )
        (SELECT format('the role %1$I has no %2$s privilege on the table billing.%3$I: as its owner run '
            'GRANT %2$s ON billing.%3$I TO %1$I', current_user, privilege, name)
        FROM wanted WHERE NOT has_table_privilege(oid, privilege) ORDER BY oid LIMIT 1)
        UNION ALL
        (SELECT format('the role %1$I has no USAGE privilege on the sequence billing.%2$I: as its owner run '
            'GRANT USAGE ON SEQUENCE billing.%2$I TO %1$I', current_user, name)
        FROM object
        -- the function fails for anything except a sequence
        WHERE $1 AND CASE WHEN kind = 'S' THEN NOT has_sequence_privilege(oid, 'USAGE') END ORDER BY oid LIMIT 1)
        UNION ALL
        (SELECT format('the role %1$I has no EXECUTE privilege on the function billing.%2$I: as its owner run '
            'GRANT EXECUTE ON FUNCTION %3$s TO %1$I', current_user, routine.proname, routine.oid::regprocedure)
        FROM pg_proc AS routine
        JOIN pg_namespace AS schema ON schema.oid = routine.pronamespace AND schema.nspname = 'billing'
        WHERE $1 AND NOT has_function_privilege(routine.oid, 'EXECUTE') ORDER BY routine.oid LIMIT 1)
        UNION ALL
        (SELECT format('the role %1$I does not own the table billing.%2$I and cannot create its partitions (role '
            'maintenance): as an administrator run GRANT %3$I TO %1$I, or omit maintenance from --roles', current_user, name, rolname)
        FROM object JOIN pg_roles ON pg_roles.oid = owner
        WHERE kind = 'p' AND $2 AND NOT pg_has_role(owner, 'USAGE') ORDER BY object.oid LIMIT 1)
        LIMIT 1",
    )
    .bind(writes)
    .bind(creates)
    .fetch_optional(conn)
    .await
}

/// The privilege that a session of the workspace API needs and does not have. An object that does not exist is no
/// missing privilege, because the missing migration is reported.
///
/// # Errors
/// Any error of the database.
pub async fn missing_privilege_for_api(conn: &mut Connection) -> Result<Option<String>, sqlx::Error> {
    let needed = needed_by_api();
    let each = |part: fn(&Privilege) -> &'static str| needed.iter().map(part).collect::<Vec<_>>();
    let missing: Option<(i64, String, String, String)> = sqlx::query_as(
        r"-- database.missing_privilege_for_api
        SELECT needed.place, quote_ident(current_user), quote_ident(session_user),
            quote_ident(pg_get_userbyid(schema.nspowner))
        FROM pg_namespace AS schema
        CROSS JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
            AS needed (action, kind, object, part, place)
        LEFT JOIN pg_class AS relation ON relation.relnamespace = schema.oid AND relation.relname = needed.object
            AND needed.kind = CASE WHEN relation.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END
        LEFT JOIN pg_attribute AS of_part ON of_part.attrelid = relation.oid AND of_part.attname = needed.part
        LEFT JOIN pg_proc AS routine ON routine.pronamespace = schema.oid AND needed.kind = 'FUNCTION'
            AND format('%s(%s)', routine.proname, oidvectortypes(routine.proargtypes)) = needed.object
        -- these functions return null for an object that does not exist
        WHERE schema.nspname = 'billing' AND NOT CASE
            WHEN needed.kind = 'SCHEMA' THEN has_schema_privilege(schema.oid, needed.action)
            WHEN needed.kind = 'SEQUENCE' THEN has_sequence_privilege(relation.oid, needed.action)
            WHEN needed.kind = 'FUNCTION' THEN has_function_privilege(routine.oid, needed.action)
            WHEN needed.part = '' THEN has_table_privilege(relation.oid, needed.action)
            ELSE has_column_privilege(relation.oid, of_part.attnum, needed.action) END
        ORDER BY needed.place LIMIT 1",
    )
    .bind(each(|one| one.action))
    .bind(each(|one| one.kind))
    .bind(each(|one| one.object))
    .bind(each(|one| one.column.unwrap_or_default()))
    .fetch_optional(conn)
    .await?;
    let Some((place, role, login, owner)) = missing else { return Ok(None) };
    let privilege = usize::try_from(place - 1).ok().and_then(|place| needed.get(place));
    let grant = if role == API_ROLE { String::new() } else { format!(", and GRANT {API_ROLE} TO {login}") };
    Ok(privilege.map(|privilege| {
        format!(
            "the role {role} does not have the privilege {privilege}, which the workspace API needs: as the owner of \
             the schema, {owner}, run psql --set ON_ERROR_STOP=1 --file ops/roles.sql{grant}"
        )
    }))
}
