//! Session settings that our statements rely on, set once right after connecting, or in each transaction behind a pooler
//! that shares sessions.
//!
//! A role, a database or a server may have other defaults: another isolation level, a time zone, a search path with
//! functions that shadow the built-in ones, timeouts, JIT, a slow compression of large values. Plain `SET` statements
//! override them. Startup options would too, but poolers refuse those. Read-only defaults stay as they are, because an
//! operator who sets one wants no writes.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use super::address::Pooler;

/// Timeouts that the server applies to one session; zero means no limit. They end statements that the client no longer
/// waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Statement timeout. Does not cover a commit's wait for a synchronous standby.
    pub statement: Duration,
    /// Lock timeout.
    pub lock: Duration,
    /// Maximum time that a transaction waits for its next statement.
    pub idle_in_transaction: Duration,
    /// Role of the session.
    pub role: SessionRole,
}

/// Which rights a session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionRole {
    /// Those of the owner of our tables, if the login may use them.
    Owner,
    /// Those of the workspace API (`billing_api`), if the operator has created the role and the login may use it.
    Api,
}

/// Settings that are the same in every session and every transaction.
///
/// The statement timeout comes first, because a default of a millisecond would cancel the rest. The search path is
/// second, so that later statements cannot be shadowed. `pg_temp` is listed so that it is searched last.
const COMMON: [(&str, &str); 11] = [
    ("statement_timeout", "0"),
    ("search_path", "pg_catalog, pg_temp"),
    ("TimeZone", "'UTC'"),
    ("DateStyle", "'ISO, MDY'"),
    ("IntervalStyle", "'postgres'"),
    ("bytea_output", "'hex'"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "auto"),
    ("client_min_messages", "warning"),
];

/// Settings that have an effect in a whole session only.
const SESSION_ONLY: [(&str, &str); 6] = [
    ("default_transaction_isolation", "'read committed'"),
    ("default_transaction_deferrable", "off"),
    ("idle_session_timeout", "0"),
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "6"),
];

/// Not every server can do this. `{local}`: `true` ends the setting with the transaction.
const CHECK_CLIENT: &str = "
SELECT set_config('client_connection_check_interval', '10s', {local}) WHERE version() !~* 'windows|visual c|mingw';
";

/// Not every server has this.
const COMPRESS_FAST: &str = "
SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals);
";

/// Undoes, for one transaction, what other clients may have left in the session: the role, and each setting that a client
/// can change. Their values in a new session are those of the server, the database and the login. The pooler itself sets
/// encoding and name. A default of read-only transactions has taken effect already, and `temp_buffers` may not change any
/// more. One pass over the settings, because it takes half a millisecond: it includes [`COMPRESS_FAST`].
const AS_IN_A_NEW_SESSION: &str = "
SET LOCAL statement_timeout = 0;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL role TO DEFAULT;
SELECT set_config(name, CASE name WHEN 'default_toast_compression' THEN 'lz4' ELSE reset_val END, true) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
    OR source = 'session'
        AND name <> ALL ('{client_encoding,application_name,search_path,statement_timeout,temp_buffers}')
        AND (context = 'user' OR context = 'superuser' AND current_setting('is_superuser')::boolean)
        AND NOT pg_settings_get_flags(name) && '{NO_RESET,NO_RESET_ALL}';
";

/// Changes to the owner of our tables (of the schema if there are no tables yet) if this login is a member of that
/// role, with or without INHERIT. Does nothing otherwise.
// uses the catalogue, because to_regclass needs USAGE on the schema; since PostgreSQL 16 MEMBER does not imply SET
// ROLE, and PostgreSQL 15 does not know SET
const BECOME_OWNER: &str = "
SELECT set_config('role', owner.rolname, {local})
FROM pg_namespace AS schema
LEFT JOIN pg_class AS migrations ON migrations.relnamespace = schema.oid AND migrations.relname = 'schema_migrations'
JOIN pg_roles AS owner ON owner.oid = coalesce(migrations.relowner, schema.nspowner)
WHERE schema.nspname = 'billing' AND owner.rolname <> current_user
    AND pg_has_role(owner.oid, CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END);
";

