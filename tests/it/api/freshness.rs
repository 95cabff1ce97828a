//! How fresh an answer is: entity tags and conditions, the headers `Billing-As-Of` and `Billing-Pending`, and requests
//! that wait for a change.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::harness::{ADA, ApiClient, ApiTest};
use crate::support::client::Reply;
use crate::support::events::{START, customer, event, subscription, update, with};

/// A service, and a workspace of Ada whose billing contact is Stripe's customer `cus_1`.
struct Billed {
    test: ApiTest,
    ada: ApiClient,
    workspace: Uuid,
    customer: Value,
}

impl Billed {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let test = ApiTest::start_with(settings).await;
        let workspace = test.workspace("Team", ADA).await;
        let customer = with(&customer("cus_1", "Ada"), json!({ "metadata": { "workspace_id": workspace } }));
        test.app.deliver_and_drain(&[event("evt_1", "customer.created", 0, &customer, None)]).await;
        let ada = test.user(ADA).await;
        Self { test, ada, workspace, customer }
    }

    /// A path below the workspace.
    fn path(&self, rest: &str) -> String {
        format!("/v1/workspaces/{}{rest}", self.workspace)
    }

    async fn contact(&self) -> String {
        let workspace = self.ada.get(&self.path("")).await.json(200);
        self.path(&format!("/billing-contacts/{}", workspace["billingContactId"].as_str().unwrap()))
    }

    /// The reads whose answers say how fresh they are.
    async fn fresh_reads(&self) -> Vec<String> {
        let state = format!("/v1/state?workspace={}", self.workspace);
        vec![self.path(""), self.path("/limits"), self.contact().await, state, "/v1/state?customer=cus_1".to_owned()]
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.ada.send("GET", path, headers, None).await
    }

    /// An update of the customer at this second.
    fn renamed(&self, id: &str, second: i64, name: &str) -> Value {
        update(id, "customer.updated", second, &self.customer, &with(&self.customer, json!({ "name": name })))
    }

    /// Sends a GET that waits, with the entity tag of a copy, and returns once the service has read the row, probably.
    async fn wait(&self, path: &str, copy: Option<&str>) -> JoinHandle<Reply> {
        let (ada, copied, to_read) = (self.ada.clone(), copy.map(str::to_owned), path.to_owned());
        let waiting = tokio::spawn(async move {
            let copy = copied.as_deref().map(|etag| ("If-None-Match", etag));
            ada.send("GET", &to_read, &[LONG].into_iter().chain(copy).collect::<Vec<_>>(), None).await
        });
        sleep(Duration::from_millis(500)).await;
        self.ada.get(path).await;
        waiting
    }
}

/// The reply to a waiting request, which must arrive soon after the change.
async fn answered(waiting: JoinHandle<Reply>) -> Reply {
    timeout(Duration::from_secs(10), waiting).await.expect("an answer soon after the change").unwrap()
}

/// A wait that is longer than any test.
const LONG: (&str, &str) = ("Prefer", "wait=30");

