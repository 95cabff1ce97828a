//! `Idempotency-Key`: a repeated POST has one effect and one answer, whatever happens in between, and a failed one
//! leaves no key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use super::harness::{ADA, ApiClient, ApiTest, PREFIX, request};
use super::limits::{Subscribed, subscription};
use super::process::{LISTEN, ProcessClient, address};
use crate::support::client::{Client, Reply};
use crate::support::cluster::{database_with_pool, number};
use crate::support::process::Server;

const LIMITS: [(&str, &str); 2] = [("words", "100"), ("members", "3")];

async fn keyed(client: &ApiClient, path: &str, key: &str, body: &Value) -> Reply {
    client.send("POST", path, &[("Idempotency-Key", key)], Some(body)).await
}

impl Subscribed {
    /// Consumes words with a key.
    async fn consume_once(&self, key: &str, amount: i64) -> Reply {
        keyed(&self.ada, &self.path("/limits/words/consume"), key, &json!({ "amount": amount })).await
    }
}

/// Checks that a reply is the earlier answer, byte for byte.
fn assert_replayed(reply: &Reply, first: &Reply) {
    assert_eq!(reply.header("idempotent-replayed"), Some("true"), "{reply:?}");
    assert_eq!((reply.status, &reply.text), (first.status, &first.text));
    for name in ["content-type", "etag", "location"] {
        assert_eq!(reply.header(name), first.header(name), "{name}");
    }
    assert_ne!(reply.header("x-request-id"), first.header("x-request-id"), "it is another request");
}

async fn stored_keys(test: &ApiTest) -> i64 {
    number(&test.app.pool, "SELECT count(*) FROM billing.api_requests").await
}

#[tokio::test]
async fn every_post_has_one_effect_and_one_answer() {
    let subscribed = Subscribed::with(&LIMITS).await;
    let (test, ada) = (&subscribed.test, &subscribed.ada);
    subscribed.consume("members", 2).await.json(200);
    let posts = [
        ("/v1/workspaces".to_owned(), json!({ "name": "New" }), 201),
        (subscribed.path("/limits/words/consume"), json!({ "amount": 40 }), 200),
        (subscribed.path("/limits/members/release"), json!({ "amount": 1 }), 200),
    ];
    let mut first = Vec::new();
    for (path, body, status) in &posts {
        let reply = keyed(ada, path, &format!("key of {path}"), body).await;
        assert_eq!((reply.status, reply.header("idempotent-replayed")), (*status, None), "{reply:?}");
        assert_eq!(reply.header("location").is_some(), *status == 201);
        assert_replayed(&keyed(ada, path, &format!("key of {path}"), body).await, &reply);
        first.push(reply);
    }
    // the answer stays the same after the rows have changed
    let created = first[0].json(201);
    let path = format!("/v1/workspaces/{}", created["id"].as_str().unwrap());
    ada.put(&path, &json!({ "name": "Newer" })).await.json(200);
    subscribed.consume("words", 1).await.json(200);
    for ((path, body, _), first) in posts.iter().zip(&first) {
        assert_replayed(&keyed(ada, path, &format!("key of {path}"), body).await, first);
    }
    assert_eq!((subscribed.used("words").await, subscribed.used("members").await), (41, 1));
    let workspaces = "SELECT count(*) FROM billing.workspaces WHERE name IN ('New', 'Newer')";
    assert_eq!((number(&test.app.pool, workspaces).await, stored_keys(test).await), (1, 3));
    assert_eq!(ada.get(&path).await.json(200)["name"], "Newer");
    subscribed.test.finish().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let subscribed = Subscribed::with(&LIMITS).await;
    let (test, ada) = (&subscribed.test, &subscribed.ada);
    let other = test.workspace("Other", ADA).await;
    let first = subscribed.consume_once("a key", 1).await;
    first.json(200);
    for (path, body) in [
        (subscribed.path("/limits/words/consume"), json!({ "amount": 2 })),
        (subscribed.path("/limits/members/consume"), json!({ "amount": 1 })),
        (subscribed.path("/limits/words/release"), json!({ "amount": 1 })),
        (format!("/v1/workspaces/{other}/limits/words/consume"), json!({ "amount": 1 })),
        ("/v1/workspaces".to_owned(), json!({ "name": "New" })),
    ] {
        let refused = keyed(ada, &path, "a key", &body).await;
        let problem = refused.problem("idempotency-key-reused");
        assert_eq!((refused.status, &problem["retryable"]), (422, &json!(false)), "{path}");
    }
    assert_eq!((subscribed.used("words").await, subscribed.used("members").await, stored_keys(test).await), (1, 0, 1));
    // a path has several spellings
    let shouted = format!("/v1/workspaces/{}/limits/%77ords/consume", subscribed.workspace.to_string().to_uppercase());
    assert_replayed(&keyed(ada, &shouted, "a key", &json!({ "amount": 1 })).await, &first);
    assert_replayed(&subscribed.consume_once("a key", 1).await, &first);
    assert_eq!(subscribed.consume_once("A key", 1).await.json(200)["available"], 98, "another key");
    subscribed.test.finish().await;
}

