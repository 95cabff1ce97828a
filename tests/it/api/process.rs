//! The role `api` in the real process: its start, its readiness, its protocols and its end.
//!
//! Also owns the client of such a process, which the test that kills processes uses.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use billing_sync::api::principal::Scope;
use billing_sync::api::principal::token_store::{self, NewToken};
use billing_sync::database::{Connection, Pool};
use hyper::body::Bytes;
use hyper::{Method, Request};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::harness::{PREFIX, request};
use super::limits::subscription;
use crate::cli::{binary, code, run, words};
use crate::support::client::{Client, Reply};
use crate::support::cluster::{self, TestDatabase, database_with_pool, number};
use crate::support::process::Server;

/// The setting that gives the API a free port.
pub(crate) const LISTEN: (&str, &str) = ("BILLING_SYNC_API_LISTEN", "127.0.0.1:0");
const OPS_LISTEN: (&str, &str) = ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0");

/// Longer than any step takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client of a process, which may end at any time.
#[derive(Debug, Clone)]
pub(super) struct ProcessClient {
    pub(super) address: SocketAddr,
    token: String,
}

impl ProcessClient {
    /// A client that sees all workspaces, with a new token.
    pub(super) async fn new(pool: &Pool, address: SocketAddr) -> Self {
        let token = token_store::random_token().unwrap();
        let new = NewToken { token: &token, scopes: &[Scope::WorkspacesAdmin], user: None, note: None, lifetime: None };
        token_store::create(&mut pool.acquire().await.unwrap(), &new).await.unwrap();
        Self { address, token: token.expose() }
    }

    /// Sends a request to a path; `None` without a whole answer.
    pub(super) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Option<Reply> {
        let authorization = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        all.extend(headers);
        let body = body.map(Value::to_string);
        let mut client = Client::try_connect(self.address).await?;
        client.try_send(&request(method, path, &all, body.as_deref().map(str::as_bytes))).await?;
        client.reply().await
    }

    async fn get(&self, path: &str) -> Reply {
        self.try_send("GET", path, &[], None).await.unwrap()
    }
}

/// The address of the API in the log line that reports that a process serves.
pub(crate) fn address(serving: &Value) -> SocketAddr {
    let url: url::Url = serving["api"].as_str().unwrap().parse().unwrap();
    url.socket_addrs(|| None).unwrap()[0]
}

async fn api(database: &TestDatabase, environment: &[(&str, &str)]) -> Server {
    Server::start(database, "api", &[&[LISTEN], environment].concat()).await
}

/// Starts a process with only this environment; returns it and the log line that reports that it serves.
async fn start(arguments: &[&str], environment: &[(&str, &str)]) -> (Child, Value) {
    let mut command = Command::from(binary(arguments, environment));
    let mut child = command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let serving = async {
        loop {
            let line = log.next_line().await.unwrap().expect("it does not serve");
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "serving" {
                return entry;
            }
        }
    };
    let serving = timeout(TIMEOUT, serving).await.expect("it does not serve");
    // a full pipe would block the process
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    (child, serving)
}

