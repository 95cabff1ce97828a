//! Limits over HTTP: the answers of `consume` and `release`, their refusals as problems, and the rows that other reads
//! show afterwards.
//!
//! Also owns the subscriptions with limits that the other tests of the API use.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::harness::{ADA, ApiClient, ApiTest, PREFIX, request};
use crate::support::client::{Client, Reply};

/// The largest amount that can be used in one period.
const MOST: i64 = 1_000_000_000_000_000_000;

/// SQL that gives a workspace a subscription with its own plan and these limits, each a key and an amount or
/// `unlimited`. It began yesterday, so nothing renews during a test.
pub(super) fn subscription(name: &str, workspace: Uuid, limits: &[(&str, &str)]) -> String {
    let quoted = |key: &str| format!("'{}'", key.replace('\'', "''"));
    let limits = limits.iter().map(|(key, included)| format!("({}, '{included}')", quoted(key)));
    let limits = limits.collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO billing.pricing_plans (id, account, stripe_price_id)
            VALUES (md5('plan {name}')::uuid, '', 'price_{name}');
        INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited)
            SELECT md5('{name} ' || l.limit_key)::uuid, md5('plan {name}')::uuid, l.limit_key,
                nullif(l.included, 'unlimited')::bigint, l.included = 'unlimited'
            FROM (VALUES {limits}) AS l (limit_key, included);
        INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            workspace_id, stripe_status, active, payment_paused, is_trial, is_grace_period, stripe_price_id,
            pricing_plan_id, items, active_discounts, active_discount_ends, stripe_created_at, started_at)
            SELECT md5('{name}')::uuid, '', '{name}', 'cus_{name}', md5('cus_{name}')::uuid, '{workspace}', 'active',
                true, false, false, false, 'price_{name}', md5('plan {name}')::uuid,
                jsonb_build_array(jsonb_build_object('price_id', 'price_{name}', 'quantity', 1)), '{{}}', '{{}}',
                began, began
            FROM date_trunc('milliseconds', clock_timestamp() - interval '1 day') AS began;
        INSERT INTO billing.subscription_timeline (account, subscription_id, stated_at, effective_from, source, status,
            payment_paused, price_ids, quantities, start_date)
            SELECT '', '{name}', started_at, started_at, 'evt_0', 'active', false, ARRAY[stripe_price_id], '{{1}}',
                started_at
            FROM billing.subscriptions WHERE stripe_subscription_id = '{name}';
        SELECT billing.create_limits(ARRAY[md5('{name}')::uuid])"
    )
}

/// A running service, a client that may consume, and a workspace whose subscription has limits.
pub(super) struct Subscribed {
    pub(super) test: ApiTest,
    /// A token of Ada, who owns the workspace.
    pub(super) ada: ApiClient,
    pub(super) workspace: Uuid,
}

impl Subscribed {
    pub(super) async fn with(limits: &[(&str, &str)]) -> Self {
        Self::start_with(&[], limits).await
    }

    /// The same, with these settings of the API.
    pub(super) async fn start_with(settings: &[(&str, &str)], limits: &[(&str, &str)]) -> Self {
        let test = ApiTest::start_with(settings).await;
        let workspace = test.workspace("Team", ADA).await;
        test.execute(&subscription("sub", workspace, limits)).await;
        let ada = test.user(ADA).await;
        Self { test, ada, workspace }
    }

    /// A path below the workspace.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v1/workspaces/{}{rest}", self.workspace)
    }

    pub(super) async fn consume(&self, key: &str, amount: i64) -> Reply {
        self.ada.post(&self.path(&format!("/limits/{key}/consume")), &json!({ "amount": amount })).await
    }

    async fn release(&self, key: &str, amount: i64) -> Reply {
        self.ada.post(&self.path(&format!("/limits/{key}/release")), &json!({ "amount": amount })).await
    }

    /// The limit as `GET …/limits` shows it.
    async fn limit(&self, key: &str) -> Value {
        let list = self.ada.get(&self.path("/limits")).await.json(200);
        let limit = list["data"].as_array().unwrap().iter().find(|limit| limit["key"] == key);
        limit.unwrap_or_else(|| panic!("{key} is not in {list}")).clone()
    }

    /// The used amount of a limit, as it is stored.
    pub(super) async fn used(&self, key: &str) -> i64 {
        let used = "SELECT used FROM billing.subscription_limits WHERE limit_key = $1";
        sqlx::query_scalar(used).bind(key).fetch_one(&self.test.app.pool).await.unwrap()
    }

    /// Consumes with this body, byte for byte.
    async fn consume_bytes(&self, body: &str) -> Reply {
        let authorization = format!("Bearer {}", self.ada.token);
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let path = format!("{PREFIX}{}", self.path("/limits/words/consume"));
        let mut client = Client::connect(self.test.address()).await;
        client.send(&request("POST", &path, &headers, Some(body.as_bytes()))).await;
        client.reply().await.unwrap()
    }
}

