//! A product's database: a login with the role `billing_product`, its own table `documents`, workspaces with limits.

use std::time::Duration;

use billing_sync::database::Connection;
use sqlx::{AssertSqlSafe, ConnectOptions};
use uuid::Uuid;

use super::proxy::Proxy;
use crate::limits::rows::{NEW, Rows};

const ROLES: &str = include_str!("../../../ops/roles.sql");
const DOCUMENTS: &str = include_str!("../../../examples/documents.sql");

/// The id of the workspace `w` of [`Rows`].
pub(crate) const WORKSPACE: Uuid = Uuid::from_u128(0xf129_0186_a5d0_b1ce_ab27_f4e7_7c0c_5d68);

pub(crate) struct Product {
    pub(crate) rows: Rows,
    /// Connections of the product go through it.
    pub(crate) proxy: Proxy,
    /// Name of the login, and of the schema with its table.
    pub(crate) login: String,
    pub(crate) url: String,
    /// A session of a superuser.
    pub(crate) admin: Connection,
}

impl Product {
    /// A product whose workspace `w` has these limits: `words 100`.
    pub(crate) async fn with(limits: &str) -> Self {
        let rows = Rows::start().await;
        let mut admin = rows.connect().await;
        run(&mut admin, ROLES).await;
        let options = rows.options();
        let database = options.get_database().unwrap();
        let login = format!("product_of_{database}");
        // the server may require a password
        run(&mut admin, &format!("CREATE ROLE {login} LOGIN PASSWORD 'x'")).await;
        run(&mut admin, &format!("GRANT billing_product TO {login}")).await;
        run(&mut admin, &format!("CREATE SCHEMA {login} AUTHORIZATION {login}")).await;
        let mut session = Connection::from(options.clone().username(&login).password("x").connect().await.unwrap());
        run(&mut session, DOCUMENTS).await;
        session.close().await.unwrap();
        let proxy = Proxy::start(options).await;
        let url = format!("postgres://{login}:x@{}/{database}?sslmode=disable", proxy.address);
        rows.subscribe("sub", "w", limits, NEW).await;
        Self { rows, proxy, login, url, admin }
    }

    pub(crate) async fn execute(&mut self, sql: &str) {
        run(&mut self.admin, sql).await;
    }

    /// Runs this statement at the commit of the first transactions that insert a document, as often as this, and counts
    /// all inserts.
    pub(crate) async fn disturb(&mut self, times: u32, statement: &str) {
        let schema = self.login.clone();
        // a sequence also counts what is rolled back; the functions run as a superuser, who may end sessions
        self.execute(&format!(
            "CREATE SEQUENCE {schema}.attempts;
            CREATE FUNCTION {schema}.count() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                PERFORM nextval('{schema}.attempts');
                RETURN NEW;
            END $$;
            CREATE FUNCTION {schema}.disturb() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                IF currval('{schema}.attempts') <= {times} THEN
                    {statement};
                END IF;
                RETURN NULL;
            END $$;
            CREATE TRIGGER count BEFORE INSERT ON {schema}.documents
                FOR EACH ROW EXECUTE FUNCTION {schema}.count();
            CREATE CONSTRAINT TRIGGER disturb AFTER INSERT ON {schema}.documents DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION {schema}.disturb()"
        ))
        .await;
    }

    /// Inserts of documents so far, those that were rolled back included. Needs [`Self::disturb`].
    pub(crate) async fn attempts(&mut self) -> i64 {
        let count = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}.attempts", self.login);
        sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut self.admin).await.unwrap()
    }

    /// The documents, each with its words.
    pub(crate) async fn documents(&self) -> Vec<(Uuid, i64)> {
        let all = format!("SELECT id, words FROM {}.documents ORDER BY words", self.login);
        sqlx::query_as(AssertSqlSafe(all)).fetch_all(&self.rows.pool).await.unwrap()
    }

    /// Words used of the first subscription.
    pub(crate) async fn used(&self) -> i64 {
        let used = "SELECT used FROM billing.subscription_limits
            WHERE subscription_id = md5('sub')::uuid AND limit_key = 'words'";
        sqlx::query_scalar(used).fetch_one(&self.rows.pool).await.unwrap()
    }

    /// Waits until a session of the product waits for another session.
    pub(crate) async fn until_blocked(&self) {
        let session = "SELECT pid FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'";
        // a program needs some seconds to start on a busy machine
        for _ in 0..6000 {
            let pid: Option<i32> =
                sqlx::query_scalar(session).bind(&self.login).fetch_optional(&self.rows.pool).await.unwrap();
            if let Some(pid) = pid {
                return self.rows.until_blocked(pid).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no session of the product waits");
    }

    /// Ends the test and drops the role, because roles belong to the server.
    pub(crate) async fn finish(mut self) {
        let login = self.login.clone();
        let sessions = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{login}'");
        self.execute(&sessions).await;
        self.execute(&format!("DROP OWNED BY {login} CASCADE; DROP ROLE {login}")).await;
    }
}

async fn run(connection: &mut Connection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}
