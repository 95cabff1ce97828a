//! A new, migrated database for every test, in one private PostgreSQL per test process.
//!
//! The cluster starts with the first test that needs a database. Rust's test harness has no tear-down, so the cluster
//! ends with the process in any case: the embedded cluster's watcher stops the server when our end of its pipe
//! closes, and a second shell then removes the temp directory. `TEST_DATABASE_URL` names a server to use instead (its
//! role must be allowed to create databases). `DATABASE_URL` is never read, because it may name a real database.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use billing_sync::database::{Connection, Pool};
use billing_sync::embedded::{Cluster, Options};
use billing_sync::migrations;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::sync::OnceCell;

/// Migrates the template that every test's database is a copy of.
async fn migrate(connection: &mut Connection) {
    migrations::run(connection).await.unwrap();
}

/// Changes with the result of [`migrate`], so that a template left on a server of `TEST_DATABASE_URL` is never stale.
fn migrations_fingerprint() -> String {
    let mut hash = Sha256::new();
    for migration in migrations::migrator().iter() {
        hash.update(&*migration.checksum);
    }
    hex::encode(&hash.finalize()[..6])
}

/// A database of one test, dropped with this value.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    /// For sqlx.
    pub(crate) options: PgConnectOptions,
    /// For psql and other processes.
    pub(crate) url: String,
    /// Its name on the server.
    pub(crate) name: String,
}

/// The server on which the databases are created.
struct Server {
    /// A connection string, split before and after the database's name.
    url: (String, String),
    /// Name of a database that always exists.
    maintenance: String,
    /// Keeps the cluster and its remover until the process ends: statics are never dropped.
    _private: Option<(Cluster, Child)>,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A new database with all migrations applied.
pub(crate) async fn database() -> TestDatabase {
    let server = SERVER.get_or_init(Server::prepare).await;
    let name = format!("billing_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut connection = server.connect(&server.maintenance).await;
    run(&mut connection, format!("CREATE DATABASE {name} TEMPLATE {}", template())).await;
    connection.close().await.unwrap();
    let url = server.url_of(&name);
    TestDatabase { options: url.parse().unwrap(), url, name }
}

/// A new database with all migrations applied, and a pool of connections to it.
pub(crate) async fn database_with_pool() -> (TestDatabase, Pool) {
    let database = database().await;
    let pool =
        Pool::from(PgPoolOptions::new().max_connections(4).connect_with(database.options.clone()).await.unwrap());
    (database, pool)
}

/// The number that a query returns.
pub(crate) async fn number(pool: &Pool, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
}

/// A new database without our schema, as before an operator's first `migrate`.
pub(crate) async fn empty_database() -> TestDatabase {
    let database = database().await;
    let mut connection = Connection::from(database.options.connect().await.unwrap());
    run(&mut connection, "DROP SCHEMA billing CASCADE".to_owned()).await;
    connection.close().await.unwrap();
    database
}

fn template() -> String {
    format!("billing_template_{}", migrations_fingerprint())
}

impl Server {
    async fn prepare() -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests have no configuration but this")]
        let given = std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty());
        let server = match given {
            Some(url) => Self::given(&url),
            None => Self::private().await,
        };
        server.make_template().await;
        server
    }

    fn given(url: &str) -> Self {
        let mut parsed = url::Url::parse(url).expect("TEST_DATABASE_URL is not a URL; postgres://user@host/database");
        let maintenance = parsed.path().trim_matches('/').to_owned();
        parsed.set_path("/DATABASE");
        let (before, after) = parsed.as_str().split_once("DATABASE").unwrap();
        Self { url: (before.to_owned(), after.to_owned()), maintenance, _private: None }
    }

    async fn private() -> Self {
        let mut builder = tempfile::Builder::new();
        // as root the server runs as another user, which must be able to enter the directory
        builder.prefix("billing-sync-test-").permissions(Permissions::from_mode(0o711));
        let dir = builder.tempdir().unwrap().keep();
        let mut remover = remove_after_us(&dir);
        let cluster = Cluster::start(&options(&dir)).await.unwrap();
        writeln!(remover.stdin.as_mut().unwrap(), "{}", cluster.data_dir().display()).unwrap();
        let (before, after) =
            cluster.url().split_once("billing?").map(|(b, a)| (b.to_owned(), format!("?{a}"))).unwrap();
        Self { url: (before, after), maintenance: "postgres".to_owned(), _private: Some((cluster, remover)) }
    }

    fn url_of(&self, database: &str) -> String {
        format!("{}{database}{}", self.url.0, self.url.1)
    }

    async fn connect(&self, database: &str) -> Connection {
        let options: PgConnectOptions = self.url_of(database).parse().unwrap();
        Connection::from(options.connect().await.unwrap())
    }

    /// Creates the template under another name first, so that an existing template is always complete. The lock
    /// prevents the processes of nextest, which share a given server, from creating it twice.
    async fn make_template(&self) {
        let mut admin = self.connect(&self.maintenance).await;
        run(&mut admin, "SELECT pg_advisory_lock(4242421)".to_owned()).await;
        let there = sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(template());
        if there.fetch_optional(&mut admin).await.unwrap().is_none() {
            let unfinished = format!("{}_unfinished", template());
            run(&mut admin, format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await;
            run(&mut admin, format!("CREATE DATABASE {unfinished}")).await;
            let mut connection = self.connect(&unfinished).await;
            migrate(&mut connection).await;
            connection.close().await.unwrap();
            run(&mut admin, format!("ALTER DATABASE {unfinished} RENAME TO {}", template())).await;
        }
        admin.close().await.unwrap();
    }
}

/// Options for clusters in tests: nothing needs to survive a power failure.
pub(crate) fn options(dir: &Path) -> Options {
    let settings = vec![("fsync".to_owned(), "off".to_owned()), ("max_connections".to_owned(), "200".to_owned())];
    Options { data_dir: dir.join("data"), pg_bin: None, search_path: search_path(), settings }
}

/// The search path for server programs.
#[expect(clippy::disallowed_methods, reason = "the binary takes PATH from its configuration")]
pub(crate) fn search_path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// A shell that removes `dir`, and the data directory written to its stdin, after the process and then the server have
/// ended. Started before the server, so that a test that is killed during initdb leaves nothing behind either.
fn remove_after_us(dir: &Path) -> Child {
    let script = r#"
        trap '' HUP INT TERM
        read -r data; read -r _
        data=${data:-$1/data}
        while [ -e "$data/postgres/postmaster.pid" ]; do sleep 0.05; done
        tries=0
        until rm -rf "$1" "$data" 2>/dev/null || [ $tries = 50 ]; do sleep 0.1; tries=$((tries + 1)); done"#;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script, "billing-sync-test-remover"]).arg(dir).process_group(0).current_dir("/");
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

async fn run(connection: &mut Connection, statement: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await.unwrap();
}

impl Drop for TestDatabase {
    /// Uses a thread with its own runtime, because the test's may be single-threaded and ends with the test.
    fn drop(&mut self) {
        let name = self.name.clone();
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let Some(server) = SERVER.get() else { return };
                let mut connection = server.connect(&server.maintenance).await;
                run(&mut connection, format!("DROP DATABASE {name} WITH (FORCE)")).await;
            });
        });
        let _ = dropping.join();
    }
}
