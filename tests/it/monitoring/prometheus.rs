//! A real Prometheus scrapes a live `serve`: its alerts load and fire, and every panel of the dashboard has data.
//!
//! Needs prometheus and promtool; `make test-prometheus` downloads them and runs these.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use billing_sync::api::principal::Scope;
use billing_sync::api::principal::token_store::{self, NewToken};
use billing_sync::database::Pool;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;
use url::Url;
use uuid::Uuid;

use super::expression::{inserted, selectors};
use super::files::{RULES, UNIT_TESTS, alerts, folder, panels};
use crate::api::harness::{PREFIX, request};
use crate::api::process::{LISTEN, address};
use crate::cli::{code, run, words};
use crate::support::app::SECRET;
use crate::support::client::{Client, Reply, post};
use crate::support::cluster::{TestDatabase, database_with_pool};
use crate::support::events::{customer, event};
use crate::support::process::Server;
use crate::support::stripe::{Epoch, FakeStripe};

/// Longer than any step takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The window of the panels' rates. The test scrapes every second.
const RATE_INTERVAL: &str = "5s";

/// Panels, and legends of their expressions, that have no data in this story, each with the reason.
const WITHOUT_DATA: [(&str, &str, &str); 5] = [
    ("Jobs and Stripe's API: Missing permissions", "{{operation}}", "the key has all permissions"),
    ("Limits: Delay of renewals", "median", "no limit period ends"),
    ("Limits: Delay of renewals", "99th percentile", "no limit period ends"),
    ("Limits: Carried over and expired", "{{limit_key}} carried over", "no limit period ends"),
    ("Limits: Carried over and expired", "{{limit_key}} expired", "no limit period ends"),
];

/// A program of Prometheus: the one that `.ci/install-prometheus` unpacked, or the one in PATH.
fn program(name: &str) -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/prometheus/usr/bin").join(name);
    if unpacked.exists() { unpacked } else { name.into() }
}

fn promtool(arguments: &[&str]) {
    let output = std::process::Command::new(program("promtool")).args(arguments).current_dir(folder()).output();
    let output = output.expect("promtool is not installed: make test-prometheus");
    assert!(output.status.success(), "{} {}", words(&output.stdout), words(&output.stderr));
}

#[test]
#[ignore = "needs promtool: make test-prometheus"]
fn alerts_pass_their_unit_tests() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&[&["test", "rules"], &UNIT_TESTS[..]].concat());
}

/// A Prometheus that scrapes one process every second.
struct Prometheus {
    address: SocketAddr,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts it with the configuration of the repository. Only the address of the process, the intervals and the time
    /// that an alert must be true are changed.
    async fn start(ops: SocketAddr) -> Self {
        let own = tempfile::tempdir().unwrap();
        let config = fs::read_to_string(folder().join("prometheus.yml")).unwrap();
        assert!(config.contains("127.0.0.1:9464") && config.contains(": 15s"), "{config}");
        let config = config.replace("127.0.0.1:9464", &ops.to_string()).replace(": 15s", ": 1s");
        let config = config.replace(&format!("- {RULES}"), &format!("- {RULES}\n  - texts.yml"));
        fs::write(own.path().join("prometheus.yml"), config).unwrap();
        let rules = fs::read_to_string(folder().join(RULES)).unwrap();
        let rules = rules.lines().map(|line| match line.split_once(" for: ") {
            Some((indent, _)) => format!("{indent} for: 1s\n"),
            None => format!("{line}\n"),
        });
        fs::write(own.path().join(RULES), rules.collect::<String>()).unwrap();
        fs::write(own.path().join("texts.yml"), always_firing().to_string()).unwrap();

        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program("prometheus"));
        command.current_dir(own.path()).arg("--config.file=prometheus.yml").arg("--storage.tsdb.path=data");
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdin(Stdio::null());
        let log = fs::File::create(own.path().join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn();
        let child = child.expect("prometheus is not installed: make test-prometheus");
        let prometheus = Self { address: SocketAddr::from(([127, 0, 0, 1], port)), _child: child, _folder: own };
        prometheus.until("up == 1").await;
        prometheus
    }

