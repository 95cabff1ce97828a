//! Privileges of roles: the schema's owner and its members may do everything; other missing privileges are reported.

use billing_sync::database::Connection;
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _};

use super::{code, run, words};
use crate::support::cluster::{self, TestDatabase};
use crate::support::events::{customer, event};
use crate::support::process::Server;

/// A database with restrictive privileges: no role may create objects in it, and the owner of the schema cannot log in.
struct RestrictedDatabase {
    database: TestDatabase,
    admin: Connection,
    owner: String,
    logins: Vec<String>,
}

impl RestrictedDatabase {
    async fn with_schema() -> Self {
        let database = cluster::empty_database().await;
        let mut admin = Connection::from(sqlx::PgConnection::connect_with(&database.options).await.unwrap());
        let owner = format!("owner_of_{}", database.name);
        execute(&mut admin, &format!("CREATE ROLE {owner} NOLOGIN")).await;
        execute(&mut admin, &format!("CREATE SCHEMA billing AUTHORIZATION {owner}")).await;
        execute(&mut admin, &format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", database.name)).await;
        execute(&mut admin, "REVOKE ALL ON SCHEMA public FROM PUBLIC").await;
        Self { database, admin, owner, logins: Vec::new() }
    }

    /// Creates a login that may only connect. Returns its connection string.
    async fn login(&mut self, name: &str, attributes: &str) -> String {
        let name = format!("{name}_of_{}", self.database.name);
        execute(&mut self.admin, &format!("CREATE ROLE {name} LOGIN {attributes} PASSWORD 'x'")).await;
        execute(&mut self.admin, &format!("GRANT CONNECT ON DATABASE {} TO {name}", self.database.name)).await;
        let options = &self.database.options;
        let host = options.get_socket().map_or(options.get_host().to_owned(), |path| path.display().to_string());
        let url =
            format!("host='{host}' port={} dbname={} user={name} password=x", options.get_port(), self.database.name);
        self.logins.push(name);
        url
    }

    /// Creates a login that is a member of the owner's role.
    async fn member(&mut self, name: &str, attributes: &str) -> String {
        let url = self.login(name, attributes).await;
        let login = self.logins.last().unwrap().clone();
        execute(&mut self.admin, &format!("GRANT {} TO {login}", self.owner)).await;
        url
    }

    async fn text(&mut self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.admin).await.unwrap()
    }

    /// Drops the roles: they belong to the server and would remain.
    async fn finish(mut self) {
        let all = format!("{}, {}", self.owner, self.logins.join(", "));
        execute(&mut self.admin, &format!("DROP OWNED BY {all} CASCADE")).await;
        execute(&mut self.admin, &format!("DROP ROLE {all}")).await;
    }
}

async fn execute(connection: &mut Connection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

fn migrate(url: &str) -> (i32, String) {
    let output = run(&["migrate"], &[("DATABASE_URL", url)]);
    (code(&output), format!("{} {}", words(&output.stdout), words(&output.stderr)))
}

/// Owners of the objects in the schema.
const OWNERS: &str = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ',') FROM pg_class
    WHERE relnamespace = 'billing'::regnamespace";

#[tokio::test]
async fn the_schema_owner_migrates_and_serves_without_create_rights() {
    let mut restricted = RestrictedDatabase::with_schema().await;
    let url = restricted.login("service", "").await;
    let login = restricted.logins[0].clone();
    execute(&mut restricted.admin, &format!("ALTER SCHEMA billing OWNER TO {login}")).await;
    let (exit, printed) = migrate(&url);
    assert!(exit == 0 && printed.contains("the schema is up to date"), "{printed}");
    let (exit, printed) = migrate(&url);
    assert!(exit == 0 && printed.starts_with("nothing to do"), "{printed}");
    let server = Server::start_at(&url, "receiver,worker,renewals,maintenance", &["--migrate"]).await;
    server.kill().await;
    assert_eq!(restricted.text(OWNERS).await, login);
    restricted.finish().await;
}

#[tokio::test]
async fn temporary_logins_create_objects_that_the_next_can_alter() {
    let mut restricted = RestrictedDatabase::with_schema().await;
    let first = restricted.member("monday", "NOINHERIT").await;
    let (exit, printed) = migrate(&first);
    assert!(exit == 0 && printed.contains("the schema is up to date"), "{printed}");
    // the second login must create this month, which alters a table of the first
    let last = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'billing.outbox'::regclass
        ORDER BY 1 DESC OFFSET 1 LIMIT 1";
    let last = restricted.text(last).await;
    execute(&mut restricted.admin, &format!("DROP TABLE {last}")).await;
    let second = restricted.member("tuesday", "NOINHERIT").await;
    let mut server = Server::start_at(&second, "receiver,worker,renewals,maintenance", &[]).await;
    server.log_line("created monthly partitions").await;
    server.kill().await;
    let (exit, printed) = migrate(&second);
    assert!(exit == 0 && printed.starts_with("nothing to do"), "{printed}");
    let owner = restricted.owner.clone();
    assert_eq!(restricted.text(OWNERS).await, owner);
    restricted.finish().await;
}

