//! Connection limits of the server, the database and the role, and the number of open connections.

use super::connection::Connection;

/// One limit on connections.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ConnectionLimit {
    /// What sets the limit, in an operator's terms.
    pub limit: String,
    /// Allowed connections.
    pub allowed: i64,
    /// Open connections that count towards the limit, including ours.
    pub open: i64,
}

impl ConnectionLimit {
    /// Connections that may still be opened.
    pub fn free(&self) -> i64 {
        self.allowed - self.open
    }
}

/// The limits that apply to the login of this session, those with the fewest free connections first. Never empty.
///
/// # Errors
/// Any error of the database.
pub async fn connection_limits(conn: &mut Connection) -> Result<Vec<ConnectionLimit>, sqlx::Error> {
    sqlx::query_as(
        "-- database.connection_limits
        WITH session AS (
            -- every role may see these two columns of each session; one of them is null for background processes
            SELECT datid, usesysid FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL
        ), login AS (
            SELECT oid, rolname, rolconnlimit, rolsuper FROM pg_roles WHERE rolname = session_user
        ), limits AS (
            SELECT 'max_connections of the server' AS \"limit\",
                current_setting('max_connections')::bigint - CASE WHEN rolsuper THEN 0 ELSE
                    current_setting('superuser_reserved_connections')::bigint
                    + coalesce(current_setting('reserved_connections', true)::bigint, 0) END AS allowed,
                (SELECT count(*) FROM session) AS open
            FROM login
            UNION ALL
            SELECT format('CONNECTION LIMIT of the role %I', rolname), rolconnlimit,
                (SELECT count(*) FROM session WHERE usesysid = login.oid)
            FROM login WHERE rolconnlimit >= 0 AND NOT rolsuper
            UNION ALL
            SELECT format('CONNECTION LIMIT of the database %I', datname), datconnlimit,
                (SELECT count(*) FROM session WHERE datid = pg_database.oid)
            FROM pg_database, login WHERE datname = current_database() AND datconnlimit >= 0 AND NOT rolsuper
        )
        SELECT \"limit\", allowed, open FROM limits ORDER BY allowed - open",
    )
    .fetch_all(conn)
    .await
}
