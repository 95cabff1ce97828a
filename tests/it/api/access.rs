//! Who may do what: strangers, members, owners, services and admins on every route, and tokens that are not accepted.
//!
//! The routes come from the OpenAPI document, so that a new one is tested without a change here. Must not know what the
//! answers contain.

use std::collections::BTreeMap;

use billing_sync::api::openapi;
use billing_sync::api::principal::Scope;
use billing_sync::api::principal::token::TokenId;
use billing_sync::api::principal::token_store;
use billing_sync::domain::object::row_id;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::harness::{ADA, ApiClient, ApiTest, BO, PREFIX, request};
use super::jwt::{Key, Provider, admin_claims, claims};
use super::schema;
use crate::support::client::{Client, Reply};
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
    assert!(routes.len() >= 13, "{routes:?}");
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
                "PUT" => Some(json!({ "name": "Changed" })),
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
        "INSERT INTO billing.checkout_sessions (id, account, stripe_session_id, status, stripe_customer_id, workspace_id)
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

/// What a client sees of a problem, without what differs in each reply.
fn shape(reply: &Reply) -> (Vec<&str>, Value) {
    let differs = |line: &str| line.starts_with("x-request-id:") || line.starts_with("date:");
    let mut body: Value = serde_json::from_str(&reply.text).unwrap();
    body["requestId"] = Value::Null;
    (reply.headers.lines().filter(|line| !differs(line)).collect(), body)
}

async fn without_token(test: &ApiTest, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut client = Client::connect(test.address()).await;
    client.send(&request(method, &format!("{PREFIX}{path}"), headers, None)).await;
    client.reply().await.unwrap()
}

#[tokio::test]
async fn what_belongs_to_others_looks_like_what_does_not_exist() {
    let test = start().await;
    let (theirs, _own) = (billed(&test, "ada", ADA).await, billed(&test, "bo", BO).await);
    let key = [("Idempotency-Key", "known")];
    for call in theirs.calls().iter().filter(|call| call.method == "POST") {
        call.send_with(&test.user(ADA).await, &key).await.json(200);
    }
    let strangers =
        [test.user(BO).await, test.user(Uuid::new_v4()).await, test.client(None, &[Scope::WorkspacesWrite]).await];
    let before = rows(&test).await;
    let headers: [&[(&str, &str)]; 4] = [&[], &[("If-None-Match", "*")], &[("If-Match", "*")], &key];
    for stranger in &strangers {
        for (call, unknown) in theirs.calls().iter().zip(Ids::unknown().calls()) {
            for headers in headers {
                let reply = call.send_with(stranger, headers).await;
                reply.problem("not-found");
                assert_eq!(reply.status, 404);
                assert_eq!(shape(&reply), shape(&unknown.send_with(stranger, headers).await), "{call:?}");
            }
        }
        for query in ["", "?search=ada", &format!("?search={}", theirs.workspace)] {
            let list = stranger.get(&format!("{LIST}{query}")).await.json(200).to_string();
            assert!(!list.contains(&theirs.workspace), "{list}");
        }
    }
    let after = rows(&test).await;
    for (table, rows) in &before {
        assert_eq!(after.get(table), Some(rows), "{table}");
    }
    test.finish().await;
}