#[tokio::test]
async fn an_invalid_key_is_refused_and_has_no_effect() {
    let subscribed = Subscribed::with(&LIMITS).await;
    let path = subscribed.path("/limits/words/consume");
    let amount = json!({ "amount": 1 });
    for key in ["", "ü", "a\tb\u{7f}", &"k".repeat(256)] {
        let refused = keyed(&subscribed.ada, &path, key, &amount).await;
        // hyper refuses a control character itself
        if refused.status != 400 {
            assert_eq!(refused.problem("invalid-fields")["errors"][0]["pointer"], "header Idempotency-Key", "{key}");
        }
    }
    let two = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")];
    subscribed.ada.send("POST", &path, &two, Some(&amount)).await.problem("invalid-fields");
    assert_eq!(subscribed.used("words").await, 0);
    keyed(&subscribed.ada, &path, &"k".repeat(255), &amount).await.json(200);
    subscribed.test.finish().await;
}

#[tokio::test]
async fn each_principal_has_its_own_keys() {
    let subscribed = Subscribed::with(&LIMITS).await;
    let path = subscribed.path("/limits/words/consume");
    let clients = [&subscribed.ada, &subscribed.test.user(ADA).await, &subscribed.test.admin().await];
    for (used, client) in clients.into_iter().enumerate() {
        let reply = keyed(client, &path, "a key", &json!({ "amount": 1 })).await;
        assert_eq!((&reply.json(200)["available"], reply.header("idempotent-replayed")), (&json!(99 - used), None));
    }
    assert_eq!((subscribed.used("words").await, stored_keys(&subscribed.test).await), (3, 3));
    subscribed.test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_first_requests_have_one_effect() {
    let subscribed = Subscribed::with(&LIMITS).await;
    let path = subscribed.path("/limits/words/consume");
    for round in 1..=3_i64 {
        let mut requests = JoinSet::new();
        for _ in 0..20 {
            let (client, path) = (subscribed.ada.clone(), path.clone());
            requests.spawn(async move { keyed(&client, &path, &format!("{round}"), &json!({ "amount": 1 })).await });
        }
        let mut answers = BTreeMap::<String, usize>::new();
        let mut replayed = 0;
        for reply in requests.join_all().await {
            if reply.status == 200 {
                replayed += usize::from(reply.header("idempotent-replayed").is_some());
                *answers.entry(reply.text).or_default() += 1;
            } else {
                reply.problem("idempotency-key-in-use");
            }
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers.values().sum::<usize>(), replayed + 1, "one request ran");
        assert_eq!(subscribed.used("words").await, round);
    }
    subscribed.test.finish().await;
}

#[tokio::test]
async fn a_key_whose_first_request_still_runs_is_in_use() {
    let subscribed = Subscribed::with(&LIMITS).await;
    let pool = &subscribed.test.app.pool;
    let mut running = pool.begin().await.unwrap();
    let begin = "INSERT INTO billing.api_requests (principal, idempotency_key, fingerprint)
        SELECT 'token:' || id, 'a key', sha256('') FROM billing.api_tokens";
    assert_eq!(sqlx::query(begin).execute(&mut *running).await.unwrap().rows_affected(), 1);
    let refused = subscribed.consume_once("a key", 1).await;
    let problem = refused.problem("idempotency-key-in-use");
    assert_eq!((refused.status, &problem["retryable"]), (409, &json!(true)));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(subscribed.used("words").await, 0);
    // the first request fails, so the second one is the first
    running.rollback().await.unwrap();
    let reply = subscribed.consume_once("a key", 1).await;
    assert_eq!((&reply.json(200)["available"], reply.header("idempotent-replayed")), (&json!(99), None));
    subscribed.test.finish().await;
}

#[tokio::test]
async fn a_failed_request_leaves_no_key() {
    let subscribed = Subscribed::with(&LIMITS).await;
    let test = &subscribed.test;
    subscribed.consume_once("a key", 101).await.problem("limit-used-up");
    subscribed.consume_once("another key", 0).await.problem("invalid-fields");
    let path = format!("/v1/workspaces/{}/limits/words/consume", Uuid::from_u128(1));
    keyed(&subscribed.ada, &path, "a third key", &json!({ "amount": 1 })).await.problem("not-found");
    let service = test.admin().await;
    keyed(&service, "/v1/workspaces", "a key", &json!({ "name": "New" })).await.problem("user-required");
    assert_eq!(stored_keys(test).await, 0);
    test.execute(&format!("SELECT billing.grant_bonus('{}', 'words', 1, 'a gift')", subscribed.workspace)).await;
    let reply = subscribed.consume_once("a key", 101).await;
    assert_eq!((&reply.json(200)["available"], reply.header("idempotent-replayed")), (&json!(0), None));
    assert_replayed(&subscribed.consume_once("a key", 101).await, &reply);
    assert_eq!(subscribed.consume_once("another key", 1).await.problem("limit-used-up")["available"], 0);
    subscribed.test.finish().await;
}

#[tokio::test]
async fn a_key_is_kept_for_24_hours() {
    let subscribed = Subscribed::with(&LIMITS).await;
    let age = |age: &str| format!("UPDATE billing.api_requests SET created_at = clock_timestamp() - interval '{age}'");
    let first = subscribed.consume_once("a key", 1).await;
    subscribed.test.execute(&age("23 hours 59 minutes")).await;
    assert_replayed(&subscribed.consume_once("a key", 1).await, &first);
    subscribed.test.execute(&age("24 hours 1 minute")).await;
    let second = subscribed.consume_once("a key", 1).await;
    assert_eq!((&second.json(200)["available"], second.header("idempotent-replayed")), (&json!(98), None));
    assert_replayed(&subscribed.consume_once("a key", 1).await, &second);
    // also for another request
    subscribed.test.execute(&age("25 hours")).await;
    assert_eq!(subscribed.consume_once("a key", 5).await.json(200)["available"], 93);
    assert_eq!((subscribed.used("words").await, stored_keys(&subscribed.test).await), (7, 1));
    subscribed.test.finish().await;
}

/// A process deletes old keys when it starts, more of them than one statement does.
#[tokio::test]
async fn old_keys_are_deleted_and_others_stay() {
    let (database, pool) = database_with_pool().await;
    let insert = "INSERT INTO billing.api_requests (principal, idempotency_key, fingerprint, status, body, created_at)
        SELECT 'token:1', 'key ' || i, sha256(''), 200, '{}',
            clock_timestamp() - CASE WHEN i <= 3 THEN interval '23 hours' ELSE interval '24 hours 1 minute' END
        FROM generate_series(1, 12003) AS i";
    sqlx::query(insert).execute(&pool).await.unwrap();
    let server = Server::start(&database, "api", &[LISTEN]).await;
    let began = Instant::now();
    while number(&pool, "SELECT count(*) FROM billing.api_requests").await > 3 {
        assert!(began.elapsed() < Duration::from_secs(30), "old keys stay");
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_millis(200)).await;
    let kept = "SELECT string_agg(idempotency_key, ', ' ORDER BY idempotency_key) FROM billing.api_requests";
    let kept: String = sqlx::query_scalar(kept).fetch_one(&pool).await.unwrap();
    assert_eq!(kept, "key 1, key 2, key 3");
    server.kill().await;
}

/// Consumes 1 with one key after the other, each repeated until it is answered, until the test is over. Returns the
/// answers.
async fn keep_consuming(
    number: usize,
    mut client: ProcessClient,
    path: String,
    addresses: watch::Receiver<Option<SocketAddr>>,
) -> Vec<Reply> {
    let mut rng = Rng::with_seed(number as u64);
    let mut answers = Vec::new();
    loop {
        let Some(address) = *addresses.borrow() else { return answers };
        client.address = address;
        let key = format!("{number} {}", answers.len());
        let headers = [("Idempotency-Key", key.as_str())];
        match client.try_send("POST", &path, &headers, Some(&json!({ "amount": 1 }))).await {
            Some(reply) if reply.status == 200 => answers.push(reply),
            Some(reply) => {
                let problem: Value = serde_json::from_str(&reply.text).unwrap();
                assert_eq!(problem["retryable"], true, "{problem}");
            }
            // killed
            None => {}
        }
        sleep(Duration::from_millis(rng.u64(0..8))).await;
    }
}

/// `kill -9` at random moments: each key consumes once, whether its process was killed before the commit, or between
/// the commit and the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_consumes_once_whenever_the_process_is_killed() {
    const MOST: usize = 1_000_000;
    let (database, pool) = database_with_pool().await;
    let workspace = Uuid::from_u128(1);
    let insert = format!("INSERT INTO billing.workspaces (id, name) VALUES ('{workspace}', 'Team')");
    let subscribe = subscription("sub", workspace, &[("words", &MOST.to_string())]);
    sqlx::raw_sql(AssertSqlSafe(format!("{insert}; {subscribe}"))).execute(&pool).await.unwrap();
    let path = format!("{PREFIX}/v1/workspaces/{workspace}/limits/words/consume");
    let environment = [LISTEN, ("BILLING_SYNC_API_RATE", "100000")];
    let mut server = Server::start(&database, "api", &environment).await;
    let (publish, addresses) = watch::channel(Some(address(server.serving())));
    let client = ProcessClient::new(&pool, address(server.serving())).await;
    let mut consumers = JoinSet::new();
    for number in 0..4 {
        consumers.spawn(keep_consuming(number, client.clone(), path.clone(), addresses.clone()));
    }
    let stored = "SELECT count(*) FROM billing.api_requests";
    let mut rng = Rng::with_seed(17);
    for _ in 0..8 {
        let enough = number(&pool, stored).await + rng.i64(3..12);
        let began = Instant::now();
        while number(&pool, stored).await < enough {
            assert!(began.elapsed() < Duration::from_secs(30), "nothing is consumed");
            sleep(Duration::from_micros(rng.u64(0..5000))).await;
        }
        server.kill().await;
        server = Server::start(&database, "api", &environment).await;
        publish.send(Some(address(server.serving()))).unwrap();
    }
    publish.send(None).unwrap();
    let (mut keys, mut left) = (0, BTreeSet::new());
    for answers in consumers.join_all().await {
        keys += answers.len();
        left.extend(answers.iter().map(|reply| reply.json(200)["available"].as_u64().unwrap()));
    }
    // a request whose answer did not arrive before the end may have consumed too
    let stored = usize::try_from(number(&pool, stored).await).unwrap();
    assert!((keys..=keys + 4).contains(&stored), "{keys} answered, {stored} stored");
    assert_eq!(left.len(), keys, "two keys got the same answer");
    let used = number(&pool, "SELECT used FROM billing.subscription_limits").await;
    assert_eq!(usize::try_from(used).unwrap(), stored, "{keys} answered");
    server.kill().await;
}