/// The runbook for a new password: a second login, processes that are replaced one by one, and the end of the first.
#[tokio::test]
async fn a_login_is_replaced_while_events_arrive() {
    let mut restricted = RestrictedDatabase::with_schema().await;
    let first = restricted.member("first", "").await;
    assert_eq!(migrate(&first).0, 0);
    let old = Server::start_on(&first, "receiver,worker,renewals,maintenance", &[]).await;
    let created = |number: u32| {
        let object = customer(&format!("cus_{number}"), "Ada");
        event(&format!("evt_{number}"), "customer.created", 0, &object, None)
    };
    assert_eq!(old.deliver(&created(1)).await, Some(200));
    let second = restricted.member("second", "").await;
    let new = Server::start_on(&second, "receiver,worker,renewals,maintenance", &[]).await;
    assert_eq!((old.deliver(&created(2)).await, new.deliver(&created(3)).await), (Some(200), Some(200)));
    old.signal(Signal::SIGTERM);
    assert_eq!(old.ended().await, Some(0));

    let login = restricted.logins.remove(0);
    let sessions = format!("SELECT count(*)::text FROM pg_stat_activity WHERE usename = '{login}'");
    while restricted.text(&sessions).await != "0" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // only this test has revoked it from all others, so that it must be granted
    execute(&mut restricted.admin, &format!("REVOKE CONNECT ON DATABASE {} FROM {login}", restricted.database.name))
        .await;
    execute(&mut restricted.admin, &format!("DROP ROLE {login}")).await;
    assert_eq!(new.deliver(&created(4)).await, Some(200));
    assert_eq!(new.ask("/readyz").await.status, 200);
    while restricted.text("SELECT count(*)::text FROM billing.billing_contacts").await != "4" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    new.kill().await;
    restricted.finish().await;
}

#[tokio::test]
async fn a_missing_privilege_is_reported_with_object_and_grant() {
    let mut restricted = RestrictedDatabase::with_schema().await;
    let member = restricted.member("member", "").await;
    let (url, login) = (restricted.login("poor", "").await, restricted.logins[1].clone());
    let owner = restricted.owner.clone();
    execute(&mut restricted.admin, "DROP SCHEMA billing").await;
    let database = restricted.database.name.clone();
    let (exit, printed) = migrate(&url);
    let expected = format!(
        "the role {login} has no CREATE privilege on the database {database}, and the schema billing does not exist: as an \
         administrator run CREATE SCHEMA billing AUTHORIZATION {login}"
    );
    assert!(exit == 1 && printed.contains(&expected), "{printed}");
    execute(&mut restricted.admin, &format!("CREATE SCHEMA billing AUTHORIZATION {owner}")).await;
    let (exit, printed) = migrate(&url);
    let expected = format!(
        "the role {login} has no USAGE privilege on the schema billing: as its owner, {owner}, run GRANT {owner} TO {login}"
    );
    assert!(exit == 1 && printed.contains(&expected), "{printed}");
    execute(&mut restricted.admin, &format!("GRANT USAGE ON SCHEMA billing TO {login}")).await;
    let (exit, printed) = migrate(&url);
    assert!(
        exit == 1 && printed.contains(&format!("{login} has no CREATE privilege on the schema billing")),
        "{printed}"
    );
    assert_eq!(migrate(&member).0, 0);
    // each error names the privilege that the next start needs
    for (grant, roles, expected) in [
        ("", "receiver", "has no SELECT privilege on the table billing.schema_migrations"),
        (
            "GRANT SELECT ON ALL TABLES IN SCHEMA billing",
            "receiver",
            "has no INSERT privilege on the table billing.events",
        ),
        ("GRANT ALL ON ALL TABLES IN SCHEMA billing", "worker", "has no USAGE privilege on the sequence billing."),
        (
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA billing",
            "worker",
            "has no EXECUTE privilege on the function billing.",
        ),
        (
            "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA billing",
            "maintenance",
            "cannot create its partitions (role maintenance)",
        ),
    ] {
        if !grant.is_empty() {
            execute(&mut restricted.admin, &format!("{grant} TO {login}")).await;
        }
        let environment = [("DATABASE_URL", url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_x")];
        let output =
            run(&["serve", "--roles", roles, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"], &environment);
        let printed = words(&output.stderr);
        assert!(code(&output) != 0 && printed.contains(expected), "{grant}: {printed}");
        assert!(printed.contains(&format!("TO {login}")) && printed.contains("GRANT"), "{printed}");
    }
    let server = Server::start_at(&url, "receiver,worker,renewals", &[]).await;
    server.kill().await;
    restricted.finish().await;
}

#[tokio::test]
async fn with_few_connections_events_are_stored_and_it_is_ready() {
    let mut restricted = RestrictedDatabase::with_schema().await;
    // without a limit the parts would use ten
    let url = restricted.member("few", "CONNECTION LIMIT 5").await;
    assert_eq!(migrate(&url).0, 0);
    let server = Server::start_on(&url, "receiver,worker,renewals,maintenance", &[]).await;
    for number in 0..10 {
        let one = event(&format!("evt_{number}"), "customer.created", 0, &customer("cus_1", "Ada"), None);
        assert_eq!(server.deliver(&one).await, Some(200), "delivery {number}");
        let ready = server.ask("/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.text);
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    server.kill().await;
    restricted.finish().await;
}
