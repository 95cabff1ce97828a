//! Real clients of the workspace API against the real service: the curl lines of its public pages, a TypeScript client
//! whose types are generated, a linter of the OpenAPI document, and generated requests (schemathesis).
//!
//! The clients are in `tests/clients/`, where a script starts each of them. They need curl, Node.js and Python, so
//! `make test-api` installs their packages into `target/clients` and runs these tests.

use std::process::Stdio;

use billing_sync::api::principal::Scope;
use billing_sync::base::clock;
use billing_sync::domain::object::row_id;
use nix::sys::signal::Signal;
use serde_json::{Map, Value};
use tokio::process::Command;
use uuid::Uuid;

use super::filled::Filled;
use super::harness::{ADA, BO};
use crate::support::app::SECRET;
use crate::support::cluster;
use crate::support::process::Server;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const CONTRACT: &str = include_str!("../../../fixtures/api/workspace-service.json");

/// An administrator, who is a member of no workspace.
const CY: Uuid = Uuid::from_u128(0xc1);

/// Seconds after which a client is ended with its child processes. Each takes less than a minute.
const TIMEOUT: &str = "300";

/// The lines that `curl.sh` prints: their beginning, and the endpoint of the public pages.
const CURL: [(&str, &str); 9] = [
    ("A2 200 ", "GET /v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}"),
    (
        "A3 200 ",
        "GET /v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}/stripe-checkout-sessions/{sessionId}",
    ),
    ("A1 201 ", "POST /v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}/stripe-checkout-sessions"),
    ("A4 200 ", "PUT /v1/workspaces/{workspaceId}/billing-contacts/{billingContactId}"),
    ("B1 201 ", "POST /v1/workspaces"),
    ("B2 200 ", "GET /v1/workspaces"),
    ("B3 200 ", "GET /v1/workspaces/{workspaceId}"),
    ("B4 200 ", "PUT /v1/workspaces/{workspaceId}"),
    ("B5 204 ", "DELETE /v1/workspaces/{workspaceId}"),
];

/// Embedded rows that exist, so that their fields are compared too.
const EMBEDDED: [(&str, &str); 7] = [
    ("A3 200 ", "/_embedded/coupon/_embedded/pricingPlan"),
    ("B1 201 ", "/_embedded/billingContact"),
    ("B3 200 ", "/_embedded/avatar/_embedded"),
    ("B3 200 ", "/_embedded/billingContact"),
    ("B3 200 ", "/_embedded/currentSubscription/_embedded/newPricingPlan"),
    ("B3 200 ", "/_embedded/currentSubscription/_embedded/pricingPlanCategory"),
    ("B4 200 ", "/_embedded/currentSubscription/_embedded/pricingPlan"),
];

/// The service as a process of its own, on tables that webhooks have filled, and the settings of its clients.
struct Service {
    filled: Filled,
    server: Server,
    settings: Vec<(&'static str, String)>,
}

impl Service {
    async fn start() -> Self {
        let filled = Filled::start().await;
        let api = &filled.synced.api;
        api.workspace("Team of another user", BO).await;
        // so that a client can release some
        api.execute(&format!("SELECT billing.consume('{}', 'members', 3)", filled.workspace)).await;
        let (admin, ada) = (api.client(Some(CY), &[Scope::WorkspacesAdmin]).await, api.user(ADA).await);
        let bo = api.user(BO).await;
        // generated requests are sent as fast as they are answered
        let stripe = &filled.synced.stripe;
        // limits are renewed only while the clocks agree
        stripe.set_clock(clock::now().unix_timestamp());
        let base = stripe.base();
        let environment = [
            ("BILLING_SYNC_API_LISTEN", "127.0.0.1:0"),
            ("BILLING_SYNC_API_RATE", "100000"),
            ("BILLING_SYNC_API_CORS_ORIGINS", "https://app.example.com"),
            ("STRIPE_WRITE_KEY", stripe.write_key()),
            ("STRIPE_API_BASE", &base),
        ];
        let server = Server::start(&api.app.database, "receiver,worker,renewals,api", &environment).await;
        let url = |listener: &str| server.serving()[listener].as_str().unwrap().to_owned();
        let settings = vec![
            ("BASE_URL", url("api")),
            ("WEBHOOK_URL", url("webhooks")),
            ("WEBHOOK_SECRET", SECRET.to_owned()),
            ("ADMIN_TOKEN", admin.token),
            ("USER_TOKEN", ada.token),
            ("OTHER_TOKEN", bo.token),
            ("WORKSPACE_ID", filled.workspace.to_string()),
            ("BILLING_CONTACT_ID", filled.contact_id().to_string()),
            ("SESSION_ID", filled.stripe.session.clone()),
            ("PLAN_ID", row_id("", &filled.stripe.price).to_string()),
        ];
        Self { filled, server, settings }
    }

