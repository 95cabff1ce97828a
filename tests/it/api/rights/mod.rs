//! The workspace API with the rights of the role `billing_api` and no others: every endpoint works, and needs each of
//! them. Also which role its sessions have, and what `serve` and `doctor` report about it (`reports`).
//!
//! The role belongs to the server, and its privileges to one database. So tests can revoke them side by side, and each
//! login has the name of its database. `limits::roles` shows that the role may do nothing else.

mod reports;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use billing_sync::api::openapi;
use billing_sync::api::principal::Scope;
use billing_sync::api::principal::token_store::{self, NewToken};
use billing_sync::config::ops::OpsConfig;
use billing_sync::config::stripe::StripeConfig;
use billing_sync::config::worker::WorkerConfig;
use billing_sync::database::role::{API_ROLE, needed_by_api};
use billing_sync::domain::object::row_id;
use billing_sync::service::{Service, ServiceConfig};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::harness::{ADA, PREFIX, config, request};
use super::schema::operations;
use crate::support::app::{TestApp, sync_config, worker_config};
use crate::support::client::{Client, Reply, get};
use crate::support::fetching::stripe_config;
use crate::support::stripe::{Epoch, FakeStripe};

const ROLES: &str = include_str!("../../../../ops/roles.sql");

/// Requests of a test are more frequent than those of a product. A checkout returns to this origin.
const SETTINGS: [(&str, &str); 3] = [
    ("BILLING_SYNC_API_RATE", "1000000"),
    ("BILLING_SYNC_API_CORS_ORIGINS", ORIGIN),
    ("BILLING_SYNC_API_CHECKOUT_LINKS", LINKS),
];

/// Prefix of the paths of checkout links.
const LINKS: &str = "/links";

const ORIGIN: &str = "https://app.example.com";

const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

/// A process that serves only the API.
struct ApiProcess {
    api: SocketAddr,
    ops: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl ApiProcess {
    async fn start(database: &PgConnectOptions) -> Self {
        Self::start_with(database, None).await
    }

    /// A process that changes objects at the fake Stripe.
    async fn start_writing(database: &PgConnectOptions, stripe: &FakeStripe) -> Self {
        Self::start_with(database, Some((stripe_config(stripe), worker_config()))).await
    }

    async fn start_with(database: &PgConnectOptions, writes: Option<(StripeConfig, WorkerConfig)>) -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let parts = ServiceConfig {
            receiver: None,
            api: Some((config(&SETTINGS), sync_config())),
            writes,
            worker: None,
            renewals: None,
            reconcile: None,
            stripe: None,
            maintenance: None,
            ops: OpsConfig { listen: free },
        };
        let service = Service::bind(&parts, &database.into()).await.unwrap();
        let (api, ops) = (service.api_addr().unwrap(), service.ops_addr());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(service.run(shutdown.clone()));
        Self { api, ops, shutdown, running }
    }

    async fn send(&self, bytes: &[u8]) -> Reply {
        let mut client = Client::connect(self.api).await;
        client.send(bytes).await;
        client.reply().await.unwrap()
    }

