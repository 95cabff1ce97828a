//! `kill -9` of the writing process at each step of each change: one effect at Stripe, one answer, rows as at Stripe.

use std::time::Duration;

use billing_sync::database::Pool;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::harness::{CALLBACK, ORIGIN, Shop};
use crate::api::harness::{PREFIX, request};
use crate::api::process::{LISTEN, address};
use crate::support::client::{Client, Reply};
use crate::support::process::Server;
use crate::support::stripe::Fault;

/// Where the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Before the line is committed.
    Begin,
    /// After that, before anything is sent.
    Lease,
    /// While the request is on its way.
    Request,
    /// After Stripe's effect, before its answer.
    Answer,
    /// Before the merge is committed.
    Complete,
    /// After that, before the client has its answer.
    Reply,
}

const STEPS: [Step; 6] = [Step::Begin, Step::Lease, Step::Request, Step::Answer, Step::Complete, Step::Reply];

/// A change that a client asks for.
pub(super) struct Case {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) body: Value,
    /// The path of its request at Stripe.
    pub(super) at_stripe: &'static str,
}

impl Step {
    /// A trigger that makes the process wait at the gate.
    fn gate(self) -> Option<&'static str> {
        Some(match self {
            Self::Begin => "BEFORE INSERT ON billing.api_writes FOR EACH ROW",
            Self::Lease => "BEFORE UPDATE ON billing.api_writes FOR EACH ROW WHEN (OLD.state = 'begun')",
            Self::Complete => "BEFORE UPDATE ON billing.api_writes FOR EACH ROW WHEN (NEW.state = 'done')",
            Self::Request | Self::Answer | Self::Reply => return None,
        })
    }

    fn fault(self) -> Option<Fault> {
        match self {
            Self::Request => Some(Fault::Hang),
            Self::Answer => Some(Fault::HangAfterEffect),
            _ => None,
        }
    }
}

const GATE: &str = "CREATE OR REPLACE FUNCTION public.wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$";

/// Name of the process's sessions.
const APPLICATION: &str = "to-be-killed";

/// A process that serves the API and writes.
async fn start(shop: &Shop) -> Server {
    start_with(shop, &[]).await
}

/// The same with further settings.
pub(super) async fn start_with(shop: &Shop, settings: &[(&str, &str)]) -> Server {
    let base = shop.stripe.base();
    let environment = [
        LISTEN,
        ("STRIPE_SECRET_KEY", shop.stripe.key()),
        ("STRIPE_WRITE_KEY", shop.stripe.write_key()),
        ("STRIPE_API_BASE", &base),
        ("BILLING_SYNC_API_CORS_ORIGINS", ORIGIN),
    ];
    let environment = [&environment, settings].concat();
    let url = &shop.test.app.database.url;
    let separator = if url.contains('?') { '&' } else { '?' };
    Server::start_on(&format!("{url}{separator}application_name={APPLICATION}"), "api", &environment).await
}

