//! The role of a session, and its privileges in the schema billing.
//!
//! Objects belong to the role that created them, and only their owner may alter them. Short-lived logins (from a
//! secrets manager) are members of the owner's group role. So every session changes to the owner, and the next login
//! may alter what this one creates. Missing privileges are found before a statement fails, with the statement that
//! grants them. Called by [`crate::migrations`], by the start of `serve` and by every new session.

use sqlx::PgConnection;

/// Changes to the owner of our tables (of the schema if there are no tables yet) if this login is a member of that
/// role, with or without INHERIT. Does nothing otherwise.
// uses the catalogue, because to_regclass needs USAGE on the schema; since PostgreSQL 16 MEMBER does not imply SET
// ROLE, and PostgreSQL 15 does not know SET
pub(super) const BECOME_OWNER: &str = "
SELECT set_config('role', owner.rolname, false)
FROM pg_namespace AS schema
LEFT JOIN pg_class AS migrations ON migrations.relnamespace = schema.oid AND migrations.relname = 'schema_migrations'
JOIN pg_roles AS owner ON owner.oid = coalesce(migrations.relowner, schema.nspowner)
WHERE schema.nspname = 'billing' AND owner.rolname <> current_user
    AND pg_has_role(owner.oid, CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END);
";

/// The privilege that this session's role needs to read the applied migrations and does not have.
///
/// # Errors
/// Any error of the database.
pub async fn missing_privilege_to_read(conn: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
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
pub async fn missing_privilege_to_migrate(conn: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
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
    conn: &mut PgConnection,
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
