//! Transaction mode: every part and every command gives the results of a direct connection, whatever other clients leave
//! in the sessions of the pooler, and leaves nothing in them itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Pooler, run, run_with};
use crate::api::harness::{PREFIX, request};
use crate::api::process::{LISTEN, address};
use crate::support::app::ROWS;
use crate::support::client::Client;
use crate::support::cluster::{self, TestDatabase};
use crate::support::process::Server;
use crate::support::stripe::{Epoch, FakeStripe};

const MODE: (&str, &str) = ("BILLING_SYNC_POOLER", "transaction");

/// Longer than any step takes on a loaded machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// What another client may leave in a session, each of which would change or fail our statements.
const LEFT_BEHIND: &str = r#"
    RESET ROLE;
    SET search_path = nowhere;
    SET "TimeZone" = 'Pacific/Auckland';
    SET "IntervalStyle" = 'sql_standard';
    SET bytea_output = 'escape';
    SET default_transaction_isolation = 'serializable';
    SET default_transaction_deferrable = on;
    SET lock_timeout = '1ms';
    SET statement_timeout = '50ms';
    SET jit = on;
    SET transform_null_equals = on;
    SET synchronous_commit = off;
    SET work_mem = '64kB';
    SET temp_buffers = '1MB';
    SET app.tenant = 'another';
    SET row_security = off;
    SET enable_indexscan = off;
    SET session_replication_role = replica;
    CREATE TEMPORARY TABLE IF NOT EXISTS outbox (mine integer);
    SET ROLE pg_read_all_settings"#;

fn options(url: &str) -> PgConnectOptions {
    // pgbouncer refuses a startup parameter that it does not know
    url.parse::<PgConnectOptions>().unwrap().extra_float_digits(None)
}

/// A name that sqlx gives to a prepared statement. Fails in a session that has it already.
const PREPARED: &str = "PREPARE sqlx_s_1 AS SELECT 'another client'";

