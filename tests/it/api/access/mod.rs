//! Who may do what: strangers, members, owners, services and admins on every route, and tokens that are not accepted.
//!
//! The routes come from the OpenAPI document, so that a new one is tested without a change here. Must not know what the
//! answers contain.

mod roles;
mod strangers;
mod tokens;

use std::collections::BTreeMap;

use billing_sync::api::openapi;
use billing_sync::domain::object::row_id;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::harness::{ApiClient, ApiTest, PREFIX};
use super::schema;
use crate::support::client::Reply;
use crate::support::events::{customer, event, subscription, with};

/// The one path that is no resource of a workspace, beside the state.
const LIST: &str = "/v1/workspaces";
const STATE: &str = "/v1/state";
/// A limit that can be consumed and released.
const LIMIT: &str = "members";

/// The ids of a workspace and of what belongs to it.
#[derive(Debug, Clone)]
struct Ids {
    workspace: String,
    contact: String,
    session: String,
    customer: String,
}

/// A request.
#[derive(Debug)]
struct Call {
    method: String,
    path: String,
    body: Option<Value>,
}

/// Method and template of each route, without the prefix.
fn routes() -> Vec<(String, String)> {
    let document = serde_json::to_value(openapi::workspaces()).unwrap();
    let routes = schema::operations(&document).into_keys();
    let routes = routes.map(|(method, path)| (method, path.strip_prefix(PREFIX).unwrap().to_owned()));
    let routes: Vec<_> = routes.collect();
    assert!(routes.len() >= 12, "{routes:?}");
    routes
}

impl Ids {
    /// Ids that nothing has.
    fn unknown() -> Self {
        let [workspace, contact] = [Uuid::new_v4().to_string(), Uuid::new_v4().to_string()];
        Self { workspace, contact, session: "cs_unknown".to_owned(), customer: "cus_unknown".to_owned() }
    }

    /// The path of a route for these resources.
    fn fill(&self, template: &str) -> String {
        let path = template.replace("{workspaceId}", &self.workspace).replace("{billingContactId}", &self.contact);
        let path = path.replace("{sessionId}", &self.session).replace("{key}", LIMIT);
        assert!(!path.contains('{'), "the parameters of {template} are unknown to this test");
        path
    }

    /// A valid request of each route that names a resource.
    fn calls(&self) -> Vec<Call> {
        let mut calls = Vec::new();
        for (method, template) in routes() {
            let paths = match template.as_str() {
                LIST => Vec::new(),
                STATE => [("workspace", &self.workspace), ("customer", &self.contact), ("customer", &self.customer)]
                    .map(|(name, id)| format!("{STATE}?{name}={id}"))
                    .to_vec(),
                template => vec![self.fill(template)],
            };
            let body = match method.as_str() {
                "PUT" if template.ends_with("{billingContactId}") => {
                    Some(json!({ "name": "Changed", "email": "ada@example.com" }))
                }
                "PUT" => Some(json!({ "name": "Changed" })),
                "POST" if template.ends_with("/stripe-checkout-sessions") => {
                    Some(json!({ "callbackUrl": "https://app.example.com/paid" }))
                }
                "POST" => Some(json!({ "amount": 1 })),
                _ => None,
            };
            calls.extend(paths.into_iter().map(|path| Call { method: method.clone(), path, body: body.clone() }));
        }
        calls
    }
}

impl Call {
    fn creation() -> Self {
        Self { method: "POST".to_owned(), path: LIST.to_owned(), body: Some(json!({ "name": "Created" })) }
    }

    async fn send(&self, client: &ApiClient) -> Reply {
        self.send_with(client, &[]).await
    }

    async fn send_with(&self, client: &ApiClient, headers: &[(&str, &str)]) -> Reply {
        client.send(&self.method, &self.path, headers, self.body.as_ref()).await
    }

    /// Whether it changes an object at Stripe, which this service cannot: an owner gets 501.
    fn changes_stripe(&self) -> bool {
        self.path.contains("/billing-contacts/") && !self.reads()
    }

    fn reads(&self) -> bool {
        self.method == "GET"
    }
}

/// A service whose rate no test reaches.
async fn start() -> ApiTest {
    ApiTest::start_with(&[("BILLING_SYNC_API_RATE", "10000")]).await
}

/// A workspace with a billing contact, a subscription with a limit, and a checkout session.
async fn billed(test: &ApiTest, name: &str, owner: Uuid) -> Ids {
    let workspace = test.workspace(name, owner).await;
    let customer_id = format!("cus_{name}");
    let link = json!({ "metadata": { "workspace_id": workspace } });
    let mut sold = with(&subscription(&format!("sub_{name}"), &customer_id), link.clone());
    sold["items"]["data"][0]["price"]["metadata"] = json!({ "limit_members": "5" });
    let buyer = with(&customer(&customer_id, name), link);
    let events = [
        event(&format!("evt_buyer_{name}"), "customer.created", 0, &buyer, None),
        event(&format!("evt_sold_{name}"), "customer.subscription.created", 0, &sold, None),
    ];
    test.app.deliver_and_drain(&events).await;
    let session = add_session(test, &format!("cs_{name}"), &customer_id, &format!("'{workspace}'")).await;
    let contact = row_id("", &customer_id).to_string();
    Ids { workspace: workspace.to_string(), contact, session, customer: customer_id }
}

/// Adds a checkout session; `workspace` is SQL.
async fn add_session(test: &ApiTest, session: &str, customer: &str, workspace: &str) -> String {
    test.execute(&format!(
        "INSERT INTO billing.checkout_sessions
            (id, account, stripe_session_id, status, stripe_customer_id, workspace_id)
        VALUES (gen_random_uuid(), '', '{session}', 'open', '{customer}', {workspace})"
    ))
    .await;
    session.to_owned()
}

/// All rows of all tables but the tokens, whose last use is recorded.
async fn rows(test: &ApiTest) -> BTreeMap<String, String> {
    let tables = "SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relname <> 'api_tokens'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&test.app.pool).await.unwrap();
    let mut rows = BTreeMap::new();
    for table in tables {
        let all = format!("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM {table} AS t");
        rows.insert(table, sqlx::query_scalar(AssertSqlSafe(all)).fetch_one(&test.app.pool).await.unwrap());
    }
    rows
}