/// A request that is cancelled while its transaction begins leaves the transaction open. The next request must not run
/// in it: it would see an old time, and what it writes without a transaction of its own would not be committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_runs_in_the_transaction_of_a_client_that_hung_up() {
    let settings = [("BILLING_SYNC_API_RATE", "100000")];
    let subscribed = Subscribed::start_with(&settings, &[("words", "unlimited")]).await;
    let authorization = format!("Bearer {}", subscribed.ada.token);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let path = format!("{PREFIX}{}", subscribed.path("/limits/words/consume"));
    let bytes = request("POST", &path, &headers, Some(br#"{"amount":1}"#));
    let used_by_others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND query NOT ILIKE 'BEGIN%'";
    let mut rng = Rng::with_seed(29);
    for round in 0..30 {
        let mut clients = JoinSet::new();
        for _ in 0..40 {
            let (bytes, address) = (bytes.clone(), subscribed.test.address());
            let hangs_up = Duration::from_micros(rng.u64(0..25_000));
            clients.spawn(async move {
                let mut client = Client::connect(address).await;
                client.send(&bytes).await;
                sleep(hangs_up).await;
            });
        }
        clients.join_all().await;
        // more uses of connections than there are connections
        for _ in 0..4 {
            subscribed.ada.get(&subscribed.path("")).await.json(200);
            subscribed.consume("words", 1).await.json(200);
        }
        let began = Instant::now();
        while number(&subscribed.test.app.pool, used_by_others).await > 0 {
            assert!(began.elapsed() < Duration::from_secs(1), "a request used an open transaction in round {round}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    subscribed.test.finish().await;
}
