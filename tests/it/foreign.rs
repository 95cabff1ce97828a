//! Tests against an independent Stripe fake, localstripe. It has plans instead of prices, the formats of 2017, and
//! lists that begin with the oldest object. Lists that it does not support are reported.
//!
//! Needs Python; `make test-foreign` installs localstripe and runs these.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::support::app::{SECRET, TestApp};
use crate::support::client::Client;

const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

/// What `make test-foreign` installs.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/foreign/bin/python");
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/on_loopback.py");

struct Localstripe {
    addr: SocketAddr,
    _child: Child,
}

impl Localstripe {
    async fn start() -> Self {
        let addr = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(PYTHON)
            .args([SERVER, &addr.port().to_string()])
            // localstripe writes a file into the temporary directory
            .env("TMPDIR", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(addr).await.is_ok() {
                return Self { addr, _child: child };
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("localstripe does not start");
    }

    fn base(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Creates or changes an object. Returns the JSON of the answer.
    async fn post(&self, path: &str, body: Value) -> Value {
        let (mut client, body) = (Client::connect(self.addr).await, body.to_string());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_foreign\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(head.as_bytes()).await;
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        serde_json::from_str(&reply.text).unwrap_or_default()
    }

    /// Creates a product, a plan, and this many customers, each with a card, a subscription and an invoice.
    async fn sell(&self, customers: usize) {
        self.post("/v1/products", json!({ "id": "prod_w", "name": "Writing", "type": "service" })).await;
        let plan = json!({ "id": "pro", "product": "prod_w", "amount": 1000, "currency": "eur", "interval": "month",
            "name": "Pro", "metadata": { "limit_words": "5000" } });
        self.post("/v1/plans", plan).await;
        for number in 0..customers {
            self.customer(number).await;
        }
    }

    async fn customer(&self, number: usize) -> String {
        let fields = json!({ "name": format!("Customer {number}"), "email": format!("c{number}@example.com"),
            "metadata": { "workspace_id": WORKSPACE } });
        let customer = self.post("/v1/customers", fields).await["id"].as_str().unwrap().to_owned();
        let card = json!({ "source": { "object": "card", "number": "4242424242424242", "exp_month": "12",
            "exp_year": "2030", "cvc": "123" } });
        self.post(&format!("/v1/customers/{customer}/sources"), card).await;
        let subscription = json!({ "customer": customer, "items": [{ "plan": "pro" }] });
        self.post("/v1/subscriptions", subscription).await;
        customer
    }
}

fn backfill(app: &TestApp, stripe: &Localstripe, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    command.arg("backfill").args(arguments).env_clear().kill_on_drop(true).stdin(Stdio::null());
    command.env("DATABASE_URL", &app.database.url).env("STRIPE_SECRET_KEY", "sk_test_foreign");
    command.env("STRIPE_API_BASE", stripe.base()).env("BILLING_SYNC_STRIPE_RATE", "1000");
    // with a staleness margin, events of the last seconds would win over the reads
    command.env("BILLING_SYNC_READ_MARGIN", "0s");
    command
}

const SOLD: &str = "
    SELECT string_agg(DISTINCT concat_ws(' ', c.default_payment_method, c.default_payment_card_number_last_four_digits,
        s.stripe_status, s.active, s.stripe_price_id, p.product_name, p.price_in_euro, p.billing_interval, l.included), ', ')
    FROM billing.billing_contacts AS c
    JOIN billing.subscriptions AS s ON s.billing_contact_id = c.id
    JOIN billing.pricing_plans AS p ON p.id = s.pricing_plan_id
    JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id";

const EXPECTED: &str = "card 4242 active t pro Writing 10.00 month 5000";

#[tokio::test]
#[ignore = "needs localstripe: make test-foreign"]
async fn customers_are_read_and_unsupported_lists_reported() {
    let (app, stripe) = (TestApp::start().await, Localstripe::start().await);
    // more than a page
    stripe.sell(110).await;
    let output = backfill(&app, &stripe, &["--json"]).output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["unsupported_lists"], json!(["disputes", "payments", "sessions"]), "{report:#}");
    assert_eq!((&report["failed_lists"], &report["failed"]), (&json!([]), &json!([])), "{report:#}");
    assert!(printed.contains("the server at STRIPE_API_BASE has no list of disputes"), "{printed}");
    assert_eq!(app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("110"));
    assert_eq!(app.text("SELECT count(*)::text FROM billing.subscriptions").await.as_deref(), Some("110"));
    assert_eq!(app.text(SOLD).await.as_deref(), Some(EXPECTED));
    app.finish().await;
}

#[tokio::test]
#[ignore = "needs localstripe: make test-foreign"]
async fn signed_webhooks_are_stored_and_a_backfill_completes_them() {
    let (app, stripe) = (TestApp::start().await, Localstripe::start().await);
    let url = format!("http://{}/webhooks/stripe", app.webhooks);
    stripe.post("/_config/webhooks/ours", json!({ "url": url, "secret": SECRET })).await;
    stripe.sell(3).await;
    // each event is sent once, a second after it happened
    let stored = "SELECT count(*)::text FROM billing.outbox WHERE type = 'customer.subscription.created'";
    for _ in 0..100 {
        if app.text(stored).await.as_deref() == Some("3") {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(1)).await;
    app.drain().await;
    assert_eq!(app.text("SELECT count(*)::text FROM billing.subscriptions").await.as_deref(), Some("3"));
    let dead = "SELECT count(*)::text FROM billing.outbox WHERE state = 'dead'";
    assert_eq!(app.text(dead).await.as_deref(), Some("0"));
    let output = backfill(&app, &stripe, &[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "unsupported lists fail the command");
    assert_eq!(app.text(SOLD).await.as_deref(), Some(EXPECTED));
    app.finish().await;
}