#[tokio::test]
async fn a_copy_that_is_current_is_not_sent_again() {
    let billed = Billed::start().await;
    let mut reads = billed.fresh_reads().await;
    reads.extend(["/v1/workspaces".to_owned(), billed.path("/history")]);
    for path in reads {
        let read = billed.ada.get(&path).await;
        read.json(200);
        let etag = read.header("etag").unwrap().to_owned();
        let strong = etag.trim_start_matches("W/");
        assert!(strong.starts_with('"') && strong.ends_with('"') && strong.len() > 20, "{etag}");
        let weak = format!("W/{strong}");
        let list = format!("\"a\", {weak} , \"b\"");
        for tags in [vec![strong], vec![&weak], vec![&list], vec!["\"a\"", &etag], vec!["*"]] {
            let headers: Vec<_> = tags.into_iter().map(|tag| ("If-None-Match", tag)).collect();
            let known = billed.get(&path, &headers).await;
            assert_eq!((known.status, known.text.as_str()), (304, ""), "{path} {headers:?}");
            for name in ["etag", "billing-as-of", "billing-pending", "cache-control", "vary"] {
                assert_eq!(known.header(name), read.header(name), "{path} {name}");
            }
            assert_eq!(known.header("content-type"), None);
            assert!(known.header("x-request-id").is_some());
        }
        for other in ["\"a\"", "W/\"a\", \"b\"", strong.trim_matches('"'), ""] {
            assert_eq!(billed.get(&path, &[("If-None-Match", other)]).await.text, read.text, "{path} {other}");
        }
        assert_eq!(read.header("cache-control"), Some("private, no-cache"));
        assert!(read.header("vary").is_some_and(|vary| vary.contains("authorization")), "{read:?}");
    }
    billed.get("/v1/workspaces?size=0", &[("If-None-Match", "*")]).await.problem("invalid-fields");
    billed.test.finish().await;
}

#[tokio::test]
async fn a_change_of_an_old_copy_is_refused_until_it_is_read_again() {
    let billed = Billed::start().await;
    let (ada, path) = (&billed.ada, billed.path(""));
    let old = ada.get(&path).await.header("etag").unwrap().to_owned();
    // the billing contact is part of the answer
    billed.test.app.deliver_and_drain(&[billed.renamed("evt_2", 10, "Grace")]).await;
    let change = json!({ "name": "New" });
    let list = format!("\"a\", {old}");
    for stale in [old.as_str(), "\"a\"", &list, ""] {
        for (method, body) in [("PUT", Some(&change)), ("DELETE", None)] {
            let refused = ada.send(method, &path, &[("If-Match", stale)], body).await;
            let problem = refused.problem("precondition-failed");
            assert_eq!((refused.status, &problem["retryable"]), (412, &json!(false)), "{method} {stale}");
            assert!(problem["detail"].as_str().unwrap().contains("read it again"), "{problem}");
        }
    }
    let current = ada.get(&path).await;
    assert_eq!(current.json(200)["name"], "Team", "a refused change has no effect");
    let list = format!("{old}, {}", current.header("etag").unwrap());
    let changed = ada.send("PUT", &path, &[("If-Match", &list)], Some(&change)).await;
    let read = ada.get(&path).await;
    assert_eq!(
        (changed.header("etag"), &changed.text),
        (read.header("etag"), &read.text),
        "no read is needed after a PUT"
    );
    let refused = ada.send("DELETE", &path, &[("If-Match", current.header("etag").unwrap())], None).await;
    refused.problem("precondition-failed");
    ada.send("PUT", &path, &[("If-Match", "*")], Some(&json!({ "name": "Newer" }))).await.json(200);
    let newest = ada.get(&path).await.header("etag").unwrap().to_owned();
    assert_eq!(ada.send("DELETE", &path, &[("If-Match", &newest)], None).await.status, 204);
    ada.send("DELETE", &path, &[("If-Match", "*")], None).await.problem("not-found");
    billed.test.finish().await;
}

