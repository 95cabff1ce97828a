//! Secrets and personal data stay out of logs, metrics, answers and errors, even at the log level `trace`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use billing_sync::api::openapi;
use billing_sync::api::principal::Scope;
use billing_sync::api::principal::token::Token;
use billing_sync::api::principal::token_store::{self, NewToken};
use billing_sync::base::clock;
use billing_sync::database::Connection;
use billing_sync::domain::object::row_id;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use uuid::Uuid;

use crate::api::harness::{ADA, PREFIX, request};
use crate::api::jwt::{Key, claims, jwks, settings};
use crate::support::app::SECRET;
use crate::support::client::Client;
use crate::support::cluster;
use crate::support::events::{customer, event, subscription, with};
use crate::support::process::Server;
use crate::support::stripe::FakeStripe;

/// Secrets and values of events; none of them may be logged or exposed.
const PRIVATE: [&str; 6] = ["hunter2", "Hauptstr", "pi_secret_of_theirs", "billing@example.com", SECRET, "D-10115"];

#[tokio::test]
async fn nothing_private_is_logged_at_trace_level() {
    let database = cluster::database().await;
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    // one contact is refused by the database, whose message quotes the row
    let refuse = "ALTER TABLE billing.billing_contacts ADD CHECK (stripe_customer_id <> 'cus_2')";
    sqlx::raw_sql(refuse).execute(&mut conn).await.unwrap();
    let settings = [("BILLING_SYNC_LOG", "trace"), ("BILLING_SYNC_MAX_ATTEMPTS", "2")];
    let server = Server::start(&database, "receiver,worker,maintenance", &settings).await;
    for id in ["cus_1", "cus_2"] {
        let mut object = with(&customer(id, "hunter2"), json!({ "client_secret": "pi_secret_of_theirs" }));
        // digits without letters also occur in timestamps
        object["address"]["postal_code"] = json!("D-10115");
        let created = event(&format!("evt_{id}"), "customer.created", 0, &object, None);
        assert_eq!(server.deliver(&created).await, Some(200));
    }
    let broken = with(&subscription("sub_1", "cus_1"), json!({ "status": { "hunter2": 1 } }));
    server.deliver(&event("evt_3", "customer.subscription.created", 0, &broken, None)).await;
    let mut dead: i64 = 0;
    for _ in 0..1000 {
        let query = "SELECT count(*) FROM billing.outbox WHERE state = 'dead'";
        dead = sqlx::query_scalar(query).fetch_one(&mut conn).await.unwrap();
        if dead == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(dead, 2);
    let metrics = server.get_metrics().await;
    assert!(metrics.contains("billing_sync_events_processed_total"));
    let query = "SELECT string_agg(last_error, ' ') FROM billing.outbox WHERE last_error IS NOT NULL";
    let errors: String = sqlx::query_scalar(query).fetch_one(&mut conn).await.unwrap();
    server.signal(Signal::SIGTERM);
    let log = server.rest_of_the_log().await;
    assert!(log.contains("an event is dead"), "the log has the error");
    for private in PRIVATE {
        for (output, text) in [("log", &log), ("metrics", &metrics), ("last_error", &errors)] {
            assert!(!text.contains(private), "{private} is in the {output}: {}", context(text, private));
        }
    }
}

/// Claims, names and search words of clients of the workspace API; none of them may be logged, exposed or repeated.
const PRIVATE_OF_CLIENTS: [&str; 6] =
    ["ada@jwt.example", "Augusta", "Ockham Park", "424242150", "000000000ada", "Geheimprojekt"];

/// A client of the workspace API of a process.
struct Caller {
    address: SocketAddr,
    workspace: String,
    /// The bodies of all problems.
    problems: String,
    /// The statuses of all answers.
    statuses: BTreeSet<u16>,
}

impl Caller {
    /// Sends a request with these credentials and returns the body of the answer.
    async fn send(&mut self, credentials: &str, method: &str, path: &str, body: Option<&str>) -> String {
        let bearer = format!("Bearer {credentials}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", "hunter2"),
            ("If-Match", "\"hunter2\""),
            ("Origin", "https://hunter2.example"),
            ("User-Agent", "hunter2"),
        ];
        // a change is not refused for the condition
        let headers = if method == "PUT" { &headers[..2] } else { &headers[..] };
        let path = format!("{PREFIX}{}", path.replace("{id}", &self.workspace));
        let mut client = Client::connect(self.address).await;
        client.send(&request(method, &path, headers, body.map(str::as_bytes))).await;
        let reply = client.reply().await.unwrap();
        self.statuses.insert(reply.status);
        if reply.status >= 400 {
            self.problems.extend([method, " ", &reply.text, "\n"]);
        }
        reply.text
    }

    /// Requests that succeed, and many that do not.
    async fn send_all(&mut self, credentials: &str) {
        let contact = format!("/v1/workspaces/{{id}}/billing-contacts/{}", row_id("", "cus_1"));
        let session = format!("{contact}/stripe-checkout-sessions/hunter2");
        let sessions = session.trim_end_matches("/hunter2");
        let long = "Geheimprojekt".repeat(30);
        let (search, name) = (format!("/v1/workspaces?search={long}"), json!({ "name": long }).to_string());
        for (method, path, body) in [
            ("GET", "/v1/workspaces?search=Geheimprojekt", None),
            ("GET", "/v1/workspaces/{id}", None),
            ("GET", contact.as_str(), None),
            ("GET", session.as_str(), None),
            ("PUT", contact.as_str(), Some(r#"{"name":"Geheimprojekt Süd","email":"ada@jwt.example"}"#)),
            ("POST", sessions, Some(r#"{"callbackUrl":"https://hunter2.example/Geheimprojekt"}"#)),
            ("GET", "/v1/workspaces/{id}/history", None),
            ("GET", "/v1/workspaces/{id}/limits", None),
            ("GET", "/v1/state?workspace={id}", None),
            ("GET", "/v1/state?customer=cus_1", None),
            ("PUT", "/v1/workspaces/{id}", Some(r#"{"name":"Geheimprojekt Nord"}"#)),
            ("POST", "/v1/workspaces/{id}/limits/hunter2/consume", Some(r#"{"amount":1}"#)),
            ("POST", "/v1/workspaces/{id}/limits/words/consume", Some(r#"{"amount":"hunter2"}"#)),
            ("POST", "/v1/workspaces", Some(r#"{"name":{"hunter2":"Geheimprojekt"}}"#)),
            ("POST", "/v1/workspaces", Some(r#"{"name":"Geheimprojekt"#)),
            ("POST", "/v1/workspaces", Some(name.as_str())),
            // refused by the database, whose message quotes the row
            ("PUT", "/v1/workspaces/{id}", Some(r#"{"name":"Geheimprojekt refused"}"#)),
            ("GET", "/v1/workspaces/Geheimprojekt", None),
            ("GET", "/v1/hunter2/Geheimprojekt", None),
            ("PATCH", "/v1/workspaces?name=Geheimprojekt", None),
            ("GET", "/v1/state?customer=hunter2", None),
            ("GET", "/v1/state?workspace=Geheimprojekt&customer=hunter2", None),
            ("GET", "/v1/workspaces/{id}/history?before=hunter2", None),
            ("GET", "/v1/workspaces?page=hunter2&size=hunter2&sort=Geheimprojekt&order=hunter2", None),
            ("GET", "/v1/workspaces?importedFromLegacyTeamIds=hunter2&ownerLegacyCustomerIds=Geheimprojekt", None),
            ("GET", search.as_str(), None),
        ] {
            self.send(credentials, method, path, body).await;
        }
        let cut = &credentials[..credentials.len() - 1];
        self.send(cut, "GET", &format!("/v1/workspaces?access_token={credentials}"), None).await;
    }
}

/// A new token.
async fn token(conn: &mut Connection, user: Option<Uuid>, scope: Scope) -> String {
    let token = token_store::random_token().unwrap();
    let new = NewToken { token: &token, scopes: &[scope], user, note: None, lifetime: None };
    token_store::create(conn, &new).await.unwrap();
    token.expose()
}

/// The parts of credentials that must stay secret: of a token the secret and its hash, of a JWT the claims and the
/// signature.
fn secrets(credentials: &str) -> Vec<String> {
    match Token::parse(credentials) {
        Some(token) => {
            let secret = credentials.rsplit('_').next().unwrap();
            vec![secret.to_owned(), secret[..40].to_owned(), hex::encode(token.hash().as_bytes())]
        }
        None => credentials.split('.').skip(1).map(str::to_owned).collect(),
    }
}

/// Label values of the API's requests: only methods and templates of routes.
fn check_labels(metrics: &str) {
    let documents = [openapi::workspaces(), openapi::checkout_links()];
    let documents = documents.map(|document| serde_json::to_value(document).unwrap());
    let routes: BTreeSet<&String> =
        documents.iter().flat_map(|document| document["paths"].as_object().unwrap().keys()).collect();
    for line in metrics.lines().filter(|line| line.starts_with("billing_sync_api_requests_total{")) {
        let route = line.split_once("route=\"").unwrap().1.split_once('"').unwrap().0;
        assert!(route == "unmatched" || routes.contains(&route.to_owned()), "{line}");
    }
}

#[tokio::test]
async fn nothing_private_of_the_workspace_api_is_logged_exposed_or_repeated_in_a_problem() {
    let database = cluster::database().await;
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    let (key, file) = (Key::p256("a"), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), jwks(&[&key])).unwrap();
    let [issuer, audience, keys] = settings(file.path().to_str().unwrap());
    let stripe = FakeStripe::start().await;
    assert_eq!(stripe.customer(json!({ "name": "hunter2" })), "cus_1");
    let base = stripe.base();
    let settings = [
        ("BILLING_SYNC_LOG", "trace"),
        ("BILLING_SYNC_API_LISTEN", "127.0.0.1:0"),
        ("STRIPE_WRITE_KEY", stripe.write_key()),
        ("STRIPE_API_BASE", &base),
        issuer,
        audience,
        keys,
    ];
    let server = Server::start(&database, "receiver,worker,api", &settings).await;
    let address = server.serving()["api"].as_str().unwrap();
    let address = address.trim_start_matches("http://").trim_end_matches(PREFIX).parse().unwrap();
    let mut caller = Caller { address, workspace: String::new(), problems: String::new(), statuses: BTreeSet::new() };

    let personal = json!({ "email": "ada@jwt.example", "name": "Augusta Byron", "legacy_customer_id": 424_242_150,
        "address": { "street_address": "Ockham Park" } });
    let personal = with(&claims(ADA), personal);
    let jwt = key.sign(&personal);
    let refused = [
        Key::p256("a").sign(&personal),
        key.sign(&with(&personal, json!({ "exp": clock::now().unix_timestamp() - 60 }))),
        key.sign(&with(&personal, json!({ "iss": "https://hunter2.example/" }))),
        key.sign(&with(&personal, json!({ "sub": "ada@jwt.example" }))),
    ];
    let admin = token(&mut conn, None, Scope::WorkspacesAdmin).await;
    let user = token(&mut conn, Some(ADA), Scope::WorkspacesWrite).await;
    let made = caller.send(&jwt, "POST", "/v1/workspaces", Some(r#"{"name":"Geheimprojekt"}"#)).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    caller.workspace = made["id"].as_str().unwrap().to_owned();
    let mut buyer = with(&customer("cus_1", "hunter2"), json!({ "metadata": { "workspace_id": caller.workspace } }));
    buyer["address"]["postal_code"] = json!("D-10115");
    assert_eq!(server.deliver(&event("evt_1", "customer.created", 0, &buyer, None)).await, Some(200));
    let mut contacts: i64 = 0;
    for _ in 0..1000 {
        let query = "SELECT count(*) FROM billing.billing_contacts WHERE stripe_customer_id = 'cus_1'";
        contacts = sqlx::query_scalar(query).fetch_one(&mut conn).await.unwrap();
        if contacts == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(contacts, 1);
    let refuse = "ALTER TABLE billing.workspaces ADD CHECK (name <> 'Geheimprojekt refused')";
    sqlx::raw_sql(refuse).execute(&mut conn).await.unwrap();
    let credentials: Vec<&str> = [&jwt, &user, &admin].into_iter().chain(&refused).map(String::as_str).collect();
    for credentials in &credentials {
        caller.send_all(credentials).await;
    }
    // an answer that cannot be read: a column of another type, with a private value
    let change =
        "ALTER TABLE billing.workspaces ALTER imported_from_legacy_customer_id TYPE text USING 'Geheimprojekt'";
    sqlx::raw_sql(change).execute(&mut conn).await.unwrap();
    for path in ["/v1/workspaces", "/v1/workspaces/{id}"] {
        caller.send(&admin, "GET", path, None).await;
    }
    assert!([200, 201, 400, 401, 404, 405, 422, 500].iter().all(|status| caller.statuses.contains(status)));

    let metrics = server.get_metrics().await;
    check_labels(&metrics);
    for id in [caller.workspace.as_str(), &row_id("", "cus_1").to_string(), "cus_1", &admin[3..19], &user[3..19]] {
        assert!(!metrics.contains(id), "{id} is in the metrics: {}", context(&metrics, id));
    }
    server.signal(Signal::SIGTERM);
    let log = server.rest_of_the_log().await;
    assert!(log.contains("an API request failed") && log.contains("api_tokens.find"), "the log has the requests");
    assert!(log.contains("changed an object at Stripe"), "the log has the changes");
    let private = credentials.iter().flat_map(|credentials| secrets(credentials));
    let private = private.chain(PRIVATE.into_iter().chain(PRIVATE_OF_CLIENTS).map(str::to_owned));
    for private in private {
        for (output, text) in [("log", &log), ("metrics", &metrics), ("problems", &caller.problems)] {
            assert!(!text.contains(&private), "{private} is in the {output}: {}", context(text, &private));
        }
    }
}

/// The line that contains the value.
fn context<'a>(text: &'a str, found: &str) -> &'a str {
    text.lines().find(|line| line.contains(found)).unwrap_or_default()
}