async fn execute(conn: &mut Connection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

/// Adds a workspace with a subscription that includes 100 words; returns its path.
async fn subscribed(pool: &Pool) -> String {
    let workspace = Uuid::from_u128(1);
    let insert = format!("INSERT INTO billing.workspaces (id, name) VALUES ('{workspace}', 'Team')");
    let mut conn = pool.acquire().await.unwrap();
    execute(&mut conn, &insert).await;
    execute(&mut conn, &subscription("sub", workspace, &[("words", "100")])).await;
    format!("{PREFIX}/v1/workspaces/{workspace}")
}

/// Waits until the query returns a value other than 0.
async fn until(pool: &Pool, query: &str) {
    let began = Instant::now();
    while number(pool, query).await == 0 {
        assert!(began.elapsed() < TIMEOUT, "never true: {query}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until `/readyz` answers with this status. Returns its reason.
async fn until_ready_is(server: &Server, status: u16) -> String {
    let began = Instant::now();
    loop {
        let reply = server.ask("/readyz").await;
        if reply.status == status {
            return reply.text;
        }
        assert!(began.elapsed() < TIMEOUT, "/readyz stays {}: {}", reply.status, reply.text);
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_api_alone_needs_no_signing_secret_and_logs_its_url() {
    let (database, pool) = database_with_pool().await;
    let environment = [("DATABASE_URL", database.url.as_str()), LISTEN, OPS_LISTEN];
    let (mut child, serving) = start(&["serve", "--roles", "api"], &environment).await;
    let address = address(&serving);
    assert_eq!(serving["api"], format!("http://{address}{PREFIX}"), "{serving}");
    assert_eq!((&serving["roles"], serving.get("webhooks")), (&json!("api"), None), "{serving}");
    let client = ProcessClient::new(&pool, address).await;
    client.get(&format!("{PREFIX}/v1/workspaces")).await.json(200);
    child.kill().await.unwrap();
}

/// The test holds the address of the API, so a process that listened on it could not start.
#[tokio::test]
async fn without_the_role_the_api_does_not_listen() {
    let database = cluster::database().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("STRIPE_WEBHOOK_SECRET", "whsec_of_the_test"),
        ("BILLING_SYNC_LISTEN", "127.0.0.1:0"),
        ("BILLING_SYNC_API_LISTEN", &address),
        OPS_LISTEN,
    ];
    let (mut child, serving) = start(&["serve"], &environment).await;
    assert_eq!(
        (&serving["roles"], serving.get("api")),
        (&"receiver,worker,renewals,reconcile,maintenance".into(), None)
    );
    child.kill().await.unwrap();
    let output = run(&["serve", "--roles", "api"], &environment);
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 1, "{errors}");
    assert!(errors.contains("for the workspace API") && errors.contains("BILLING_SYNC_API_LISTEN"), "{errors}");
}

#[test]
fn an_address_of_another_listener_is_a_wrong_setting() {
    for (roles, taken, listeners) in [
        ("api", "0.0.0.0:9464", "BILLING_SYNC_API_LISTEN, BILLING_SYNC_OPS_LISTEN"),
        ("receiver,api", "127.0.0.1:8080", "BILLING_SYNC_LISTEN, BILLING_SYNC_API_LISTEN"),
    ] {
        let environment = [
            ("DATABASE_URL", "postgres://h/d"),
            ("STRIPE_WEBHOOK_SECRET", "whsec_of_the_test"),
            ("BILLING_SYNC_API_LISTEN", taken),
        ];
        let output = run(&["serve", "--roles", roles], &environment);
        let errors = words(&output.stderr);
        assert_eq!(code(&output), 2, "{errors}");
        assert!(errors.contains(&format!("{listeners} wrong are ")), "{errors}");
    }
}

#[tokio::test]
async fn the_prefix_is_a_setting_and_other_paths_do_not_exist() {
    let (database, pool) = database_with_pool().await;
    for (setting, prefix) in [("/api/workspace-service", PREFIX), ("/billing/", "/billing"), ("/", "")] {
        let server = api(&database, &[("BILLING_SYNC_API_WORKSPACES", setting)]).await;
        let client = ProcessClient::new(&pool, address(server.serving())).await;
        assert_eq!(server.serving()["api"], format!("http://{}{prefix}", client.address));
        client.get(&format!("{prefix}/v1/workspaces")).await.json(200);
        let others = ["/api/workspace-service", "/billing", "", "/other", "/api"];
        for other in others.into_iter().filter(|other| *other != prefix) {
            client.get(&format!("{other}/v1/workspaces")).await.problem("not-found");
        }
        server.kill().await;
    }
}

#[tokio::test]
async fn readyz_reports_an_old_schema() {
    let (database, pool) = database_with_pool().await;
    let server = api(&database, &[]).await;
    assert_eq!(until_ready_is(&server, 200).await, "ready: all migrations are applied\n");
    let newest = "(SELECT max(version) FROM billing.schema_migrations)";
    let version = number(&pool, &format!("SELECT {newest}")).await;
    let mut conn = pool.acquire().await.unwrap();
    let forget = format!(
        "CREATE TABLE public.applied AS SELECT * FROM billing.schema_migrations WHERE version = {version};
        DELETE FROM billing.schema_migrations WHERE version = {version}"
    );
    execute(&mut conn, &forget).await;
    let reply = server.ask("/readyz").await;
    let missing = format!("not ready: migrations are missing ({version}):");
    assert!(reply.status == 503 && reply.text.starts_with(&missing), "{}", reply.text);
    execute(&mut conn, "INSERT INTO billing.schema_migrations SELECT * FROM public.applied").await;
    assert_eq!(server.ask("/readyz").await.status, 200);
    server.kill().await;
}

/// While the database refuses connections, every request is answered 503, and may be repeated.
#[tokio::test]
async fn without_a_database_the_api_is_not_ready_and_requests_can_be_repeated() {
    let (database, pool) = database_with_pool().await;
    let server = api(&database, &[]).await;
    let client = ProcessClient::new(&pool, address(server.serving())).await;
    let path = format!("{PREFIX}/v1/workspaces");
    client.get(&path).await.json(200);
    pool.close().await;
    let mut admin = Connection::from(database.options.clone().database("postgres").connect().await.unwrap());
    let name = &database.name;
    let refuse = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    execute(&mut admin, &refuse).await;
    for _ in 0..10 {
        let reply = client.get(&path).await;
        let problem = reply.problem("database-unavailable");
        assert_eq!((reply.status, &problem["retryable"]), (503, &json!(true)));
        assert_eq!(reply.header("retry-after"), Some("2"));
        assert!(!reply.text.contains(name.as_str()), "the client does not learn the name of the database");
    }
    let reason = until_ready_is(&server, 503).await;
    assert!(reason.starts_with("not ready: ") && reason.contains("cannot be reached"), "{reason}");
    execute(&mut admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    until_ready_is(&server, 200).await;
    client.get(&path).await.json(200);
    server.kill().await;
}

/// The probe keeps its connection, and the server refuses others: what the API needs is missing.
#[tokio::test]
async fn readyz_names_the_api_if_it_gets_no_connection() {
    let database = cluster::empty_database().await;
    let mut admin = Connection::from(database.options.connect().await.unwrap());
    let login = format!("api_{}", database.name);
    let (options, name) = (&database.options, &database.name);
    let create = format!(
        "CREATE ROLE {login} LOGIN PASSWORD 'x'; GRANT CREATE, CONNECT, TEMPORARY ON DATABASE {name} TO {login}"
    );
    execute(&mut admin, &create).await;
    let host = options.get_socket().map_or(options.get_host().to_owned(), |path| path.display().to_string());
    let url = format!("host='{host}' port={} dbname={name} user={login} password=x", options.get_port());
    let migrated = run(&["migrate"], &[("DATABASE_URL", &url)]);
    assert_eq!(code(&migrated), 0, "{}", words(&migrated.stderr));
    let server = Server::start_on(&url, "api", &[LISTEN]).await;
    until_ready_is(&server, 200).await;
    // the probe's session is the one that checks writes and counts connections
    let refuse = format!(
        "ALTER ROLE {login} CONNECTION LIMIT 1;
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{login}'
            AND query NOT LIKE '%billing_sync_write_check%' AND query NOT LIKE '%database.connection_limits%'"
    );
    execute(&mut admin, &refuse).await;
    // a connection that was used a moment ago is not checked
    sleep(Duration::from_millis(700)).await;
    let reply = server.ask("/readyz").await;
    assert_eq!(reply.status, 503, "{}", reply.text);
    let named = format!("not ready: the workspace API: the database at {host}");
    assert!(reply.text.starts_with(&named) && reply.text.contains("too many connections"), "{}", reply.text);
    execute(&mut admin, &format!("ALTER ROLE {login} CONNECTION LIMIT -1")).await;
    until_ready_is(&server, 200).await;
    server.kill().await;
    // roles belong to the server and would remain
    execute(&mut admin, &format!("DROP OWNED BY {login} CASCADE; DROP ROLE {login}")).await;
}

/// Consuming takes some seconds, without a lock.
const SLOW: &str = "
    CREATE FUNCTION public.pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE UPDATE ON billing.subscription_limits FOR EACH ROW EXECUTE FUNCTION public.pause()";

#[tokio::test]
async fn sigterm_answers_requests_in_flight_and_waiting_ones() {
    let (database, pool) = database_with_pool().await;
    let mut server = api(&database, &[]).await;
    let client = ProcessClient::new(&pool, address(server.serving())).await;
    let path = subscribed(&pool).await;
    execute(&mut pool.acquire().await.unwrap(), SLOW).await;
    let waiting = tokio::spawn({
        let (client, path) = (client.clone(), path.clone());
        async move { client.try_send("GET", &path, &[("Prefer", "wait=30")], None).await }
    });
    let in_flight = tokio::spawn({
        let (client, path) = (client.clone(), format!("{path}/limits/words/consume"));
        async move { client.try_send("POST", &path, &[], Some(&json!({ "amount": 1 }))).await }
    });
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    until(&pool, sleeping).await;
    // asks the database every second
    let asking =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '-- api.workspace%'";
    until(&pool, asking).await;
    let begin = Instant::now();
    server.signal(Signal::SIGTERM);
    server.log_line("stopping; finishing work in flight").await;
    let waiting = waiting.await.unwrap().expect("an answer");
    assert_eq!((waiting.status, waiting.header("connection")), (200, Some("close")), "{waiting:?}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(waiting.json(200)["name"], "Team");
    let in_flight = in_flight.await.unwrap().expect("an answer");
    assert_eq!(in_flight.json(200)["available"], 99);
    assert_eq!(server.ended().await, Some(0));
    assert!(TcpStream::connect(client.address).await.is_err(), "it still listens");
}

/// Sends a request over an HTTP/2 connection; returns status, headers and body.
async fn over_http_2(
    requests: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    body: &'static str,
) -> (u16, hyper::HeaderMap, Value) {
    let mut requests = requests.ready().await.unwrap();
    let (response, mut sender) = requests.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        sender.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
    }
    let (head, mut received) = response.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = received.data().await {
        let data = data.unwrap();
        received.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    (head.status.as_u16(), head.headers, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let (database, pool) = database_with_pool().await;
    let server = api(&database, &[]).await;
    let client = ProcessClient::new(&pool, address(server.serving())).await;
    let path = subscribed(&pool).await;
    let stream = TcpStream::connect(client.address).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = |method: Method, rest: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(format!("http://x{path}{rest}"));
        request = request.header("authorization", format!("Bearer {}", client.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    };
    // one stream waits, and delays no other
    let waits = request(Method::GET, "", &[("prefer", "wait=20")]);
    let waiting = tokio::spawn(over_http_2(requests.clone(), waits, ""));
    let read = over_http_2(requests.clone(), request(Method::GET, "", &[]), "").await;
    assert_eq!((read.0, &read.2["name"]), (200, &json!("Team")));
    sleep(Duration::from_millis(500)).await;
    let json_body = [("content-type", "application/json"), ("idempotency-key", "a key")];
    let consume = || request(Method::POST, "/limits/words/consume", &json_body);
    let first = over_http_2(requests.clone(), consume(), r#"{"amount":40}"#).await;
    assert_eq!((first.0, &first.2["available"]), (200, &json!(60)));
    let again = over_http_2(requests.clone(), consume(), r#"{"amount":40}"#).await;
    assert_eq!((again.0, &again.2, &again.1["idempotent-replayed"]), (200, &first.2, &"true".parse().unwrap()));
    let refused = over_http_2(requests.clone(), request(Method::DELETE, "", &[]), "").await;
    assert_eq!((refused.0, &refused.2["code"]), (409, &json!("workspace-has-subscription")));
    // consuming has changed the workspace
    let waited = timeout(Duration::from_secs(15), waiting).await.expect("an answer").unwrap();
    assert_eq!((waited.0, &waited.1["preference-applied"]), (200, &"wait=20".parse().unwrap()));
    assert_eq!(waited.2["_embedded"]["currentSubscription"]["usedWords"], 40);
    drop(requests);
    assert!(timeout(TIMEOUT, connection).await.expect("the connection is closed").unwrap().is_ok());
    server.kill().await;
}