#[tokio::test]
async fn as_of_is_how_far_events_have_been_compared() {
    let billed = Billed::start().await;
    let (test, ada) = (&billed.test, &billed.ada);
    let alone = test.workspace("Alone", ADA).await;
    let mut reads = Vec::new();
    for path in billed.fresh_reads().await.into_iter().chain([format!("/v1/workspaces/{alone}")]) {
        let etag = ada.get(&path).await.header("etag").unwrap().to_owned();
        reads.push((path, etag));
    }
    let as_of = async |expected: Option<&str>| {
        for (path, etag) in &reads {
            // a comparison is no change, and a copy becomes fresher by it
            let known = billed.get(path, &[("If-None-Match", etag)]).await;
            assert_eq!((known.status, known.header("billing-as-of")), (304, expected), "{path}");
            if path.contains("state") {
                assert_eq!(ada.get(path).await.json(200)["asOf"].as_str(), expected, "{path}");
            }
        }
        for path in ["/v1/workspaces".to_owned(), billed.path("/history")] {
            let reply = ada.get(&path).await;
            assert_eq!((reply.header("billing-as-of"), reply.header("billing-pending")), (None, None), "{path}");
        }
    };
    as_of(None).await;
    // a first comparison is running, and another account was compared
    test.execute(
        "INSERT INTO billing.reconcile_state (account, compared_until) VALUES ('', NULL), ('acct_known', now())",
    )
    .await;
    as_of(None).await;
    for time in ["2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"] {
        test.execute(&format!("UPDATE billing.reconcile_state SET compared_until = '{time}' WHERE account = ''")).await;
        as_of(Some(time)).await;
    }
    assert_eq!(ada.get(&format!("/v1/workspaces/{alone}")).await.header("billing-pending"), None, "no customer");
    billed.test.finish().await;
}

#[tokio::test]
async fn pending_counts_the_events_of_this_customer_that_have_no_effect_yet() {
    let mut billed = Billed::start().await;
    billed.test.app.leave_pending();
    let reads = billed.fresh_reads().await;
    let pending = async |billed: &Billed, expected: i64| {
        for path in &reads {
            let reply = billed.ada.get(path).await;
            assert_eq!(reply.header("billing-pending"), Some(expected.to_string().as_str()), "{path}");
            if path.contains("state") {
                assert_eq!(reply.json(200)["pendingEvents"], expected, "{path}");
            }
        }
    };
    pending(&billed, 0).await;
    let app = &billed.test.app;
    app.deliver(&billed.renamed("evt_2", 10, "Grace")).await;
    app.deliver(&event("evt_3", "customer.subscription.created", 11, &subscription("sub_1", "cus_1"), None)).await;
    // of another customer, of the same id in another account, and of a part of the id
    app.deliver(&event("evt_4", "customer.created", 12, &customer("cus_2", "Bo"), None)).await;
    app.deliver(&with(&billed.renamed("evt_5", 12, "Bo"), json!({ "account": "acct_known" }))).await;
    app.deliver(&event("evt_6", "customer.created", 12, &customer("cus_11", "Bo"), None)).await;
    pending(&billed, 2).await;
    let isolate =
        "UPDATE billing.outbox SET isolated = true, attempts = 1, last_error = 'a cause' WHERE event_id = 'evt_2'";
    app.execute(isolate).await;
    pending(&billed, 2).await;
    app.execute("UPDATE billing.outbox SET state = 'dead', finished_at = now() WHERE event_id = 'evt_2'").await;
    pending(&billed, 2).await;
    app.drain().await;
    pending(&billed, 1).await;
    app.execute("DELETE FROM billing.outbox WHERE state = 'dead'").await;
    pending(&billed, 0).await;
    billed.test.finish().await;
}

/// Counting must not make a GET slow: the header is absent rather than late.
#[tokio::test]
async fn pending_is_absent_while_too_many_events_wait() {
    let mut billed = Billed::start().await;
    billed.test.app.leave_pending();
    let reads = billed.fresh_reads().await;
    let insert = |first: i64, last: i64| {
        format!(
            "INSERT INTO billing.outbox (event_id, created, type, format, customer_id)
            SELECT 'evt_many_' || i, now(), 'customer.updated', 'snapshot', other.id
            FROM generate_series({first}, {last}) AS i, (
                SELECT 'cus_other_' || n AS id FROM generate_series(1, 1000) AS n
                WHERE billing.lane_of('cus_other_' || n, NULL, NULL) = billing.lane_of('cus_1', NULL, NULL)
                ORDER BY n LIMIT 1
            ) AS other"
        )
    };
    billed.test.execute(&insert(1, 999)).await;
    for path in &reads {
        assert_eq!(billed.ada.get(path).await.header("billing-pending"), Some("0"), "{path}");
    }
    billed.test.execute(&insert(10_000, 30_000)).await;
    for path in &reads {
        let begin = Instant::now();
        let reply = billed.ada.get(path).await;
        assert_eq!((reply.status, reply.header("billing-pending")), (200, None), "{path}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{path}: {:?}", begin.elapsed());
        if path.contains("state") {
            assert_eq!(reply.json(200)["pendingEvents"], Value::Null);
        }
    }
    billed.test.finish().await;
}