#[tokio::test]
async fn an_amount_is_consumed_and_released() {
    let subscribed = Subscribed::with(&[("words", "100"), ("members", "3")]).await;
    assert_eq!(subscribed.consume("words", 40).await.json(200), json!({ "key": "words", "available": 60 }));
    assert_eq!(subscribed.consume("words", 60).await.json(200), json!({ "key": "words", "available": 0 }));
    assert_eq!(subscribed.consume("members", 3).await.json(200), json!({ "key": "members", "available": 0 }));
    assert_eq!(subscribed.release("members", 2).await.json(200), json!({ "key": "members", "available": 2 }));
    assert_eq!((subscribed.used("words").await, subscribed.used("members").await), (100, 1));
    subscribed.test.finish().await;
}

#[tokio::test]
async fn unlimited_is_null_and_not_an_amount() {
    let subscribed = Subscribed::with(&[("words", "unlimited")]).await;
    let answer = subscribed.consume("words", MOST).await.json(200);
    assert_eq!(answer, json!({ "key": "words", "available": null }));
    let limit = subscribed.limit("words").await;
    assert_eq!(
        (&limit["unlimited"], &limit["included"], &limit["available"]),
        (&json!(true), &json!(null), &json!(null))
    );
    assert_eq!(limit["used"], MOST);
    subscribed.test.finish().await;
}

/// What one request does is in every later answer: nothing is cached.
#[tokio::test]
async fn what_was_consumed_is_visible_at_once() {
    let subscribed = Subscribed::with(&[("words", "100"), ("members", "3")]).await;
    let (ada, workspace) = (&subscribed.ada, subscribed.workspace);
    subscribed.test.execute(&format!("SELECT billing.grant_bonus('{workspace}', 'words', 5, 'a gift')")).await;
    for (consumed, used) in [(40, 40), (62, 102)] {
        subscribed.consume("words", consumed).await.json(200);
        let limit = subscribed.limit("words").await;
        assert_eq!((&limit["used"], &limit["available"]), (&json!(used), &json!(105 - used)));
        let found = ada.get(&subscribed.path("")).await.json(200);
        let shown = &found["_embedded"]["currentSubscription"];
        let words = ["pricingPlanWords", "spilloverWords", "bonusWords", "usedWords", "availableWords"];
        assert_eq!(words.map(|name| shown[name].as_i64()), [100, 0, 5, used, 105 - used].map(Some));
        assert_eq!(shown["_embedded"]["availableWords"], 105 - used);
        assert_eq!((&shown["limitRenewalDate"], &limit["kind"]), (&limit["renewsAt"], &json!("renewing")));
        let state = ada.get(&format!("/v1/state?workspace={workspace}")).await.json(200);
        assert_eq!((&state["active"], &state["limits"]), (&json!(true), &shown["limits"]));
        assert!(state["limits"].as_array().unwrap().contains(&limit), "{state}");
    }
    subscribed.test.finish().await;
}