/// Another client of the pooler, which leaves settings, tables and prepared statements in its sessions, and counts how
/// often it did.
fn neighbour(url: &str, rounds: Arc<AtomicU32>) -> JoinHandle<()> {
    let options = options(url);
    tokio::spawn(async move {
        let mut conn = options.connect().await.unwrap();
        loop {
            // on a loaded machine, its own timeouts may end it
            if sqlx::raw_sql(LEFT_BEHIND).execute(&mut conn).await.is_ok() {
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            let _ = sqlx::raw_sql(PREPARED).execute(&mut conn).await;
            sleep(Duration::from_millis(5)).await;
        }
    })
}

/// A service with all parts that sync, and its fake Stripe's settings.
struct Story {
    environment: Vec<(String, String)>,
    stripe: FakeStripe,
}

impl Story {
    /// Some sales of a plan with limits, two of them to workspaces.
    async fn start() -> Self {
        let stripe = FakeStripe::start().await;
        let product = stripe.product(json!({ "name": "Writing" }));
        let price = stripe.price(&product, 1000, json!({ "metadata": { "limit_words": "5000" } }));
        for number in 1..=6_u128 {
            let workspace = if number <= 2 { Uuid::from_u128(number).to_string() } else { String::new() };
            let customer = stripe.customer(json!({ "name": format!("Customer {number}"),
                "email": format!("c{number}@example.com"), "metadata": { "workspace_id": workspace } }));
            let subscription = stripe.subscribe(&customer, &price);
            stripe.tick(60);
            stripe.update(&subscription, json!({ "metadata": { "note": number.to_string() } }));
        }
        stripe.tick(3600);
        let environment = [
            ("STRIPE_SECRET_KEY", stripe.key()),
            ("STRIPE_API_BASE", &stripe.base()),
            ("BILLING_SYNC_STRIPE_RATE", "10000"),
            ("BILLING_SYNC_READ_MARGIN", "1s"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { environment: environment.to_vec(), stripe }
    }

    fn environment<'a>(&'a self, further: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(further.iter().copied()).collect()
    }

    /// Runs `serve` on an empty database until all events are applied and all limits are made. Returns the rows, read
    /// over a direct connection.
    async fn rows(&self, database: &TestDatabase, url: &str, mode: &[(&str, &str)]) -> Vec<String> {
        let (exit, text) = run_with(&["migrate"], url, mode).await;
        assert_eq!(exit, Some(0), "{text}");
        let mut conn = database.options.connect().await.unwrap();
        for number in 1..=2_u128 {
            let insert = sqlx::query("INSERT INTO billing.workspaces (id, name) VALUES ($1, 'Team')");
            insert.bind(Uuid::from_u128(number)).execute(&mut conn).await.unwrap();
        }
        let roles = "receiver,worker,renewals,reconcile,maintenance,api";
        let environment = [self.environment(mode), vec![LISTEN]].concat();
        let server = Server::start_on(url, roles, &environment).await;
        // latest first
        for event in self.stripe.events().iter().rev() {
            assert_eq!(server.deliver(&event.json(Epoch::Endive)).await, Some(200), "{}", event.event_type);
        }
        until(&mut conn, "SELECT NOT EXISTS (SELECT FROM billing.outbox WHERE state <> 'done')").await;
        until(&mut conn, "SELECT NOT EXISTS (SELECT FROM billing.jobs)").await;
        until(&mut conn, "SELECT count(*) = 2 FROM billing.workspace_limits").await;
        assert_eq!(server.ask("/readyz").await.status, 200);
        let metrics = server.get_metrics().await;
        assert!(metrics.contains("billing_sync_database_up 1"), "{metrics}");
        let answers = answers(&server, url, mode).await;
        server.kill().await;
        let mut lines = answers;
        for query in [ROWS, BALANCES] {
            lines.extend(sqlx::query_scalar::<_, String>(query).fetch_all(&mut conn).await.unwrap());
        }
        lines
    }
}

/// What the workspace API answers to a read, to a change, and to its repetition.
async fn answers(server: &Server, url: &str, mode: &[(&str, &str)]) -> Vec<String> {
    let (exit, text) = run_with(&["token", "create", "--scopes", "workspaces:admin"], url, mode).await;
    assert_eq!(exit, Some(0), "{text}");
    let authorization = format!("Bearer {}", text.split(' ').next().unwrap());
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "pooler-1"),
    ];
    let workspace = format!("{PREFIX}/v1/workspaces/{}", Uuid::from_u128(1));
    let mut answers = Vec::new();
    for (method, path, body) in [
        ("POST", "/limits/words/consume", Some(&br#"{"amount":40}"#[..])),
        ("POST", "/limits/words/consume", Some(&br#"{"amount":40}"#[..])),
        ("GET", "/limits", None),
    ] {
        let mut client = Client::connect(address(server.serving())).await;
        client.send(&request(method, &format!("{workspace}{path}"), &headers, body)).await;
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        answers.push(format!("{method} {path}: {}", reply.text));
    }
    answers
}

/// The balances of limits, as comparable lines.
const BALANCES: &str = "
    SELECT concat_ws(' ', workspace_id, limit_key, available, limit_renewal_date) FROM billing.workspace_limits ORDER BY 1";

async fn until(conn: &mut PgConnection, query: &'static str) {
    let began = Instant::now();
    while !sqlx::query_scalar::<_, bool>(query).fetch_one(&mut *conn).await.unwrap() {
        assert!(began.elapsed() < TIMEOUT, "never true: {query}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "needs pgbouncer: make test-pooler"]
async fn the_rows_are_those_of_a_direct_connection() {
    let story = Story::start().await;
    let direct = cluster::empty_database().await;
    let expected = story.rows(&direct, &direct.url, &[]).await;
    assert!(expected.len() >= 6 + 6 + 1 + 2, "{expected:#?}");
    // two workers, each with a transaction that needs a second session for a moment: three are the least
    for pool_size in [3, 20] {
        let database = cluster::empty_database().await;
        let pooler = Pooler::start(&database, "transaction", pool_size).await;
        let rounds = Arc::default();
        let neighbour = neighbour(&pooler.url, Arc::clone(&rounds));
        let rows = story.rows(&database, &pooler.url, &[MODE]).await;
        neighbour.abort();
        assert!(rounds.load(Ordering::Relaxed) > 20, "the other client did nothing");
        assert_eq!(rows, expected, "{pool_size} sessions");
    }
}

#[tokio::test]
#[ignore = "needs pgbouncer: make test-pooler"]
async fn every_command_works_and_leaves_nothing_in_the_session() {
    let story = Story::start().await;
    let database = cluster::empty_database().await;
    let pooler = Pooler::start(&database, "transaction", 1).await;
    let environment = story.environment(&[MODE]);
    let mut faults = Vec::new();
    for (arguments, expected) in [
        ("migrate", "applied 0001"),
        ("migrate", "nothing to do"),
        ("backfill", "objects"),
        ("backfill --json", "\"complete\":true"),
        ("verify", "0 rows differ"),
        ("reconcile", "is stored now"),
        ("rebuild", "0 rows changed"),
        ("renew", "renewed"),
        ("status", "queue"),
        ("doctor", "ok writes a test row was written"),
        ("doctor --orphans", "a workspace"),
        ("outbox list", "evt_"),
        ("outbox prune --dry-run", "nothing to remove"),
        ("token create --scopes workspaces:admin", "created token"),
        ("token list", "workspaces:admin"),
        ("writes list", "no changes"),
        ("explain cus_1", "active since"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let (exit, text) = run_with(&arguments, &pooler.url, &environment).await;
        // Stripe's clock differs in this test
        let is_report = arguments == ["doctor"];
        if exit != Some(i32::from(is_report)) || !text.contains(expected) {
            faults.push(format!("{arguments:?}: {exit:?} {text}"));
        }
        let left = left_in_session(&pooler.url).await;
        if left != CLEAN {
            faults.push(format!("{arguments:?} leaves {left}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    let mut conn = database.options.connect().await.unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(sqlx::query_scalar::<_, i64>(locks).fetch_one(&mut conn).await.unwrap(), 0);
}

/// The settings of a new session, no prepared statement, no temporary table, no other role.
const CLEAN: &str = "\"$user\", public|1s|0|0|0|0|true";

/// What the only session of the pooler contains.
async fn left_in_session(url: &str) -> String {
    let mut conn = options(url).connect().await.unwrap();
    let query = "SELECT concat_ws('|', current_setting('search_path'), current_setting('deadlock_timeout'),
            current_setting('lock_timeout'), current_setting('statement_timeout'),
            (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
            (current_user = session_user)::text)";
    let row = sqlx::raw_sql(query).fetch_one(&mut conn).await.unwrap();
    sqlx::Row::get(&row, 0)
}

#[tokio::test]
#[ignore = "needs pgbouncer: make test-pooler"]
async fn each_transaction_has_the_rights_of_the_owner() {
    let story = Story::start().await;
    let database = cluster::empty_database().await;
    let (owner, login) = (format!("owner_of_{}", database.name), format!("login_of_{}", database.name));
    let mut admin = database.options.connect().await.unwrap();
    for sql in [
        format!("CREATE ROLE {owner} NOLOGIN"),
        format!("CREATE ROLE {login} LOGIN NOINHERIT"),
        format!("GRANT {owner} TO {login}"),
        format!("CREATE SCHEMA billing AUTHORIZATION {owner}"),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    }
    let pooler = Pooler::start_as(&login, &database, "transaction", 3).await;
    let rows = story.rows(&database, &pooler.url, &[MODE]).await;
    assert!(rows.len() >= 6 + 6 + 1 + 2, "{rows:#?}");
    let owners = "SELECT string_agg(DISTINCT tableowner::text, ' ') FROM pg_tables WHERE schemaname = 'billing'";
    assert_eq!(sqlx::query_scalar::<_, String>(owners).fetch_one(&mut admin).await.unwrap(), owner);
}

#[tokio::test]
#[ignore = "needs pgbouncer: make test-pooler"]
async fn statement_mode_is_refused_with_its_cause() {
    let database = cluster::empty_database().await;
    let pooler = Pooler::start(&database, "statement", 4).await;
    for command in [&["migrate"][..], &["serve", "--migrate"], &["status"]] {
        let (exit, text) = run_with(command, &pooler.url, &[MODE]).await;
        assert_eq!(exit, Some(1), "{command:?}: {text}");
        assert!(text.contains("pool_mode"), "{command:?}: {text}");
    }
}

#[tokio::test]
#[ignore = "needs pgbouncer: make test-pooler"]
async fn an_undeclared_pooler_is_refused_with_the_setting() {
    let database = cluster::empty_database().await;
    let pooler = Pooler::start(&database, "transaction", 4).await;
    let (exit, text) = run(&["migrate"], &pooler.url).await;
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("set BILLING_SYNC_POOLER=transaction"), "{text}");
}