#[tokio::test]
async fn b3_a_waiting_request_is_answered_when_the_row_changes() {
    let billed = Billed::start().await;
    let waiting = billed.wait(&billed.path(""), None).await;
    billed.test.app.deliver_and_drain(&[billed.renamed("evt_2", 10, "Grace")]).await;
    let reply = answered(waiting).await;
    assert_eq!(reply.header("preference-applied"), Some("wait=30"));
    assert_eq!(reply.json(200)["_embedded"]["billingContact"]["name"], "Grace");

    // the state of a customer
    let waiting = billed.wait("/v1/state?customer=cus_1", None).await;
    let sold = with(&subscription("sub_1", "cus_1"), json!({ "metadata": { "workspace_id": billed.workspace } }));
    billed.test.app.deliver_and_drain(&[event("evt_3", "customer.subscription.created", 11, &sold, None)]).await;
    // that the event is stored is no change
    let state = answered(waiting).await.json(200);
    assert_eq!((&state["active"], &state["stripeSubscriptionId"]), (&json!(true), &json!("sub_1")));
    billed.test.finish().await;
}

#[tokio::test]
async fn a_waiting_request_without_a_change_is_answered_after_its_time() {
    let billed = Billed::start().await;
    let path = billed.path("");
    let read = billed.ada.get(&path).await;
    let copy = ("If-None-Match", read.header("etag").unwrap());
    for (headers, status) in [(vec![("Prefer", "wait=2")], 200), (vec![("Prefer", "respond-async, wait=2"), copy], 304)]
    {
        let begin = Instant::now();
        let reply = billed.get(&path, &headers).await;
        let waited = begin.elapsed();
        assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&waited), "{waited:?}");
        assert_eq!((reply.status, reply.header("preference-applied")), (status, Some("wait=2")));
        assert_eq!((reply.header("etag"), reply.header("billing-pending")), (read.header("etag"), Some("0")));
        assert_eq!(reply.text, if status == 200 { read.text.as_str() } else { "" });
    }
    // what does not exist yet is waited for too
    let begin = Instant::now();
    billed.get(&format!("/v1/workspaces/{}", Uuid::from_u128(1)), &[("Prefer", "wait=1")]).await.problem("not-found");
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    billed.test.finish().await;
}

