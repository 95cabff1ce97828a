//! The server of localstripe, with products and customers.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::PYTHON;
use crate::support::client::Client;

/// The workspace of all customers.
pub(super) const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

/// Its secret key.
pub(super) const KEY: &str = "sk_test_foreign";

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/on_loopback.py");

pub(super) struct Localstripe {
    pub(super) addr: SocketAddr,
    _child: Child,
}

impl Localstripe {
    pub(super) async fn start() -> Self {
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

    pub(super) fn base(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Creates or changes an object. Returns the JSON of the answer.
    pub(super) async fn post(&self, path: &str, body: Value) -> Value {
        let (mut client, body) = (Client::connect(self.addr).await, body.to_string());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(head.as_bytes()).await;
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        serde_json::from_str(&reply.text).unwrap_or_default()
    }

    /// Creates a product, a plan, and this many customers, each with a card, a subscription and an invoice.
    pub(super) async fn sell(&self, customers: usize) {
        self.post("/v1/products", json!({ "id": "prod_w", "name": "Writing", "type": "service" })).await;
        let plan = json!({ "id": "pro", "product": "prod_w", "amount": 1000, "currency": "eur", "interval": "month",
            "name": "Pro", "metadata": { "limit_words": "5000" } });
        self.post("/v1/plans", plan).await;
        for number in 0..customers {
            self.customer(number).await;
        }
    }

    /// Creates a customer and a subscription; returns their ids.
    pub(super) async fn customer(&self, number: usize) -> (String, String) {
        let fields = json!({ "name": format!("Customer {number}"), "email": format!("c{number}@example.com"),
            "metadata": { "workspace_id": WORKSPACE } });
        let customer = self.post("/v1/customers", fields).await["id"].as_str().unwrap().to_owned();
        let card = json!({ "source": { "object": "card", "number": "4242424242424242", "exp_month": "12",
            "exp_year": "2030", "cvc": "123" } });
        self.post(&format!("/v1/customers/{customer}/sources"), card).await;
        let subscription = json!({ "customer": customer, "items": [{ "plan": "pro" }] });
        let subscription = self.post("/v1/subscriptions", subscription).await["id"].as_str().unwrap().to_owned();
        (customer, subscription)
    }
}