    /// Runs a script of `tests/clients/` and returns what it prints.
    async fn run(&self, script: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.arg(TIMEOUT).arg(format!("{SCRIPTS}/{script}")).args(arguments).kill_on_drop(true);
        command.env_clear().env("PATH", cluster::search_path());
        command.envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())));
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script} {arguments:?}: {}\n{printed}\n{errors}", output.status);
        printed
    }

    /// Ends the service as SIGTERM does. None of the requests may have met a bug.
    async fn end(self) {
        self.server.signal(Signal::SIGTERM);
        let (code, log) = self.server.ended_with_log().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains(r#""level":"ERROR""#), "{log}");
        self.filled.finish().await;
    }
}

/// Runs one script against a service of its own.
async fn run(script: &str, arguments: &[&str]) -> String {
    let service = Service::start().await;
    let printed = service.run(script, arguments).await;
    service.end().await;
    printed
}

/// The fields of an endpoint's response on the public pages; `None` without a body.
fn response_fields<'a>(contract: &'a Value, endpoint: &str) -> Option<&'a Map<String, Value>> {
    let (method, path) = endpoint.split_once(' ').unwrap();
    let endpoints = contract["endpoints"].as_array().unwrap();
    let found = endpoints.iter().find(|found| found["method"] == method && found["path"] == path);
    found.unwrap_or_else(|| panic!("the contract has no {endpoint}"))["response"].as_object()
}

/// Checks that a body has every field, at every level that is not null.
fn has_fields(place: &str, fields: &Map<String, Value>, body: &Value) {
    for (name, field) in fields {
        let place = format!("{place} {name}");
        let value = body.get(name).unwrap_or_else(|| panic!("{place} is missing: {body}"));
        let Some(children) = field["children"].as_object() else { continue };
        match value {
            Value::Null => {}
            Value::Array(items) => {
                for item in items {
                    has_fields(&place, children, item);
                }
            }
            Value::Object(_) => has_fields(&place, children, value),
            other => panic!("{place} is {other}"),
        }
    }
}

#[tokio::test]
#[ignore = "needs curl: make test-api"]
async fn the_curl_lines_of_the_public_pages_work() {
    let contract: Value = serde_json::from_str(CONTRACT).unwrap();
    let printed = run("curl.sh", &[]).await;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), CURL.len(), "{printed}");
    for (line, (begin, endpoint)) in lines.into_iter().zip(CURL) {
        let body = line.strip_prefix(begin).unwrap_or_else(|| panic!("expected {begin}: {line}"));
        let Some(fields) = response_fields(&contract, endpoint) else {
            assert_eq!(body, "", "{endpoint}");
            continue;
        };
        let body: Value = serde_json::from_str(body).unwrap();
        has_fields(endpoint, fields, &body);
        for (_, pointer) in EMBEDDED.iter().filter(|(of, _)| *of == begin) {
            assert!(body.pointer(pointer).is_some_and(Value::is_object), "{endpoint} has no {pointer}: {body}");
        }
    }
}

#[tokio::test]
#[ignore = "needs Node.js: make test-api"]
async fn a_generated_client_walks_a_workspace_from_creation_to_deletion() {
    let printed = run("walk.sh", &[]).await;
    assert!(printed.contains("ok DELETE"), "{printed}");
}

#[tokio::test]
#[ignore = "needs Node.js: make test-api"]
async fn the_linter_finds_nothing_in_the_document() {
    run("lint.sh", &[]).await;
}

#[tokio::test]
#[ignore = "needs Python: make test-api"]
async fn generated_requests_of_an_admin_are_answered_as_documented() {
    run("fuzz.sh", &["admin"]).await;
}

#[tokio::test]
#[ignore = "needs Python: make test-api"]
async fn generated_requests_of_users_are_answered_as_documented_and_show_no_object_of_another() {
    run("fuzz.sh", &["users"]).await;
}

#[tokio::test]
#[ignore = "needs Python: make test-api"]
async fn generated_requests_without_a_token_are_refused() {
    run("fuzz.sh", &["anonymous"]).await;
}