/// The counterpart: the same requests of the owner and of an admin succeed.
#[tokio::test]
async fn the_owner_and_the_admin_reach_every_route() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    for client in [test.user(ADA).await, test.admin().await, test.client(Some(BO), &[Scope::WorkspacesAdmin]).await] {
        for call in ids.calls() {
            let reply = call.send(&client).await;
            if call.method == "DELETE" {
                reply.problem("workspace-has-subscription");
            } else {
                assert_eq!(reply.status, 200, "{call:?}: {reply:?}");
            }
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_contact_or_session_is_reached_only_through_its_own_workspace() {
    let test = start().await;
    let (one, two) = (billed(&test, "one", ADA).await, billed(&test, "two", ADA).await);
    let moved = add_session(&test, "cs_moved", &one.customer, &format!("'{}'", two.workspace)).await;
    let unlinked = add_session(&test, "cs_unlinked", &one.customer, "NULL").await;
    let contact =
        |workspace: &Ids, contact: &Ids| format!("{LIST}/{}/billing-contacts/{}", workspace.workspace, contact.contact);
    let session = |workspace: &Ids, of: &Ids, session: &str| {
        format!("{}/stripe-checkout-sessions/{session}", contact(workspace, of))
    };
    for client in [test.user(ADA).await, test.admin().await] {
        for path in [contact(&one, &one), session(&one, &one, &one.session), session(&one, &one, &unlinked)] {
            assert_eq!(client.get(&path).await.status, 200, "{path}");
        }
        for path in [
            contact(&one, &two),
            session(&one, &one, &two.session),
            session(&one, &two, &one.session),
            session(&one, &two, &two.session),
            session(&two, &one, &one.session),
            // of this customer, for the other workspace
            session(&one, &one, &moved),
            session(&two, &two, &moved),
            session(&two, &one, &moved),
        ] {
            client.get(&path).await.problem("not-found");
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_customer_with_two_workspaces_shows_each_member_only_their_own() {
    let test = start().await;
    let ada = billed(&test, "ada", ADA).await;
    let own = test.workspace("Own", BO).await;
    let link = json!({ "metadata": { "workspace_id": own } });
    let second = with(&subscription("sub_second", &ada.customer), link);
    test.app.deliver_and_drain(&[event("evt_second", "customer.subscription.created", 1, &second, None)]).await;
    for (user, workspace) in [(ADA, ada.workspace.clone()), (BO, own.to_string())] {
        let client = test.user(user).await;
        for id in [&ada.customer, &ada.contact] {
            let state = client.get(&format!("{STATE}?customer={id}")).await.json(200);
            assert_eq!(state["workspaceId"], workspace, "{state}");
            let list = client.get(LIST).await.json(200);
            assert_eq!((&list["page"]["totalElements"], &list["data"][0]["id"]), (&json!(1), &json!(workspace)));
        }
    }
    let bo = test.user(BO).await;
    bo.get(&Ids { workspace: own.to_string(), ..ada }.fill(&format!(
        "{LIST}/{{workspaceId}}/billing-contacts/{{billingContactId}}/stripe-checkout-sessions/{{sessionId}}"
    )))
    .await
    .problem("not-found");
    test.finish().await;
}

#[tokio::test]
async fn every_route_requires_credentials_in_one_authorization_header() {
    let test = start().await;
    let token = test.admin().await.token;
    let (bearer, cookie) = (format!("Bearer {token}"), format!("token={token}"));
    let (token, bearer, cookie) = (token.as_str(), bearer.as_str(), cookie.as_str());
    let headers: [&[(&str, &str)]; 7] = [
        &[],
        &[("Authorization", "")],
        &[("Authorization", "Bearer")],
        &[("Authorization", token)],
        &[("Authorization", "Basic eDp5")],
        &[("Cookie", cookie), ("X-API-Key", token)],
        &[("Authorization", bearer), ("Authorization", bearer)],
    ];
    for (method, template) in routes() {
        let path = format!("{}?access_token={token}", Ids::unknown().fill(&template));
        for headers in headers {
            let reply = without_token(&test, &method, &path, headers).await;
            reply.problem("authentication-required");
            let (challenge, connection) = (reply.header("www-authenticate"), reply.header("connection"));
            let expected = (401, Some("Bearer realm=\"billing-sync\""), Some("close"));
            assert_eq!((reply.status, challenge, connection), expected, "{method} {path} {headers:?}");
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_token_that_may_only_read_changes_nothing() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    let reader = test.client(Some(ADA), &[Scope::WorkspacesRead]).await;
    let before = rows(&test).await;
    for call in ids.calls().into_iter().chain(Ids::unknown().calls()).chain([Call::creation()]) {
        let reply = call.send(&reader).await;
        if call.reads() {
            assert!([200, 404].contains(&reply.status), "{call:?}: {reply:?}");
            continue;
        }
        reply.problem("insufficient-scope");
        let challenge = "Bearer realm=\"billing-sync\", error=\"insufficient_scope\"";
        assert_eq!((reply.status, reply.header("www-authenticate")), (403, Some(challenge)), "{call:?}");
    }
    assert_eq!(rows(&test).await, before);
    test.finish().await;
}

#[tokio::test]
async fn a_scope_of_another_release_permits_nothing() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    let client = test.user(ADA).await;
    test.execute("UPDATE billing.api_tokens SET scopes = '{workspaces:all,WORKSPACES:ADMIN,admin,*}'").await;
    let list = Call { method: "GET".to_owned(), path: LIST.to_owned(), body: None };
    for call in ids.calls().into_iter().chain([Call::creation(), list]) {
        call.send(&client).await.problem("insufficient-scope");
    }
    test.execute("UPDATE billing.api_tokens SET scopes = '{workspaces:all,workspaces:read}'").await;
    for call in ids.calls().iter().filter(|call| call.reads()) {
        call.send(&client).await.json(200);
    }
    Call::creation().send(&client).await.problem("insufficient-scope");
    test.finish().await;
}

#[tokio::test]
async fn a_member_reads_and_consumes_and_only_an_owner_changes_the_workspace() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    let workspace = &ids.workspace;
    test.execute(&format!("INSERT INTO billing.workspace_members VALUES ('{workspace}', '{BO}', 'member')")).await;
    let member = test.user(BO).await;
    for call in ids.calls() {
        let reply = call.send(&member).await;
        if ["PUT", "DELETE"].contains(&call.method.as_str()) {
            reply.problem("owner-required");
            assert_eq!(reply.status, 403);
        } else {
            assert_eq!(reply.status, 200, "{call:?}: {reply:?}");
        }
    }
    assert_eq!(member.get(&format!("{LIST}/{workspace}")).await.json(200)["name"], "ada");
    test.execute(&format!("DELETE FROM billing.workspace_members WHERE user_id = '{BO}'")).await;
    for call in ids.calls() {
        call.send(&member).await.problem("not-found");
    }
    test.finish().await;
}

#[tokio::test]
async fn a_users_jwt_cannot_change_what_the_product_counts() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    let (own, theirs) = (billed(&test, "ada", ADA).await, billed(&test, "bo", BO).await);
    let user = test.with_token(&key.sign(&claims(ADA)));
    let before = rows(&test).await;
    for (ids, may_see) in [(&own, true), (&theirs, false), (&Ids::unknown(), false)] {
        for call in ids.calls() {
            let reply = call.send(&user).await;
            match call.method.as_str() {
                "POST" => {
                    reply.problem("service-required");
                    assert_eq!(reply.status, 403);
                }
                "GET" if may_see => assert_eq!(reply.status, 200, "{call:?}: {reply:?}"),
                _ if may_see => assert!([200, 409].contains(&reply.status), "{call:?}: {reply:?}"),
                _ => assert_eq!(reply.problem("not-found")["status"], 404),
            }
        }
    }
    assert_eq!(rows(&test).await["billing.subscription_limits"], before["billing.subscription_limits"]);
    for client in [test.with_token(&key.sign(&admin_claims(BO))), test.user(ADA).await, test.admin().await] {
        for call in own.calls().iter().filter(|call| call.method == "POST") {
            call.send(&client).await.json(200);
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_token_without_a_user_creates_no_workspace() {
    let test = start().await;
    for scope in [Scope::WorkspacesWrite, Scope::WorkspacesAdmin] {
        let reply = Call::creation().send(&test.client(None, &[scope]).await).await;
        reply.problem("user-required");
        assert_eq!(reply.status, 403);
    }
    assert_eq!(test.admin().await.get(LIST).await.json(200)["page"]["totalElements"], 0);
    test.finish().await;
}

/// The id of a token.
fn id(token: &str) -> TokenId {
    TokenId::named_by(token).unwrap()
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_401() {
    let test = start().await;
    let [valid, revoked, expired, later] =
        [test.admin().await, test.admin().await, test.admin().await, test.admin().await].map(|client| client.token);
    for (token, change) in [
        (&revoked, "revoked_at = clock_timestamp()"),
        (&expired, "expires_at = clock_timestamp()"),
        (&later, "expires_at = clock_timestamp() + interval '1 hour'"),
    ] {
        test.execute(&format!("UPDATE billing.api_tokens SET {change} WHERE id = '{}'", id(token))).await;
    }
    let (unknown, secret) = (token_store::random_token().unwrap().expose(), valid.rsplit('_').next().unwrap());
    let refused = [
        revoked.clone(),
        expired,
        unknown.clone(),
        // the secret of another token
        format!("bs_{}_{secret}", id(&unknown)),
        format!("bs_{}_{secret}", id(&later)),
        format!("bs_{}_{}", id(&valid), "0".repeat(64)),
        valid.to_uppercase().replacen("BS", "bs", 1),
        valid[..valid.len() - 1].to_owned(),
        format!("{valid}0"),
        format!("{valid} 0"),
        format!("bs_{}", id(&valid)),
        "bs_".to_owned(),
        format!("bs_{}", "0".repeat(10_000)),
        // without an identity provider
        Key::p256("a").sign(&claims(ADA)),
        "x".to_owned(),
    ];
    let challenge = Some("Bearer realm=\"billing-sync\", error=\"invalid_token\"");
    for token in &refused {
        let reply = test.with_token(token).get(LIST).await;
        let problem = reply.problem("invalid-token");
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, challenge), "{token}");
        assert!(!problem["detail"].as_str().unwrap().contains(secret), "{problem}");
    }
    for token in [&valid, &later, &format!(" {valid} ")] {
        test.with_token(token).get(LIST).await.json(200);
    }
    for call in Ids::unknown().calls() {
        call.send(&test.with_token(&revoked)).await.problem("invalid-token");
    }
    test.finish().await;
}

#[tokio::test]
async fn a_token_is_revoked_on_an_open_connection_too() {
    let test = start().await;
    let client = test.admin().await;
    let bearer = format!("Bearer {}", client.token);
    let bytes = request("GET", &format!("{PREFIX}{LIST}"), &[("Authorization", bearer.as_str())], None);
    let mut connection = Client::connect(test.address()).await;
    connection.send(&bytes).await;
    let reply = connection.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, None));
    token_store::revoke(&mut *test.app.pool.acquire().await.unwrap(), &id(&client.token)).await.unwrap();
    connection.send(&bytes).await;
    connection.reply().await.unwrap().problem("invalid-token");
    assert_eq!(connection.reply().await, None, "it is closed");
    test.finish().await;
}

#[tokio::test]
async fn an_id_has_one_spelling_in_upper_or_lower_case() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    let ada = test.user(ADA).await;
    let upper = Ids { workspace: ids.workspace.to_uppercase(), contact: ids.contact.to_uppercase(), ..ids.clone() };
    for (call, same) in ids.calls().iter().zip(upper.calls()).filter(|(call, _)| call.reads()) {
        assert_eq!(same.send(&ada).await.json(200), call.send(&ada).await.json(200), "{call:?}");
    }
    let spellings: [fn(&str) -> String; 6] = [
        |id| id.replace('-', ""),
        |id| format!("%7B{id}%7D"),
        |id| format!("urn:uuid:{id}"),
        |id| format!("%20{id}"),
        |id| format!("{id}%00"),
        |id| format!("{id}%2F..%2F{id}"),
    ];
    for spell in spellings {
        let (workspace, contact) = (spell(&ids.workspace), spell(&ids.contact));
        for (other, id) in [
            (Ids { workspace: workspace.clone(), ..ids.clone() }, workspace),
            (Ids { contact: contact.clone(), ..ids.clone() }, contact),
        ] {
            for call in other.calls().iter().filter(|call| call.path.contains(&id)) {
                call.send(&ada).await.problem("not-found");
            }
        }
    }
    test.finish().await;
}