/// Changes to the role of the workspace API if this login may use it, and `ops/roles.sql` has run in this database. The
/// existence of the role is not enough: roles belong to the server, which may have other databases. Otherwise the API
/// runs with the rights of the owner of our tables, or of the login.
const BECOME_API: &str = "
SELECT set_config('role', api.rolname, {local})
FROM pg_roles AS api
JOIN pg_namespace AS schema ON schema.nspname = 'billing'
WHERE api.rolname = 'billing_api' AND api.rolname <> current_user AND has_schema_privilege(api.oid, schema.oid, 'USAGE')
    AND pg_has_role(session_user, api.oid, CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END);
";

impl Session {
    /// Limits for background parts: their longest statements touch many rows, their lock waits are short.
    pub const BACKGROUND: Self = Self {
        statement: Duration::from_mins(1),
        lock: Duration::from_secs(2),
        idle_in_transaction: Duration::from_mins(1),
        role: SessionRole::Owner,
    };

    /// Limits for the workspace API: its clients give up after some seconds.
    pub const API: Self = Self {
        statement: Duration::from_secs(10),
        lock: Duration::from_secs(2),
        idle_in_transaction: Duration::from_secs(10),
        role: SessionRole::Api,
    };

    /// Limits for the ops listener: a probe has one second.
    pub const OPS: Self = Self {
        statement: Duration::from_millis(900),
        lock: Duration::from_millis(500),
        idle_in_transaction: Duration::from_secs(5),
        role: SessionRole::Owner,
    };

    /// Limits for `status`: it must not slow down a database that is busy already, and never waits for a lock.
    pub const STATUS: Self = Self {
        statement: Duration::from_secs(1),
        lock: Duration::from_millis(200),
        idle_in_transaction: Duration::from_secs(5),
        role: SessionRole::Owner,
    };

    /// Limits for commands, which an operator can stop: a migration or a comparison may take hours.
    pub const COMMAND: Self = Self {
        statement: Duration::ZERO,
        lock: Duration::ZERO,
        idle_in_transaction: Duration::ZERO,
        role: SessionRole::Owner,
    };

    /// Limits for the receiver, which answers 503 after `store_timeout`: the server cancels before that.
    pub fn receiver(store_timeout: Duration) -> Self {
        let statement = store_timeout.mul_f64(0.8);
        Self { statement, lock: store_timeout / 2, idle_in_transaction: store_timeout, role: SessionRole::Owner }
    }

    /// These settings, if each transaction behind this pooler must begin with them.
    pub(super) fn per_transaction(self, pooler: Pooler) -> Option<Self> {
        (pooler == Pooler::Transaction).then_some(self)
    }

    /// The statements that set a transaction up, for a server of this version number (150018 is 15.18).
    pub(super) fn of_transaction(&self, server: u32) -> String {
        AS_IN_A_NEW_SESSION.to_owned() + &self.statements(server, "SET LOCAL", &[], "true")
    }

    fn statements(&self, server: u32, set: &str, extra: &[(&str, &str)], local: &str) -> String {
        let mut text = String::from("-- database.session\n");
        for (setting, value) in COMMON.iter().chain(extra) {
            let _ = writeln!(text, "{set} {setting} = {value};");
        }
        text.push_str(&CHECK_CLIENT.replace("{local}", local));
        text.push_str(&BECOME_OWNER.replace("{local}", local));
        if self.role == SessionRole::Api {
            text.push_str(&BECOME_API.replace("{local}", local));
        }
        if server >= 170_000 {
            let _ = writeln!(text, "{set} transaction_timeout = 0;");
        }
        for (setting, limit) in [
            ("idle_in_transaction_session_timeout", self.idle_in_transaction),
            ("lock_timeout", self.lock),
            ("statement_timeout", self.statement),
        ] {
            // a limit below a millisecond would mean no limit
            let milliseconds = if limit.is_zero() { 0 } else { limit.as_millis().max(1) };
            let _ = writeln!(text, "{set} {setting} = {milliseconds};");
        }
        text
    }

    /// Sets the session of `conn` up, unless other clients share it: one round trip.
    ///
    /// # Errors
    /// Any error of the database; the connection must not be used then.
    pub(super) async fn set_up(&self, conn: &mut PgConnection, pooler: Pooler) -> Result<(), sqlx::Error> {
        if pooler == Pooler::Transaction {
            return Ok(());
        }
        let server = conn.server_version_num().unwrap_or_default();
        let statements = self.statements(server, "SET", &SESSION_ONLY, "false") + COMPRESS_FAST;
        // several statements in one message: earlier settings already apply to later statements
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(conn).await.map(|_| ())
    }
}
