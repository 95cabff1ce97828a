//! The service with the workspace API on port 0, tokens for it, and a client.

use std::net::SocketAddr;

use billing_sync::api::principal::Scope;
use billing_sync::api::principal::token_store::{self, NewToken};
use billing_sync::config::api::ApiConfig;
use billing_sync::config::ops::OpsConfig;
use billing_sync::config::source::{Flags, Source};
use billing_sync::config::stripe::StripeConfig;
use billing_sync::service::ServiceConfig;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::app::{TestApp, receiver_config, sync_config, worker_config};
use crate::support::client::{Client, Reply};
use crate::support::fetching::stripe_config;
use crate::support::stripe::FakeStripe;

/// Prefix of all paths.
pub(crate) const PREFIX: &str = "/api/workspace-service";

/// Users of the tests.
pub(crate) const ADA: Uuid = Uuid::from_u128(0xada);
pub(crate) const BO: Uuid = Uuid::from_u128(0xb0);

/// A running service with the workspace API.
pub(crate) struct ApiTest {
    pub(crate) app: TestApp,
    address: SocketAddr,
}

/// A client of the API with one token.
#[derive(Debug, Clone)]
pub(crate) struct ApiClient {
    address: SocketAddr,
    pub(crate) token: String,
}

/// The default settings on a free port, with these changes.
pub(crate) fn config(settings: &[(&str, &str)]) -> ApiConfig {
    let environment = [("BILLING_SYNC_API_LISTEN", "127.0.0.1:0")].iter().chain(settings);
    let environment = environment.map(|(name, value)| ((*name).to_owned(), (*value).into()));
    Source::new(Flags::new(), environment).collect(ApiConfig::read).unwrap()
}

impl ApiTest {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with these settings of the API.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_parts(settings, None).await
    }

    /// Starts an API that changes objects at the fake Stripe.
    pub(crate) async fn start_writing(stripe: &FakeStripe, settings: &[(&str, &str)]) -> Self {
        Self::start_writing_with(stripe_config(stripe), settings).await
    }

    /// Starts an API that changes objects at any server.
    pub(crate) async fn start_writing_with(stripe: StripeConfig, settings: &[(&str, &str)]) -> Self {
        Self::start_parts(settings, Some(stripe)).await
    }

    async fn start_parts(settings: &[(&str, &str)], stripe: Option<StripeConfig>) -> Self {
        let app = TestApp::start_with(ServiceConfig {
            receiver: Some(receiver_config()),
            api: Some((config(settings), sync_config())),
            writes: stripe.map(|stripe| (stripe, worker_config())),
            worker: None,
            renewals: None,
            reconcile: None,
            stripe: None,
            maintenance: None,
            ops: OpsConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)) },
        })
        .await;
        let address = app.api.unwrap();
        Self { app, address }
    }

    /// The address of the API.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client with a new token.
    pub(crate) async fn client(&self, user: Option<Uuid>, scopes: &[Scope]) -> ApiClient {
        let token = token_store::random_token().unwrap();
        let new = NewToken { token: &token, scopes, user, note: None, lifetime: None };
        token_store::create(&mut self.app.pool.acquire().await.unwrap(), &new).await.unwrap();
        self.with_token(&token.expose())
    }

    /// A client of a user who may read and write.
    pub(crate) async fn user(&self, user: Uuid) -> ApiClient {
        self.client(Some(user), &[Scope::WorkspacesWrite]).await
    }

    /// A client that sees all workspaces.
    pub(crate) async fn admin(&self) -> ApiClient {
        self.client(None, &[Scope::WorkspacesAdmin]).await
    }

    /// A client with any token.
    pub(crate) fn with_token(&self, token: &str) -> ApiClient {
        ApiClient { address: self.address, token: token.to_owned() }
    }

    /// Runs SQL.
    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.app.pool).await.unwrap();
    }

    /// Adds a workspace with an owner; returns its id.
    pub(crate) async fn workspace(&self, name: &str, owner: Uuid) -> Uuid {
        let id = Uuid::new_v4();
        self.execute(&format!(
            "INSERT INTO billing.workspaces (id, name) VALUES ('{id}', '{name}');
            INSERT INTO billing.workspace_members (workspace_id, user_id, role) VALUES ('{id}', '{owner}', 'owner')"
        ))
        .await;
        id
    }

    pub(crate) async fn finish(self) {
        self.app.finish().await;
    }
}

impl ApiClient {
    /// Sends a request and returns the reply. The path follows the prefix.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Reply {
        let token = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", token.as_str())];
        all.extend(headers);
        let body = body.map(Value::to_string);
        if body.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            all.push(("Content-Type", "application/json"));
        }
        let bytes = request(method, &format!("{PREFIX}{path}"), &all, body.as_deref().map(str::as_bytes));
        let mut client = Client::connect(self.address).await;
        client.send(&bytes).await;
        client.reply().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, &[], Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], None).await
    }
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n");
    let length = body.map(|body| ("Content-Length", body.len().to_string()));
    let length = length.as_ref().map(|(name, length)| (*name, length.as_str()));
    for (name, value) in headers.iter().copied().chain(length) {
        head.extend([name, ": ", value, "\r\n"]);
    }
    [head.as_bytes(), b"\r\n", body.unwrap_or_default()].concat()
}

impl Reply {
    /// The JSON body of a reply with this status.
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    /// Checks a problem: its code, and the parts that every problem has.
    pub(crate) fn problem(&self, code: &str) -> Value {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no problem: {self:?}"));
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], self.status, "{body}");
        assert_eq!(body["type"], format!("urn:billing-sync:problem:{code}"), "{body}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(body["requestId"].as_str(), self.header("x-request-id"), "{body}");
        assert!(body["title"].is_string() && body["detail"].is_string() && body["retryable"].is_boolean(), "{body}");
        body
    }
}
