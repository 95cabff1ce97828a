//! What a role needs: the owner of the schema may do everything, its members too, and what else is missing is named.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{code, run, words};
use crate::support::cluster::{self, TestDatabase};
use crate::support::events::{customer, event};
use crate::support::process::Server;

/// A database as a careful administrator hands it out: nobody may create anything in it, and the schema has an owner
/// who cannot log in.
struct Handed {
    database: TestDatabase,
    admin: PgConnection,
    owner: String,
    logins: Vec<String>,
}

impl Handed {
    async fn with_schema() -> Self {
        let database = cluster::empty_database().await;
        let mut admin = PgConnection::connect_with(&database.options).await.unwrap();
        let owner = format!("owner_of_{}", database.name);
        execute(&mut admin, &format!("CREATE ROLE {owner} NOLOGIN")).await;
        execute(&mut admin, &format!("CREATE SCHEMA billing AUTHORIZATION {owner}")).await;
        execute(&mut admin, &format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", database.name)).await;
        execute(&mut admin, "REVOKE ALL ON SCHEMA public FROM PUBLIC").await;
        Self { database, admin, owner, logins: Vec::new() }
    }

    /// A login that may connect and no more; its connection string.
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

    /// A member of the owner's role.
    async fn member(&mut self, name: &str, attributes: &str) -> String {
        let url = self.login(name, attributes).await;
        let login = self.logins.last().unwrap().clone();
        execute(&mut self.admin, &format!("GRANT {} TO {login}", self.owner)).await;
        url
    }

    async fn text(&mut self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.admin).await.unwrap()
    }

    /// Roles belong to the server and would stay.
    async fn finish(mut self) {
        let all = format!("{}, {}", self.owner, self.logins.join(", "));
        execute(&mut self.admin, &format!("DROP OWNED BY {all} CASCADE")).await;
        execute(&mut self.admin, &format!("DROP ROLE {all}")).await;
    }
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

fn migrate(url: &str) -> (i32, String) {
    let output = run(&["migrate"], &[("DATABASE_URL", url)]);
    (code(&output), format!("{} {}", words(&output.stdout), words(&output.stderr)))
}

/// Who owns what is in the schema.
const OWNERS: &str = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ',') FROM pg_class
    WHERE relnamespace = 'billing'::regnamespace";

#[tokio::test]
async fn the_owner_of_the_schema_migrates_and_serves_though_it_may_create_no_schema() {
    let mut handed = Handed::with_schema().await;
    let url = handed.login("service", "").await;
    let login = handed.logins[0].clone();
    execute(&mut handed.admin, &format!("ALTER SCHEMA billing OWNER TO {login}")).await;
    let (exit, said) = migrate(&url);
    assert!(exit == 0 && said.contains("the schema is up to date"), "{said}");
    let (exit, said) = migrate(&url);
    assert!(exit == 0 && said.starts_with("nothing to do"), "{said}");
    let server = Server::start_at(&url, "receiver,worker,renewals,maintenance", &["--migrate"]).await;
    server.kill().await;
    assert_eq!(handed.text(OWNERS).await, login);
    handed.finish().await;
}

#[tokio::test]
async fn logins_of_one_day_leave_what_the_next_one_can_alter() {
    let mut handed = Handed::with_schema().await;
    let first = handed.member("monday", "NOINHERIT").await;
    let (exit, said) = migrate(&first);
    assert!(exit == 0 && said.contains("the schema is up to date"), "{said}");
    // a month that the next one has to create, as a partition of a table that it alters so
    let last = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'billing.outbox'::regclass
        ORDER BY 1 DESC OFFSET 1 LIMIT 1";
    let last = handed.text(last).await;
    execute(&mut handed.admin, &format!("DROP TABLE {last}")).await;
    let second = handed.member("tuesday", "NOINHERIT").await;
    let mut server = Server::start_at(&second, "receiver,worker,renewals,maintenance", &[]).await;
    server.log_line("created monthly partitions").await;
    server.kill().await;
    let (exit, said) = migrate(&second);
    assert!(exit == 0 && said.starts_with("nothing to do"), "{said}");
    let owner = handed.owner.clone();
    assert_eq!(handed.text(OWNERS).await, owner);
    handed.finish().await;
}

#[tokio::test]
async fn a_missing_privilege_is_named_with_the_object_and_the_statement_that_grants_it() {
    let mut handed = Handed::with_schema().await;
    let member = handed.member("member", "").await;
    let (url, login) = (handed.login("poor", "").await, handed.logins[1].clone());
    let owner = handed.owner.clone();
    execute(&mut handed.admin, "DROP SCHEMA billing").await;
    let database = handed.database.name.clone();
    let (exit, said) = migrate(&url);
    let expected = format!(
        "the role {login} has no CREATE privilege on the database {database}, and the schema billing does not exist: as an \
         administrator run CREATE SCHEMA billing AUTHORIZATION {login}"
    );
    assert!(exit == 1 && said.contains(&expected), "{said}");
    execute(&mut handed.admin, &format!("CREATE SCHEMA billing AUTHORIZATION {owner}")).await;
    let (exit, said) = migrate(&url);
    let expected = format!(
        "the role {login} has no USAGE privilege on the schema billing: as its owner, {owner}, run GRANT {owner} TO {login}"
    );
    assert!(exit == 1 && said.contains(&expected), "{said}");
    execute(&mut handed.admin, &format!("GRANT USAGE ON SCHEMA billing TO {login}")).await;
    let (exit, said) = migrate(&url);
    assert!(exit == 1 && said.contains(&format!("{login} has no CREATE privilege on the schema billing")), "{said}");
    assert_eq!(migrate(&member).0, 0);
    // step by step: each sentence names what the next start needs
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
            execute(&mut handed.admin, &format!("{grant} TO {login}")).await;
        }
        let environment = [("DATABASE_URL", url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_x")];
        let output =
            run(&["serve", "--roles", roles, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"], &environment);
        let said = words(&output.stderr);
        assert!(code(&output) != 0 && said.contains(expected), "{grant}: {said}");
        assert!(said.contains(&format!("TO {login}")) && said.contains("GRANT"), "{said}");
    }
    let server = Server::start_at(&url, "receiver,worker,renewals", &[]).await;
    server.kill().await;
    handed.finish().await;
}

#[tokio::test]
async fn with_few_connections_deliveries_are_stored_and_the_process_is_ready() {
    let mut handed = Handed::with_schema().await;
    // the parts would like to have ten
    let url = handed.member("few", "CONNECTION LIMIT 5").await;
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
    handed.finish().await;
}