    async fn readyz(&self) -> Reply {
        let mut client = Client::connect(self.ops).await;
        client.send(&get("/readyz", &[])).await;
        client.reply().await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

/// A request to the API, and the status of its answer.
struct Sent {
    token: String,
    method: &'static str,
    path: String,
    body: Option<Value>,
    status: u16,
    /// Whether it changes an object at Stripe, which only a process with a key for that can.
    is_change: bool,
    /// Whether the answer to the request before, which has the same key, was not stored.
    is_unanswered: bool,
}

/// A workspace of Ada with everything that the API can show, made by webhooks.
struct World {
    app: TestApp,
    /// A login; [`World::with_roles`] makes it a member of the API's role.
    login: String,
    /// The token of a user, that of an administrator, and that of a service that creates checkout links.
    tokens: [String; 3],
    stripe: FakeStripe,
    customer: String,
    product: String,
    price: String,
    session: String,
    rounds: u32,
}

impl World {
    async fn start() -> Self {
        let (app, stripe) = (TestApp::start().await, FakeStripe::start().await);
        let limits = json!({ "metadata": { "limit_words": "1000", "limit_members": "1000" } });
        let product = stripe.product(json!({}));
        let price = stripe.price(&product, 1900, limits);
        let named = json!({ "workspace_id": WORKSPACE });
        let customer = stripe.customer(json!({ "name": "Ada", "metadata": named }));
        let subscription = stripe.subscribe_with(&customer, &price, json!({ "metadata": named }));
        let session = stripe.checkout(&price, json!({ "customer": customer, "metadata": named }));
        stripe.complete_checkout(&session, &subscription, "paid");
        app.deliver_all(&stripe.events(), Epoch::Endive).await;
        app.drain().await;
        let login = format!("login_of_{}", app.database.name);
        let mut tokens = Vec::new();
        let scopes =
            [(Some(ADA), Scope::WorkspacesWrite), (None, Scope::WorkspacesAdmin), (None, Scope::CheckoutLinkWrite)];
        for (user, scope) in scopes {
            let token = token_store::random_token().unwrap();
            let new = NewToken { token: &token, scopes: &[scope], user, note: None, lifetime: None };
            token_store::create(&mut app.pool.acquire().await.unwrap(), &new).await.unwrap();
            tokens.push(token.expose());
        }
        let tokens = tokens.try_into().unwrap();
        let world = Self { app, login, tokens, stripe, customer, product, price, session, rounds: 0 };
        // the only plan, so that a checkout needs not name it
        world.execute("UPDATE billing.pricing_plans SET is_default = true").await;
        world.own(WORKSPACE).await;
        world.execute(&format!("CREATE ROLE {} LOGIN PASSWORD 'x'", world.login)).await;
        world
    }

    /// The same, with the privileges of the roles, and with a login that has those of the API.
    async fn with_roles() -> Self {
        let world = Self::start().await;
        world.execute(ROLES).await;
        world.execute(&format!("GRANT {API_ROLE} TO {}", world.login)).await;
        world
    }

    /// Runs SQL as the owner.
    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.app.pool).await.unwrap();
    }