    /// The data of an answer of its API.
    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let url = Url::parse_with_params(&format!("http://{}/api/v1/{path}", self.address), parameters).unwrap();
        let failed = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(self.address).await.map_err(failed)?;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        // HTTP/1.0 has no chunks
        let head = format!("GET {}{query} HTTP/1.0\r\nHost: {}\r\n\r\n", url.path(), self.address);
        stream.write_all(head.as_bytes()).await.map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(failed)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let answer: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
    }

    /// The series of an expression now.
    async fn now(&self, expr: &str) -> Result<Vec<Value>, String> {
        let data = self.ask("query", &[("query", expr)]).await?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until an expression has a result.
    async fn until(&self, expr: &str) {
        let began = Instant::now();
        while !self.now(expr).await.is_ok_and(|found| !found.is_empty()) {
            assert!(began.elapsed() < TIMEOUT, "{expr} has no result: {:?}", self.now(expr).await);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether an expression had a value other than NaN in the last minute.
    async fn had_data(&self, expr: &str) -> bool {
        let now = billing_sync::base::clock::now().unix_timestamp();
        let (start, end) = ((now - 60).to_string(), now.to_string());
        let range = [("query", expr), ("start", &start), ("end", &end), ("step", "1")];
        let data = self.ask("query_range", &range).await.unwrap();
        let series = data["result"].as_array().unwrap().iter();
        series.flat_map(|series| series["values"].as_array().unwrap()).any(|value| value[1] != "NaN")
    }

    /// The texts of all alerts that fire, by the alert's name.
    async fn alerts(&self) -> Vec<(String, String)> {
        let data = self.ask("alerts", &[]).await.unwrap();
        let firing = data["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
        let text = |alert: &Value| {
            (alert["labels"]["alertname"].as_str().unwrap().to_owned(), alert["annotations"].to_string())
        };
        firing.map(text).collect()
    }
}

/// A copy of all alerts that fires at once, so that their texts are filled in. Only the texts are tested by it.
fn always_firing() -> Value {
    let rules = alerts().into_iter().map(|alert| {
        let labels = alert.annotations.values().flat_map(|text| inserted(text));
        let expr = labels.fold("vector(12345.6)".to_owned(), |expr, label| {
            format!("label_replace({expr}, \"{label}\", \"of_{label}\", \"\", \"\")")
        });
        json!({ "alert": format!("Text{}", alert.name), "expr": expr, "annotations": alert.annotations })
    });
    json!({ "groups": [{ "name": "texts", "rules": rules.collect::<Vec<_>>() }] })
}

/// Makes the table refuse the customer `cus_poison`.
const REFUSE_POISON: &str = "
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON billing.billing_contacts
        FOR EACH ROW WHEN (NEW.stripe_customer_id = 'cus_poison') EXECUTE FUNCTION public.refuse()";

/// A process with all roles, with a fake Stripe that has one sale.
struct Story {
    database: TestDatabase,
    pool: Pool,
    stripe: FakeStripe,
    server: Server,
    workspace: Uuid,
}

impl Story {
    async fn start() -> Self {
        let (database, pool) = database_with_pool().await;
        let (stripe, workspace) = (FakeStripe::start().await, Uuid::from_u128(1));
        sqlx::query("INSERT INTO billing.workspaces (id, name) VALUES ($1, 'Team')")
            .bind(workspace)
            .execute(&pool)
            .await
            .unwrap();
        let (base, secrets) = (stripe.base(), format!("whsec_new,{SECRET}"));
        let environment = [
            LISTEN,
            ("STRIPE_WEBHOOK_SECRET", &secrets),
            ("STRIPE_SECRET_KEY", stripe.key()),
            ("STRIPE_WRITE_KEY", stripe.write_key()),
            ("STRIPE_API_BASE", &base),
            ("BILLING_SYNC_RECONCILE_INTERVAL", "1s"),
            ("BILLING_SYNC_READ_MARGIN", "1s"),
            ("BILLING_SYNC_MAX_ATTEMPTS", "2"),
        ];
        let server = Server::start(&database, "receiver,worker,renewals,reconcile,api,maintenance", &environment).await;
        Self { database, pool, stripe, server, workspace }
    }

    async fn text(&self, query: &'static str) -> Option<String> {
        sqlx::query_scalar(query).fetch_optional(&self.pool).await.unwrap()
    }

    /// Waits until a query returns a row.
    async fn until(&self, query: &'static str) -> String {
        let began = Instant::now();
        loop {
            if let Some(text) = self.text(query).await {
                return text;
            }
            assert!(began.elapsed() < TIMEOUT, "nothing is found by {query}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A request to the workspace API.
    async fn api(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Reply {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", "monitoring-1"),
        ];
        let body = body.map(Value::to_string);
        let bytes = request(method, &format!("{PREFIX}{path}"), &headers, body.as_deref().map(str::as_bytes));
        let mut client = Client::connect(address(self.server.serving())).await;
        client.send(&bytes).await;
        client.reply().await.unwrap()
    }

    /// A sale whose events are delivered, an unhandled event, a rejected delivery, requests to the API, and a change at Stripe.
    async fn happen(&self) {
        let stripe = &self.stripe;
        let fields = json!({ "name": "Ada", "email": "ada@example.com",
            "metadata": { "workspace_id": self.workspace.to_string() } });
        let payer = stripe.customer(fields);
        let product = stripe.product(json!({ "name": "Writing" }));
        let price = stripe.price(&product, 1000, json!({ "metadata": { "limit_words": "5000" } }));
        stripe.subscribe(&payer, &price);
        stripe.tick(60);
        for event in stripe.events() {
            assert_eq!(self.server.deliver(&event.json(Epoch::Endive)).await, Some(200));
        }
        let unhandled = event("evt_ping", "ping", 0, &json!({ "id": "p_1", "object": "ping" }), None);
        assert_eq!(self.server.deliver(&unhandled).await, Some(200));
        let mut client = Client::connect(self.server.webhooks()).await;
        client.send(&post(billing_sync::receiver::PATH, "t=1,v1=00", b"{}")).await;
        assert_eq!(client.reply().await.unwrap().status, 400);

        let token = token_store::random_token().unwrap();
        let new = NewToken { token: &token, scopes: &[Scope::WorkspacesAdmin], user: None, note: None, lifetime: None };
        token_store::create(&mut self.pool.acquire().await.unwrap(), &new).await.unwrap();
        let contact = self.until("SELECT id::text FROM billing.billing_contacts WHERE name = 'Ada'").await;
        let path = format!("/v1/workspaces/{}", self.workspace);
        assert_eq!(self.api("GET", &path, &token.expose(), None).await.status, 200);
        assert_eq!(self.api("GET", &path, "unknown", None).await.status, 401);
        let path = format!("{path}/billing-contacts/{contact}");
        let body = json!({ "name": "Bea", "email": "bea@example.com" });
        let reply = self.api("PUT", &path, &token.expose(), Some(&body)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        for event in stripe.events() {
            assert_eq!(self.server.deliver(&event.json(Epoch::Endive)).await, Some(200));
        }
        self.until("SELECT 'done' WHERE NOT EXISTS (SELECT FROM billing.outbox WHERE state <> 'done')").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs prometheus: make test-prometheus"]
async fn a_poison_event_fires_its_alert_and_every_panel_has_data() {
    let story = Story::start().await;
    let prometheus = Prometheus::start(story.server.ops()).await;
    // a rate needs a value before the first event
    prometheus.until("billing_sync_reconcile_runs_total{outcome=\"complete\"} > 0").await;
    story.happen().await;

    sqlx::raw_sql(REFUSE_POISON).execute(&story.pool).await.unwrap();
    let poison = event("evt_poison", "customer.created", 0, &customer("cus_poison", "Bo"), None);
    assert_eq!(story.server.deliver(&poison).await, Some(200));
    prometheus.until("ALERTS{alertname=\"BillingSyncDeadEvents\", alertstate=\"firing\"}").await;
    let firing = prometheus.alerts().await;
    let (_, text) = firing.iter().find(|(name, _)| name == "BillingSyncDeadEvents").unwrap();
    assert!(text.contains("Dead events: 1.") && text.contains("operations.md#an-event-is-dead"), "{text}");

    every_alert_is_loaded(&prometheus).await;
    every_panel_has_data(&prometheus).await;

    // the runbook: fix the cause, then retry
    sqlx::raw_sql("DROP TRIGGER refuse ON billing.billing_contacts").execute(&story.pool).await.unwrap();
    let retry = run(&["outbox", "retry", "--all-dead", "--yes"], &[("DATABASE_URL", &story.database.url)]);
    assert_eq!(code(&retry), 0, "{}", words(&retry.stderr));
    prometheus.until("absent(ALERTS{alertname=\"BillingSyncDeadEvents\"})").await;
    let done = "SELECT name FROM billing.billing_contacts WHERE stripe_customer_id = 'cus_poison'";
    assert_eq!(story.text(done).await.as_deref(), Some("Bo"));
    story.server.kill().await;
    prometheus.until("ALERTS{alertname=\"BillingSyncAbsent\", alertstate=\"firing\"}").await;
}

/// Prometheus evaluates each alert, has the series that it names, and fills in its texts.
async fn every_alert_is_loaded(prometheus: &Prometheus) {
    let loaded = prometheus.ask("rules", &[("type", "alert")]).await.unwrap();
    let groups = loaded["groups"].as_array().unwrap().iter();
    let rules: Vec<&Value> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let texts = prometheus.alerts().await;
    for alert in alerts() {
        let rule = rules.iter().find(|rule| rule["name"] == alert.name.as_str());
        let rule = rule.unwrap_or_else(|| panic!("{} is not loaded", alert.name));
        assert_eq!((&rule["health"], rule.get("lastError")), (&json!("ok"), None), "{rule}");
        for selector in selectors(&alert.expr) {
            let found = prometheus.now(&selector.text).await.unwrap();
            assert!(!found.is_empty(), "{}: {} has no series", alert.name, selector.text);
        }
        let name = format!("Text{}", alert.name);
        let (_, text) = texts.iter().find(|(firing, _)| *firing == name).unwrap_or_else(|| panic!("{texts:?}"));
        for mistake in ["{{", "<no value>", "<error", "%!"] {
            assert!(!text.contains(mistake), "{text}");
        }
    }
}

async fn every_panel_has_data(prometheus: &Prometheus) {
    let (mut empty, mut not_empty) = (Vec::new(), Vec::new());
    for panel in panels() {
        for (expr, legend) in &panel.targets {
            let is_expected = !WITHOUT_DATA.iter().any(|(title, of, _)| *title == panel.title && of == legend);
            let has_data = prometheus.had_data(&expr.replace("$__rate_interval", RATE_INTERVAL)).await;
            if has_data != is_expected {
                if has_data { &mut not_empty } else { &mut empty }.push(format!("{} ({legend}): {expr}", panel.title));
            }
        }
    }
    assert_eq!(
        (empty, not_empty),
        (Vec::new(), Vec::new()),
        "panels without data, and panels that have data after all"
    );
}