pub(super) async fn send(shop: &Shop, server: &Server, case: &Case, key: &str) -> Option<Reply> {
    let authorization = format!("Bearer {}", shop.ada.token);
    let headers =
        [("Authorization", authorization.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", key)];
    let body = case.body.to_string();
    let bytes = request(case.method, &format!("{PREFIX}{}", case.path), &headers, Some(body.as_bytes()));
    let mut client = Client::try_connect(address(server.serving())).await?;
    client.try_send(&bytes).await?;
    client.reply().await
}

pub(super) async fn number(pool: &Pool, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
}

pub(super) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waited = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Ends the sessions of a killed process, as the server does when it detects the closed socket.
pub(super) async fn end_sessions(pool: &Pool) {
    let sessions =
        format!("FROM pg_stat_activity WHERE datname = current_database() AND application_name = '{APPLICATION}'");
    number(pool, &format!("SELECT count(pg_terminate_backend(pid)) {sessions}")).await;
    until("its sessions end", async || number(pool, &format!("SELECT count(*) {sessions}")).await == 0).await;
}

/// Kills a process at this step of the change; returns the reply, if there was one.
async fn kill_at(shop: &Shop, step: Step, case: &Case, key: &str) -> Option<Reply> {
    let pool = &shop.test.app.pool;
    let server = start(shop).await;
    let mut gate = pool.acquire().await.unwrap();
    if let Some(trigger) = step.gate() {
        sqlx::raw_sql("SELECT pg_advisory_lock(42)").execute(&mut gate).await.unwrap();
        let create = format!("{GATE}; CREATE TRIGGER gate {trigger} EXECUTE FUNCTION public.wait_at_the_gate()");
        shop.test.execute(&create).await;
    }
    if let Some(fault) = step.fault() {
        shop.stripe.fail_next_of("POST", case.at_stripe, 1, fault);
    }
    let sent = shop.stripe.writes().len();
    let reached = async {
        match step {
            Step::Begin | Step::Lease | Step::Complete => {
                let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
                until("it waits at the gate", async || number(pool, waiting).await > 0).await;
            }
            Step::Request => until("it is sent", async || shop.stripe.writes().len() > sent).await,
            Step::Answer => until("it has its effect", async || shop.stripe.effects().len() == 1).await,
            Step::Reply => {
                let done = "SELECT count(*) FROM billing.api_writes WHERE state = 'done'";
                until("it is done", async || number(pool, done).await == 1).await;
            }
        }
    };
    let reply = tokio::select! {
        reply = send(shop, &server, case, key) => reply,
        () = reached => None,
    };
    server.kill().await;
    end_sessions(pool).await;
    if step.gate().is_some() {
        sqlx::raw_sql("SELECT pg_advisory_unlock(42)").execute(&mut gate).await.unwrap();
        shop.test.execute("DROP TRIGGER gate ON billing.api_writes").await;
    }
    shop.stripe.recover();
    reply
}

/// Kills at each step, and then repeats the request or lets recovery complete it.
async fn survives(case: impl AsyncFn(&Shop) -> Case, is_repeated: bool) {
    for step in STEPS {
        let shop = Shop::open_reading().await;
        let case = case(&shop).await;
        let first = kill_at(&shop, step, &case, "once").await;
        // the lease of the killed process ends
        shop.test.execute("UPDATE billing.api_writes SET leased_until = NULL, retry_at = '-infinity'").await;
        let server = start(&shop).await;
        if !is_repeated && step != Step::Begin {
            let open = "SELECT count(*) FROM billing.api_writes WHERE state IN ('begun', 'sent')";
            until("recovery completes it", async || number(&shop.test.app.pool, open).await == 0).await;
            assert_eq!(shop.stripe.effects().len(), 1, "{step:?}");
        }
        let reply = repeat(&shop, &server, &case).await;
        assert!([200, 201].contains(&reply.status), "{step:?} {reply:?}");
        if let Some(first) = first {
            assert_eq!(first.text, reply.text, "{step:?}");
        }
        assert_eq!(repeat(&shop, &server, &case).await.text, reply.text, "{step:?}: one answer for each key");
        assert_eq!(shop.stripe.effects().len(), 1, "{step:?}: {:#?}", shop.stripe.effects());
        let open = "SELECT count(*) FROM billing.api_writes WHERE state IN ('begun', 'sent')";
        until("recovery completes it", async || number(&shop.test.app.pool, open).await == 0).await;
        assert_rows_are_true(&shop, step).await;
        server.kill().await;
        shop.finish().await;
    }
}

/// Repeats a request while the first one is still running.
async fn repeat(shop: &Shop, server: &Server, case: &Case) -> Reply {
    for _ in 0..20 {
        let reply = send(shop, server, case, "once").await.unwrap();
        if !reply.text.contains("\"retryable\":true") {
            return reply;
        }
        sleep(Duration::from_millis(200)).await;
    }
    let last = send(shop, server, case, "once").await.unwrap();
    panic!("it never ends: {}, {last:?}", shop.lines().await)
}

/// Every customer and session at Stripe has its row, with its values; also after all webhooks.
async fn assert_rows_are_true(shop: &Shop, step: Step) {
    for is_delivered in [false, true] {
        if is_delivered {
            shop.deliver(0).await;
        }
        for (id, object) in shop.stripe.truth() {
            let row = match object["object"].as_str().unwrap() {
                "customer" => format!("SELECT name FROM billing.billing_contacts WHERE stripe_customer_id = '{id}'"),
                "checkout.session" => {
                    format!("SELECT status FROM billing.checkout_sessions WHERE stripe_session_id = '{id}'")
                }
                _ => continue,
            };
            let expected = object.get("name").or(object.get("status")).unwrap();
            assert_eq!(shop.text(&row).await.as_deref(), expected.as_str(), "{step:?} {id} {is_delivered}");
        }
    }
}

async fn rename(shop: &Shop) -> Case {
    let body = json!({ "name": "Ada Lovelace", "email": "ada@example.com" });
    Case { method: "PUT", path: shop.contact_path().await, body, at_stripe: "/v1/customers/" }
}

async fn checkout(shop: &Shop) -> Case {
    let body = json!({ "callbackUrl": CALLBACK, "pricingPlanId": shop.plan().await });
    let path = format!("{}/stripe-checkout-sessions", shop.contact_path().await);
    Case { method: "POST", path, body, at_stripe: "/v1/checkout/sessions" }
}

async fn workspace(_: &Shop) -> Case {
    let body = json!({ "name": format!("New {}", Uuid::nil()) });
    Case { method: "POST", path: "/v1/workspaces".to_owned(), body, at_stripe: "/v1/customers" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_change_of_a_contact_is_made_once() {
    survives(rename, true).await;
    survives(rename, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_creation_of_a_session_is_made_once() {
    survives(checkout, true).await;
    survives(checkout, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_creation_of_a_workspace_makes_one_customer() {
    survives(workspace, true).await;
    survives(workspace, false).await;
}