#[tokio::test]
async fn each_refusal_is_a_problem_that_programs_can_act_on() {
    let subscribed = Subscribed::with(&[("words", "100"), ("members", "3"), ("images", "unlimited")]).await;
    let test = &subscribed.test;
    subscribed.consume("words", 40).await.json(200);
    subscribed.consume("members", 2).await.json(200);
    subscribed.consume("images", MOST - 1).await.json(200);
    let renews_at = subscribed.limit("words").await["renewsAt"].clone();
    assert!(renews_at.is_string());

    // LM001, of a limit that renews and of one that does not
    let refused = subscribed.consume("words", 61).await;
    let problem = refused.problem("limit-used-up");
    assert_eq!((refused.status, &problem["available"], &problem["renewsAt"]), (409, &json!(60), &renews_at));
    let problem = subscribed.consume("members", 2).await.problem("limit-used-up");
    assert_eq!((&problem["available"], &problem["renewsAt"]), (&json!(1), &Value::Null));
    assert!(problem.as_object().unwrap().contains_key("renewsAt"), "null, not left out: {problem}");

    // LM004, LM006, LM007, 22023
    for (refused, code, status) in [
        (subscribed.consume("agents", 1).await, "no-such-limit", 404),
        (subscribed.release("agents", 1).await, "no-such-limit", 404),
        (subscribed.release("words", 1).await, "limit-not-releasable", 409),
        (subscribed.consume("images", 2).await, "usage-out-of-range", 409),
        (subscribed.consume("images", i64::MAX).await, "usage-out-of-range", 409),
        (subscribed.release("members", 3).await, "release-exceeds-usage", 409),
        (subscribed.release("members", i64::MAX).await, "release-exceeds-usage", 409),
    ] {
        let problem = refused.problem(code);
        assert_eq!((refused.status, &problem["retryable"]), (status, &json!(false)), "{problem}");
        assert_eq!(refused.header("retry-after"), None, "{problem}");
    }

    // LM008: the price of another item has not been read yet
    let add_item = "UPDATE billing.subscription_timeline SET price_ids = price_ids || 'price_unseen'::text, \
                    quantities = quantities || 1::bigint";
    test.execute(add_item).await;
    for refused in [subscribed.consume("agents", 1).await, subscribed.release("agents", 1).await] {
        let problem = refused.problem("limit-not-known-yet");
        assert_eq!((refused.status, &problem["retryable"]), (503, &json!(true)));
        assert_eq!(refused.header("retry-after"), Some("5"));
    }

    // LM009: the price of that item has a value that cannot be read
    test.execute(
        "INSERT INTO billing.pricing_plans (id, account, stripe_price_id) VALUES (md5('unseen')::uuid, '', 'price_unseen');
        INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, unlimited, invalid_value) VALUES
            (md5('agents')::uuid, md5('unseen')::uuid, 'agents', false, 'price price_unseen: limit_agents = \"lots\"')",
    )
    .await;
    for refused in [subscribed.consume("agents", 1).await, subscribed.release("agents", 1).await] {
        let problem = refused.problem("limit-unreadable");
        assert_eq!((refused.status, &problem["retryable"]), (409, &json!(false)));
        assert_eq!(problem["invalidValue"], "price price_unseen: limit_agents = \"lots\"");
        assert_eq!(refused.header("retry-after"), None, "{problem}");
    }

    // LM010: a period is over, and its renewal fails
    test.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'refused: jane@example.com'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON billing.subscription_limits FOR EACH ROW EXECUTE FUNCTION public.refuse();
        INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('sub')::uuid, clock_timestamp());
        UPDATE billing.plan_limits SET included = 101 WHERE limit_key = 'words'",
    )
    .await;
    for refused in [subscribed.consume("words", 1).await, subscribed.release("members", 1).await] {
        let problem = refused.problem("limit-not-computable");
        assert_eq!((refused.status, &problem["retryable"]), (503, &json!(true)));
        assert_eq!(refused.header("retry-after"), Some("60"));
        assert!(!refused.text.contains("jane"), "{problem}");
    }
    test.execute("DROP TRIGGER refuse ON billing.subscription_limits").await;

    // LM002: what is left stays, and capacities can still be released
    test.execute(
        "UPDATE billing.subscriptions SET stripe_status = 'unpaid', active = false, inactive_reason = 'unpaid'",
    )
    .await;
    let refused = subscribed.consume("words", 1).await;
    let problem = refused.problem("subscription-inactive");
    assert_eq!((refused.status, &problem["inactiveReason"]), (409, &json!("unpaid")));
    assert_eq!(subscribed.release("members", 1).await.status, 200);

    // LM003, for a workspace that exists
    let other = test.workspace("Other", ADA).await;
    for action in ["consume", "release"] {
        let path = format!("/v1/workspaces/{other}/limits/members/{action}");
        let refused = subscribed.ada.post(&path, &json!({ "amount": 1 })).await;
        refused.problem("no-subscription");
        assert_eq!(refused.status, 409);
    }
    assert_eq!(
        (subscribed.used("words").await, subscribed.used("members").await, subscribed.used("images").await),
        (40, 1, MOST - 1),
        "a refusal changes nothing"
    );
    subscribed.test.finish().await;
}

