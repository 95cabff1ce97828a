//! Session settings that our statements rely on, set once right after connecting.
//!
//! A role, a database or a server may have other defaults: another isolation level, a time zone, a search path with
//! functions that shadow the built-in ones, timeouts, JIT, a slow compression of large values. Plain `SET` statements
//! override them. Startup options would too, but poolers refuse those. Read-only defaults stay as they are, because an
//! operator who sets one wants no writes.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use super::role::{BECOME_API, BECOME_OWNER};

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

/// Settings that are the same in every session.
///
/// The statement timeout comes first, because a default of a millisecond would cancel the rest. The search path is
/// second, so that later statements cannot be shadowed. `pg_temp` is listed so that it is searched last.
const COMMON: &str = "
-- database.session
SET statement_timeout = 0;
SET search_path = pg_catalog, pg_temp;
SET default_transaction_isolation = 'read committed';
SET default_transaction_deferrable = off;
SET \"TimeZone\" = 'UTC';
SET \"DateStyle\" = 'ISO, MDY';
SET \"IntervalStyle\" = 'postgres';
SET bytea_output = 'hex';
SET standard_conforming_strings = on;
SET transform_null_equals = off;
SET jit = off;
SET plan_cache_mode = auto;
SET client_min_messages = warning;
SET idle_session_timeout = 0;
SET tcp_keepalives_idle = 60;
SET tcp_keepalives_interval = 10;
SET tcp_keepalives_count = 6;
SELECT set_config('client_connection_check_interval', '10s', false) WHERE version() !~* 'windows|visual c|mingw';
SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals);
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

    /// The statements that set a session up, for a server of this version number (150018 is 15.18).
    fn statements(&self, server: u32) -> String {
        let mut text = COMMON.to_owned() + BECOME_OWNER;
        if self.role == SessionRole::Api {
            text.push_str(BECOME_API);
        }
        if server >= 170_000 {
            text.push_str("SET transaction_timeout = 0;\n");
        }
        for (setting, limit) in [
            ("idle_in_transaction_session_timeout", self.idle_in_transaction),
            ("lock_timeout", self.lock),
            ("statement_timeout", self.statement),
        ] {
            // a limit below a millisecond would mean no limit
            let milliseconds = if limit.is_zero() { 0 } else { limit.as_millis().max(1) };
            let _ = writeln!(text, "SET {setting} = {milliseconds};");
        }
        text
    }

    /// Sets the session of `conn` up: one round trip.
    ///
    /// # Errors
    /// Any error of the database; the connection must not be used then.
    pub(super) async fn set_up(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let statements = self.statements(conn.server_version_num().unwrap_or_default());
        // several statements in one message: earlier settings already apply to later statements
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(conn).await.map(|_| ())
    }
}

/// Opens one connection outside of a pool and sets it up.
///
/// # Errors
/// Any error of the network or the database.
pub async fn connect(options: &PgConnectOptions, session: Session) -> Result<PgConnection, sqlx::Error> {
    let mut conn = options.connect().await?;
    session.set_up(&mut conn).await?;
    Ok(conn)
}
