//! Whatever the product's role can lock, and for however long: events are applied meanwhile, and what had to wait is written
//! once the lock is gone. Through the real binary.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use crate::support::cluster::{self, TestDatabase};
use crate::support::events::{START, customer, event, price, subscription, with};
use crate::support::process::Server;

const ROLES: &str = include_str!("../../ops/roles.sql");

const WORKSPACE: &str = "00000000-0000-4000-8000-000000000001";

const TABLE_MODES: [&str; 8] = [
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
];

const ROW_MODES: [&str; 4] = ["KEY SHARE", "SHARE", "NO KEY UPDATE", "UPDATE"];

/// Calls whose locks last until the end of the product's transaction.
const CALLS: [&str; 2] = [
    "SELECT billing.consume('00000000-0000-4000-8000-000000000001', 'words', 1, 'a key')",
    "SELECT billing.grant_bonus('00000000-0000-4000-8000-000000000001', 'words', 1, 'a test')",
];

/// Everything in the schema that the product's role may read, write or lock.
const RELATIONS: &str = "SELECT c.oid::regclass::text FROM pg_class AS c
    WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
        AND (has_table_privilege('billing_product', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES')
            OR has_any_column_privilege('billing_product', c.oid, 'SELECT, INSERT, UPDATE'))
    ORDER BY 1";

/// One event for each kind of object, in the given round, and at the end some that have nothing to do with the others.
fn events(round: usize) -> Vec<Value> {
    let second = i64::try_from(round).unwrap() * 10;
    let amount = 1900 + i64::try_from(round).unwrap();
    let words = json!({ "metadata": { "limit_words": "1000" } });
    let basic = with(&price("price_basic", amount), words);
    let mut sold = with(&subscription("sub_1", "cus_1"), json!({ "metadata": { "workspace_id": WORKSPACE } }));
    sold["items"]["data"][0]["price"] = basic.clone();
    let mut new = subscription(&format!("sub_new_{round}"), &format!("cus_new_{round}"));
    new["items"]["data"][0]["price"] = basic.clone();
    let name = format!("of round {round}");
    let objects = [
        ("price.updated", basic),
        (
            "product.updated",
            json!({ "id": "prod_1", "object": "product", "name": name, "livemode": false,
            "active": true, "metadata": {} }),
        ),
        (
            "coupon.updated",
            json!({ "id": "SAVE", "object": "coupon", "percent_off": 10, "duration": "forever",
            "created": START, "valid": true, "livemode": false, "name": name, "times_redeemed": round }),
        ),
        ("customer.updated", customer("cus_1", &name)),
        ("customer.subscription.updated", sold),
        (
            "checkout.session.completed",
            json!({ "id": "cs_1", "object": "checkout.session", "customer": "cus_1",
            "status": "complete", "payment_status": "paid", "mode": "subscription", "created": START, "livemode": false,
            "expires_at": START + second }),
        ),
        (
            "payment_method.attached",
            json!({ "id": "pm_1", "object": "payment_method", "type": "card", "customer": "cus_1",
            "created": START, "livemode": false, "card": { "brand": "visa", "last4": format!("{:04}", round) } }),
        ),
        (
            "invoice.updated",
            json!({ "id": "in_1", "object": "invoice", "customer": "cus_1", "status": "open",
            "subscription": "sub_1", "created": START, "livemode": false, "amount_due": round, "amount_paid": 0 }),
        ),
        (
            "charge.updated",
            json!({ "id": "ch_1", "object": "charge", "customer": "cus_1", "status": "succeeded",
            "paid": true, "created": START, "livemode": false, "amount": amount, "invoice": "in_1" }),
        ),
        ("customer.subscription.created", new),
        ("customer.created", customer(&format!("cus_new_{round}"), "Unrelated")),
    ];
    let made = objects.iter().enumerate();
    made.map(|(number, (kind, object))| event(&format!("evt_{round}_{number}"), kind, second, object, None)).collect()
}

struct Shop {
    database: TestDatabase,
    owner: PgConnection,
    server: Server,
    round: usize,
}

impl Shop {
    async fn open() -> Self {
        let database = cluster::database().await;
        let mut owner = database.options.connect().await.unwrap();
        sqlx::raw_sql(ROLES).execute(&mut owner).await.unwrap();
        let workspace = format!("INSERT INTO billing.workspaces (id) VALUES ('{WORKSPACE}')");
        sqlx::raw_sql(AssertSqlSafe(workspace)).execute(&mut owner).await.unwrap();
        let server = Server::start(&database, "receiver,worker", &[("BILLING_SYNC_RETRY_MAX", "1s")]).await;
        let mut shop = Self { database, owner, server, round: 0 };
        shop.deliver().await;
        assert_eq!(shop.until("TRUE", 0).await, None, "nothing is locked yet");
        shop
    }

    /// Delivers the events of the next round.
    async fn deliver(&mut self) {
        self.round += 1;
        for one in events(self.round) {
            assert_eq!(self.server.deliver(&one).await, Some(200), "{one}");
        }
    }

    /// Waits until the events of this round are done and the condition holds. Else returns what is not done.
    async fn until(&mut self, condition: &str, jobs: i64) -> Option<String> {
        let open = format!(
            "SELECT concat_ws(' ', string_agg(type || ' ' || coalesce(last_error, ''), ', '),
                    (SELECT string_agg(concat_ws(' ', object_type, object_id, last_error), ', ') FROM billing.jobs
                        WHERE {jobs} = 0 AND kind = 'reproject'), CASE WHEN NOT ({condition}) THEN 'rows' END)
                FROM billing.outbox WHERE state <> 'done'"
        );
        let mut left = String::new();
        for _ in 0..1000 {
            left = sqlx::query_scalar(AssertSqlSafe(open.clone())).fetch_one(&mut self.owner).await.unwrap();
            if left.is_empty() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(left)
    }
}

/// A transaction of the product that has done this; `None` where it may not.
async fn hold(shop: &Shop, statement: &str) -> Option<PgConnection> {
    let mut product = shop.database.options.connect().await.unwrap();
    let begin = "SET ROLE billing_product; SET lock_timeout = '5s'; BEGIN";
    sqlx::raw_sql(begin).execute(&mut product).await.unwrap();
    match sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut product).await {
        Ok(_) => Some(product),
        Err(error) => {
            let code = error.as_database_error().and_then(|error| error.code().map(String::from)).unwrap();
            // no privilege; rows of a view that cannot be locked
            assert!(["42501", "0A000"].contains(&code.as_str()), "{statement}: {error}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_applied_beside_every_lock_that_the_product_can_take() {
    let mut shop = Shop::open().await;
    let relations: Vec<String> = sqlx::query_scalar(RELATIONS).fetch_all(&mut shop.owner).await.unwrap();
    assert!(relations.len() > 15, "{relations:?}");
    let mut statements: Vec<String> = CALLS.map(str::to_owned).into();
    for relation in relations {
        statements.extend(TABLE_MODES.map(|mode| format!("LOCK TABLE {relation} IN {mode} MODE")));
        statements.extend(ROW_MODES.map(|mode| format!("SELECT * FROM {relation} FOR {mode}")));
    }
    let (mut held, mut wrong) = (0, Vec::new());
    for statement in statements {
        let Some(product) = hold(&shop, &statement).await else { continue };
        held += 1;
        shop.deliver().await;
        // while it is held: all of them, also those whose rows are locked
        if let Some(left) = shop.until("TRUE", 1).await {
            wrong.push(format!("beside {statement}: {left}"));
        }
        drop(product);
        // and what had to wait is written afterwards
        let round = shop.round;
        let current = format!(
            "EXISTS (SELECT FROM billing.pricing_plans WHERE unit_amount_decimal = {} AND product_name = 'of round {round}')
                AND EXISTS (SELECT FROM billing.coupons WHERE times_redeemed = {round})
                AND EXISTS (SELECT FROM billing.subscription_limits AS l JOIN billing.subscriptions AS s
                    ON s.id = l.subscription_id WHERE s.stripe_subscription_id = 'sub_new_{round}')",
            1900 + round
        );
        if let Some(left) = shop.until(&current, 0).await {
            wrong.push(format!("after {statement}: {left}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(held > 40, "only {held} locks could be taken");
    shop.server.kill().await;
}