#[tokio::test]
async fn an_invalid_amount_is_refused_by_name() {
    let subscribed = Subscribed::with(&[("words", "100")]).await;
    for body in [
        "{}",
        r#"{"amount":null}"#,
        r#"{"Amount":1}"#,
        r#"{"amount":0}"#,
        r#"{"amount":-1}"#,
        r#"{"amount":-9223372036854775808}"#,
        r#"{"amount":1.5}"#,
        r#"{"amount":9223372036854775808}"#,
        r#"{"amount":18446744073709551616}"#,
        r#"{"amount":"1"}"#,
        r#"{"amount":true}"#,
        r#"{"amount":[1]}"#,
        r#"{"amount":{}}"#,
    ] {
        let refused = subscribed.consume_bytes(body).await;
        let problem = refused.problem("invalid-fields");
        assert_eq!((refused.status, &problem["errors"][0]["pointer"]), (422, &json!("/amount")), "{body}");
        assert!(problem["errors"][0]["detail"].is_string() && problem["errors"][1].is_null(), "{problem}");
    }
    for body in ["", "{", "{\"amount\":01}", "{\"amount\":1e400}", "amount=1"] {
        let refused = subscribed.consume_bytes(body).await;
        refused.problem("malformed-request");
        assert_eq!(refused.status, 400, "{body}");
    }
    for (amount, code) in [(MOST, "limit-used-up"), (i64::MAX, "limit-used-up")] {
        assert_eq!(subscribed.consume("words", amount).await.problem(code)["available"], 100);
    }
    assert_eq!(subscribed.used("words").await, 0);
    assert_eq!(subscribed.consume_bytes(r#" {"amount" : 1e2, "note": "ignored"}"#).await.json(200)["available"], 0);
    subscribed.test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_consumers_get_exactly_what_is_left() {
    let subscribed = Subscribed::with(&[("words", "30")]).await;
    let path = subscribed.path("/limits/words/consume");
    let mut consumers = JoinSet::new();
    for _ in 0..50 {
        let (client, path) = (subscribed.ada.clone(), path.clone());
        consumers.spawn(async move { client.post(&path, &json!({ "amount": 1 })).await });
    }
    let (mut left, mut refused) = (BTreeSet::new(), 0);
    for reply in consumers.join_all().await {
        if reply.status == 200 {
            let available = reply.json(200)["available"].as_i64().unwrap();
            assert!(left.insert(available), "{available} is the answer to two requests");
        } else {
            assert_eq!(reply.problem("limit-used-up")["available"], 0);
            refused += 1;
        }
    }
    assert_eq!((left, refused), ((0..30).collect(), 20));
    assert_eq!(subscribed.used("words").await, 30);
    subscribed.test.finish().await;
}

#[tokio::test]
async fn a_balance_that_another_session_locks_is_answered_503_and_unchanged() {
    let subscribed = Subscribed::with(&[("words", "100"), ("members", "3")]).await;
    subscribed.consume("members", 1).await.json(200);
    let mut lock = subscribed.test.app.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM billing.subscription_limits FOR UPDATE").execute(&mut *lock).await.unwrap();
    let (consumed, released) = tokio::join!(subscribed.consume("words", 1), subscribed.release("members", 1));
    for refused in [consumed, released] {
        let problem = refused.problem("busy");
        assert_eq!((refused.status, &problem["retryable"]), (503, &json!(true)), "{problem}");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(subscribed.limit("words").await["available"], 100, "reads wait for no lock");
    lock.rollback().await.unwrap();
    assert_eq!((subscribed.used("words").await, subscribed.used("members").await), (0, 1));
    assert_eq!(subscribed.consume("words", 1).await.json(200)["available"], 99);
    assert_eq!(subscribed.release("members", 1).await.json(200)["available"], 3);
    subscribed.test.finish().await;
}

/// Every byte that is not a letter or a digit, percent-encoded.
fn encoded(key: &str) -> String {
    let bytes = key.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    bytes.collect()
}

#[tokio::test]
async fn a_limit_key_may_contain_any_character() {
    let keys =
        ["a/b", "/", "..", "50% off?", "#;=&+:@", "ü 🎨 שלום", "a'b\"c\\d", "{key}", "tab\tkey", "%2F", "consume"];
    let limits = keys.map(|key| (key, "10"));
    let subscribed = Subscribed::with(&limits).await;
    for key in keys {
        let answer = subscribed.consume(&encoded(key), 3).await.json(200);
        assert_eq!(answer, json!({ "key": key, "available": 7 }), "{}", encoded(key));
        assert_eq!((subscribed.used(key).await, &subscribed.limit(key).await["used"]), (3, &json!(3)));
        subscribed.release(&encoded(key), 1).await.problem("limit-not-releasable");
    }
    for (path, code) in [
        ("A%2fb", "no-such-limit"),
        ("", "no-such-limit"),
        ("k".repeat(4000).as_str(), "no-such-limit"),
        ("a%00b", "not-found"),
        ("%FF", "not-found"),
    ] {
        subscribed.consume(path, 1).await.problem(code);
    }
    subscribed.test.finish().await;
}