#[tokio::test]
async fn an_old_copy_is_answered_at_once() {
    let billed = Billed::start().await;
    let path = billed.path("");
    let begin = Instant::now();
    let reply = billed.get(&path, &[("Prefer", "wait=3600"), ("If-None-Match", "\"old\"")]).await;
    assert_eq!((reply.status, reply.header("preference-applied")), (200, Some("wait=30")), "shortened");
    // no preference
    for preference in ["wait=0", "wait", "wait=-1", "wait=soon", "return=minimal"] {
        let reply = billed.get(&path, &[("Prefer", preference)]).await;
        assert_eq!((reply.status, reply.header("preference-applied")), (200, None), "{preference}");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    billed.test.finish().await;
}

#[tokio::test]
async fn a3_a_checkout_session_is_waited_for_until_stripe_reports_it() {
    let billed = Billed::start().await;
    let path = format!("{}/stripe-checkout-sessions/cs_test_1", billed.contact().await);
    billed.ada.get(&path).await.problem("not-found");
    let waiting = billed.wait(&path, None).await;
    let session = json!({
        "id": "cs_test_1", "object": "checkout.session", "created": START, "livemode": false, "customer": "cus_1",
        "status": "complete", "payment_status": "paid", "mode": "subscription", "subscription": "sub_1",
        "locale": "de", "ui_mode": "embedded_page", "return_url": "https://app.example.com/done", "discounts": [],
        "metadata": { "workspace_id": billed.workspace },
    });
    billed.test.app.deliver_and_drain(&[event("evt_2", "checkout.session.completed", 10, &session, None)]).await;
    let reply = answered(waiting).await;
    assert_eq!(reply.header("preference-applied"), Some("wait=30"));
    let found = reply.json(200);
    assert_eq!((&found["status"], &found["stripeSubscriptionId"]), (&json!("complete"), &json!("sub_1")));
    let copy = ("If-None-Match", reply.header("etag").unwrap());
    assert_eq!(billed.get(&path, &[("Prefer", "wait=1"), copy]).await.status, 304);
    billed.test.finish().await;
}

#[tokio::test]
async fn waiting_requests_are_answered_at_once_when_the_process_stops() {
    let mut billed = Billed::start().await;
    let path = billed.path("");
    let etag = billed.ada.get(&path).await.header("etag").unwrap().to_owned();
    let waiting = [(billed.wait(&path, None).await, 200), (billed.wait(&path, Some(&etag)).await, 304)];
    billed.test.app.stop().await;
    for (waiting, status) in waiting {
        let reply = answered(waiting).await;
        assert_eq!((reply.status, reply.header("etag")), (status, Some(etag.as_str())));
    }
    billed.test.finish().await;
}

/// Number of requests that may wait at once.
const MAX_WAITING: usize = 100;

/// Sends more requests that wait than may wait at once, until the others have been answered at once.
async fn fill(billed: &Billed) -> JoinSet<Reply> {
    let mut waiting = JoinSet::new();
    // ten of each principal
    for _ in 0..=MAX_WAITING / 10 {
        let client = billed.test.admin().await;
        for _ in 0..10 {
            let (client, path) = (client.clone(), billed.path(""));
            waiting.spawn(async move { client.send("GET", &path, &[LONG], None).await });
        }
    }
    for _ in 0..10 {
        let reply = timeout(Duration::from_secs(15), waiting.join_next()).await.expect("an answer").unwrap().unwrap();
        assert_eq!((reply.status, reply.header("preference-applied")), (200, None), "{reply:?}");
    }
    waiting
}

/// Waiting requests hold no connection, and there is a limit of them: further ones are answered at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_waiting_requests_delay_no_other() {
    let billed = Billed::start_with(&[("BILLING_SYNC_API_RATE", "100000")]).await;
    let path = billed.path("");
    let mut waiting = fill(&billed).await;
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(billed.ada.get(&path).await.json(200)["name"], "Team");
    }
    assert!(begin.elapsed() < Duration::from_secs(6), "20 requests took {:?}", begin.elapsed());
    assert_eq!(waiting.len(), MAX_WAITING, "they still wait");
    billed.ada.put(&path, &json!({ "name": "New" })).await.json(200);
    while let Some(reply) = timeout(Duration::from_secs(10), waiting.join_next()).await.expect("an answer") {
        let reply = reply.unwrap();
        assert_eq!(
            (reply.json(200)["name"].as_str(), reply.header("preference-applied")),
            (Some("New"), Some("wait=30"))
        );
    }
    // places become free, also those of clients that hang up
    fill(&billed).await.shutdown().await;
    let begin = Instant::now();
    while billed.get(&path, &[("Prefer", "wait=1")]).await.header("preference-applied").is_none() {
        assert!(begin.elapsed() < Duration::from_secs(10), "no place becomes free");
        sleep(Duration::from_millis(50)).await;
    }
    billed.test.finish().await;
}