    /// The number that a query of the owner returns.
    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.app.pool).await.unwrap()
    }

    /// Makes Ada the owner of a workspace.
    async fn own(&self, workspace: &str) {
        self.execute(&format!(
            "INSERT INTO billing.workspaces (id, name) VALUES ('{workspace}', 'Online');
            INSERT INTO billing.workspace_members (workspace_id, user_id, role)
                VALUES ('{workspace}', '{ADA}', 'owner')"
        ))
        .await;
    }

    /// The database with the login instead of the owner's.
    fn limited(&self) -> PgConnectOptions {
        self.app.database.options.clone().username(&self.login).password("x")
    }

    /// The same as a connection string.
    fn limited_url(&self) -> String {
        let options = &self.app.database.options;
        let host = options.get_socket().map_or(options.get_host().to_owned(), |path| path.display().to_string());
        let (port, name, login) = (options.get_port(), &self.app.database.name, &self.login);
        format!("host='{host}' port={port} dbname={name} user={login} password=x")
    }

    /// The body of a checkout link.
    fn link(&self) -> Value {
        let (product, price) = (json!({ "id": self.product }), json!({ "id": self.price }));
        json!({ "items": [{ "type": "product", "product": product, "price": price, "quantity": 1 }] })
    }

    /// A process whose login may also become the owner, as the merge of changes at Stripe needs.
    async fn start_writing(&self) -> ApiProcess {
        ApiProcess::start_writing(&self.app.database.options, &self.stripe).await
    }

    /// The first failure of a process that only reads, or of one that also changes objects at Stripe.
    async fn first_failure_of(&mut self, reading: &ApiProcess, writing: &ApiProcess) -> Option<String> {
        match self.first_failure(reading, false).await {
            None => self.first_failure(writing, true).await,
            failure => failure,
        }
    }

    /// Every kind of request. `doomed` is a workspace to delete.
    fn requests(&self, doomed: Uuid) -> Vec<Sent> {
        let sent = |method, path: String, body: Option<Value>, status| {
            let token = self.tokens[0].clone();
            Sent {
                token,
                method,
                path: format!("{PREFIX}{path}"),
                body,
                status,
                is_change: false,
                is_unanswered: false,
            }
        };
        let change = |method, path, body, status| Sent { is_change: true, ..sent(method, path, Some(body), status) };
        let read = |path: String| sent("GET", path, None, 200);
        let (workspace, contact) = (format!("/v1/workspaces/{WORKSPACE}"), row_id("", &self.customer));
        let create = || sent("POST", "/v1/workspaces".to_owned(), Some(json!({ "name": "New" })), 201);
        let amount = |action: &str| {
            let path = format!("{workspace}/limits/members/{action}");
            sent("POST", path, Some(json!({ "amount": 1 })), 200)
        };
        let billing = format!("{workspace}/billing-contacts/{contact}");
        let link = || Sent {
            token: self.tokens[2].clone(),
            path: format!("{LINKS}/checkout-links"),
            ..change("POST", String::new(), self.link(), 201)
        };
        vec![
            read("/v1/workspaces?search=online&importedFromLegacyTeamIds=1&ownerLegacyCustomerIds=1".to_owned()),
            Sent { token: self.tokens[1].clone(), ..read("/v1/workspaces".to_owned()) },
            create(),
            // the same key: the first answer again
            create(),
            read(workspace.clone()),
            sent("PUT", workspace.clone(), Some(json!({ "name": "Online" })), 200),
            sent("DELETE", format!("/v1/workspaces/{doomed}"), None, 204),
            read(billing.clone()),
            change("PUT", billing.clone(), json!({ "name": "Ada", "email": "ada@example.com" }), 200),
            change(
                "POST",
                format!("{billing}/stripe-checkout-sessions"),
                json!({ "callbackUrl": format!("{ORIGIN}/paid") }),
                201,
            ),
            link(),
            Sent { is_unanswered: true, ..link() },
            read(format!("{billing}/stripe-checkout-sessions/{}", self.session)),
            read(format!("/v1/state?workspace={WORKSPACE}")),
            read(format!("/v1/state?customer={}", self.customer)),
            read(format!("{workspace}/limits")),
            amount("consume"),
            amount("release"),
            read(format!("{workspace}/history")),
        ]
    }

    /// Sends every kind of request. Returns the first failure.
    async fn first_failure(&mut self, process: &ApiProcess, changes: bool) -> Option<String> {
        self.rounds += 1;
        let doomed = Uuid::new_v4();
        self.own(&doomed.to_string()).await;
        self.execute("UPDATE billing.api_tokens SET last_used_at = NULL").await;
        let requests = self.requests(doomed).into_iter().filter(|sent| changes || !sent.is_change);
        for Sent { token, method, path, body, status, is_unanswered, .. } in requests {
            if is_unanswered {
                let latest = "SELECT max(created_at) FROM billing.api_requests";
                self.execute(&format!(
                    "UPDATE billing.api_requests SET status = NULL, location = NULL, body = NULL
                    WHERE created_at = ({latest})"
                ))
                .await;
            }
            let (authorization, key) = (format!("Bearer {token}"), format!("{} {path}", self.rounds));
            let mut headers = vec![("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
            if method == "POST" {
                headers.push(("Idempotency-Key", key.as_str()));
            }
            let body = body.map(|body| body.to_string().into_bytes());
            let reply = process.send(&request(method, &path, &headers, body.as_deref())).await;
            if reply.status != status {
                return Some(format!("{method} {path}: {} {}", reply.status, reply.text));
            }
        }
        let unused = format!(
            "SELECT count(*) FROM billing.api_tokens
            WHERE last_used_at IS NULL AND ({changes} OR NOT scopes @> '{{checkout-link:write}}')"
        );
        if self.number(&unused).await > 0 {
            return Some("the last use of a token was not recorded".to_owned());
        }
        let ready = process.readyz().await;
        (ready.status != 200).then(|| format!("GET /readyz: {} {}", ready.status, ready.text))
    }

    /// Whether a process that starts deletes an old idempotency key within this time.
    async fn cleans_up_within(&self, limit: Duration) -> bool {
        self.execute(
            "INSERT INTO billing.api_requests (principal, idempotency_key, fingerprint, created_at)
            VALUES ('token:old', 'old', sha256(''), clock_timestamp() - interval '25 hours') ON CONFLICT DO NOTHING",
        )
        .await;
        let process = ApiProcess::start(&self.limited()).await;
        let began = Instant::now();
        let mut is_clean = false;
        while !is_clean && began.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
            is_clean =
                self.number("SELECT count(*) FROM billing.api_requests WHERE principal = 'token:old'").await == 0;
        }
        process.stop().await;
        is_clean
    }

    /// The role of the API's sessions in a new process with this login.
    async fn role_with(&self, database: &PgConnectOptions) -> String {
        let process = ApiProcess::start(database).await;
        let authorization = format!("Bearer {}", self.tokens[0]);
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let path = format!("{PREFIX}/v1/workspaces");
        let made = process.send(&request("POST", &path, &headers, Some(br#"{"name":"New"}"#))).await.json(201);
        process.stop().await;
        made["name"].as_str().unwrap().to_owned()
    }

    /// Names every new workspace after the role that inserts it.
    async fn name_workspaces_after_the_role(&self) {
        self.execute(
            "CREATE FUNCTION public.name_after_the_role() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN NEW.name := current_user; RETURN NEW; END';
            CREATE TRIGGER name_after_the_role BEFORE INSERT ON billing.workspaces
                FOR EACH ROW EXECUTE FUNCTION public.name_after_the_role()",
        )
        .await;
    }

    /// Ends the test and drops the login, because roles belong to the server.
    async fn finish(self) {
        // the temporary tables of its sessions depend on it
        let end = "SELECT count(pg_terminate_backend(pid, 30000)) FROM pg_stat_activity WHERE usename =";
        self.number(&format!("{end} '{}'", self.login)).await;
        self.execute(&format!("DROP ROLE {}", self.login)).await;
        self.app.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_serves_every_endpoint_with_the_rights_of_its_role() {
    let mut world = World::with_roles().await;
    let document = serde_json::to_value(openapi::workspaces()).unwrap();
    let requests = world.requests(Uuid::nil());
    for (method, route) in operations(&document).into_keys() {
        let is_of_route = |sent: &Sent| {
            let path = sent.path.split('?').next().unwrap();
            let (parts, wanted) = (path.split('/').collect::<Vec<_>>(), route.split('/').collect::<Vec<_>>());
            let fits = |(part, wanted): (&&str, &&str)| part == wanted || wanted.starts_with('{');
            sent.method == method && parts.len() == wanted.len() && parts.iter().zip(&wanted).all(fits)
        };
        assert!(requests.iter().any(is_of_route), "no request tries {method} {route}");
    }
    let (reading, writing) = (ApiProcess::start(&world.limited()).await, world.start_writing().await);
    assert_eq!(world.first_failure_of(&reading, &writing).await, None);
    reading.stop().await;
    writing.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_needs_each_right_of_its_role() {
    let mut world = World::with_roles().await;
    let (reading, writing) = (ApiProcess::start(&world.limited()).await, world.start_writing().await);
    assert_eq!(world.first_failure_of(&reading, &writing).await, None);
    assert!(world.cleans_up_within(Duration::from_secs(30)).await);
    for privilege in needed_by_api() {
        world.execute(&format!("REVOKE {privilege} FROM {API_ROLE}")).await;
        match world.first_failure_of(&reading, &writing).await {
            None => assert!(!world.cleans_up_within(Duration::from_secs(2)).await, "{privilege} is not needed"),
            Some(failure) => {
                // a refusal of any other kind would prove nothing
                let is_expected = ["\"internal-error\"", "last use of a token", "/readyz"];
                assert!(is_expected.iter().any(|part| failure.contains(part)), "{privilege}: {failure}");
            }
        }
        world.execute(&format!("GRANT {privilege} TO {API_ROLE}")).await;
    }
    assert_eq!(world.first_failure_of(&reading, &writing).await, None, "after the last grant");
    reading.stop().await;
    writing.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_changes_to_its_role_with_any_login_that_may() {
    let world = World::start().await;
    world.name_workspaces_after_the_role().await;
    let owner = "SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'billing'";
    let owner = world.app.text(owner).await.unwrap();
    world.execute(&format!("GRANT \"{owner}\" TO {}", world.login)).await;
    assert_eq!(world.role_with(&world.limited()).await, owner, "the role has no rights in this database");
    // another database of the server: the role exists in this one too, without any rights
    let other = World::with_roles().await;
    assert_eq!(world.role_with(&world.limited()).await, owner);
    assert_eq!(world.role_with(&world.app.database.options).await, owner, "a superuser may become any role");
    other.finish().await;
    world.execute(ROLES).await;
    assert_eq!(world.role_with(&world.limited()).await, owner, "the login is not a member of it");
    assert_eq!(world.role_with(&world.app.database.options).await, API_ROLE);
    world.execute(&format!("GRANT {API_ROLE} TO {}", world.login)).await;
    assert_eq!(world.role_with(&world.limited()).await, API_ROLE);
    world.finish().await;
}
