//! Locks of the product's role, of every kind and for any time. Events are applied meanwhile; events about other
//! objects are as fast as without the lock. Delayed rows are written once the lock ends. Runs the real binary.

use std::time::Duration;

use billing_sync::database::{Connection, Pool};
use billing_sync::outbox::enqueue::{self, EventSource, Incoming};
use billing_sync::stripe::envelope;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions};

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

/// Calls and writes whose locks last until the end of the product's transaction.
const WRITES: [&str; 6] = [
    "SELECT billing.consume('00000000-0000-4000-8000-000000000001', 'words', 1, 'a key')",
    "SELECT billing.grant_bonus('00000000-0000-4000-8000-000000000001', 'words', 1, 'a test')",
    "INSERT INTO billing.workspaces (id) VALUES ('00000000-0000-4000-8000-000000000002')",
    "INSERT INTO billing.limit_kinds VALUES ('images', 'capacity'); DELETE FROM billing.limit_kinds",
    "UPDATE billing.pricing_plans SET tier = 1",
    "UPDATE billing.coupons SET pricing_plan_id = (SELECT min(id::text)::uuid FROM billing.pricing_plans)",
];

/// The default settings. A worker that is not woken sleeps for five seconds.
const DEFAULTS: [(&str, &str); 3] =
    [("BILLING_SYNC_RETRY_INITIAL", "5s"), ("BILLING_SYNC_RETRY_MAX", "1h"), ("BILLING_SYNC_POLL_INTERVAL", "5s")];

/// Maximum delay of an event about other objects, in seconds, beyond the slowest of the same events without a lock.
const EXTRA: f64 = 1.0;

/// Number of failing locks after which the test stops.
const MOST_WRONG: usize = 3;

/// Measurements that must all be slow before the lock counts as failing. A busy machine delays one of them, a lock all.
const MEASUREMENTS: usize = 3;

/// Everything in the schema that the product's role may read, write or lock.
const RELATIONS: &str = "SELECT c.oid::regclass::text FROM pg_class AS c
    WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p', 'v')
        AND (has_table_privilege('billing_product', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES')
            OR has_any_column_privilege('billing_product', c.oid, 'SELECT, INSERT, UPDATE'))
    ORDER BY 1";

/// A new customer with a subscription. Only the price occurs in other events.
fn unrelated(name: &str, second: i64, price: &Value) -> [Value; 2] {
    let mut sold = subscription(&format!("sub_new_{name}"), &format!("cus_new_{name}"));
    sold["items"]["data"][0]["price"] = price.clone();
    let customer = customer(&format!("cus_new_{name}"), "Unrelated");
    [
        event(&format!("evt_new_{name}_sub"), "customer.subscription.created", second, &sold, None),
        event(&format!("evt_new_{name}_cus"), "customer.created", second, &customer, None),
    ]
}

fn basic(round: usize) -> Value {
    let words = json!({ "metadata": { "limit_words": "1000" } });
    with(&price("price_basic", 1900 + i64::try_from(round).unwrap()), words)
}

/// One event for each kind of object, in the given round, and ten of prices.
fn events(round: usize) -> Vec<Value> {
    let second = i64::try_from(round).unwrap() * 10;
    let amount = 1900 + i64::try_from(round).unwrap();
    let basic = basic(round);
    let mut sold = with(&subscription("sub_1", "cus_1"), json!({ "metadata": { "workspace_id": WORKSPACE } }));
    sold["items"]["data"][0]["price"] = basic.clone();
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
    ];
    let prices = (0..10).map(|number| ("price.updated", price(&format!("price_{number}"), amount)));
    let objects: Vec<_> = objects.into_iter().chain(prices).collect();
    let made = objects.iter().enumerate();
    made.map(|(number, (kind, object))| event(&format!("evt_{round}_{number}"), kind, second, object, None)).collect()
}

/// A subscription with a plan of its own, whose limits the scheduler must recalculate when the plan changes.
const MARKED: &str = "
    INSERT INTO billing.pricing_plans (id, account, stripe_price_id) VALUES (md5('plan')::uuid, '', 'price_marked');
    INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited)
        VALUES (md5('limit')::uuid, md5('plan')::uuid, 'seats', 1, false);
    INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
        stripe_status, active, payment_paused, is_trial, is_grace_period, stripe_price_id, pricing_plan_id, items,
        active_discounts, active_discount_ends, started_at)
        VALUES (md5('marked')::uuid, '', 'sub_marked', 'cus_marked', md5('cus')::uuid, 'active', true, false, false, false,
            'price_marked', md5('plan')::uuid, '[{\"price_id\": \"price_marked\", \"quantity\": 1}]', '{}', '{}', now());
    INSERT INTO billing.subscription_timeline (account, subscription_id, stated_at, effective_from, source, status,
        payment_paused, price_ids, quantities, start_date)
        VALUES ('', 'sub_marked', now(), now(), 'evt_0', 'active', false, '{price_marked}', '{1}', now());
    SELECT billing.create_limits(ARRAY[md5('marked')::uuid])";

struct Shop {
    database: TestDatabase,
    owner: Pool,
    server: Server,
    round: usize,
    /// Longest processing time of an unrelated event while nothing was locked, in seconds.
    slowest: f64,
}

impl Shop {
    async fn open() -> Self {
        let database = cluster::database().await;
        let owner = Pool::from(sqlx::PgPool::connect_with(database.options.clone()).await.unwrap());
        sqlx::raw_sql(ROLES).execute(&owner).await.unwrap();
        let workspace = format!("INSERT INTO billing.workspaces (id) VALUES ('{WORKSPACE}')");
        sqlx::raw_sql(AssertSqlSafe(workspace)).execute(&owner).await.unwrap();
        sqlx::raw_sql(MARKED).execute(&owner).await.unwrap();
        let server = Server::start(&database, "receiver,worker,renewals", &DEFAULTS).await;
        let mut shop = Self { database, owner, server, round: 0, slowest: 0.0 };
        shop.arrive().await.unwrap();
        assert_eq!(shop.until("TRUE").await, None, "nothing is locked yet");
        shop
    }

    /// Delivers the events of the next round: first one batch of all kinds, with unrelated events among them, then more
    /// unrelated events. Returns the time of the slowest unrelated event in seconds, or the events that are not done.
    async fn arrive(&mut self) -> Result<f64, String> {
        self.round += 1;
        let (round, second) = (self.round, i64::try_from(self.round).unwrap() * 10);
        let mut first = events(round);
        first.extend(unrelated(&format!("{round}_a"), second, &basic(round)));
        self.change_marked().await;
        let arrived = first.iter().map(|one| one.to_string().into_bytes());
        let arrived =
            arrived.map(|payload| Incoming { envelope: envelope::read(&payload).unwrap(), payload: payload.into() });
        let arrived: Vec<Incoming> = arrived.collect();
        enqueue::store(&mut self.owner.acquire().await.unwrap(), &arrived, EventSource::Webhook).await.unwrap();
        for one in unrelated(&round.to_string(), second, &basic(round)) {
            assert_eq!(self.server.deliver(&one).await, Some(200), "{one}");
        }
        let took = format!(
            "SELECT CASE WHEN count(finished_at) = 4 THEN max(extract(epoch FROM finished_at - received_at))::text END
            FROM billing.outbox WHERE event_id LIKE 'evt_new_{round}\\_%'"
        );
        let of_round = format!("event_id LIKE 'evt_new_{round}\\_%'");
        self.wait(&not_done(&of_round)).await.map_or(Ok(()), Err)?;
        let took: String = sqlx::query_scalar(AssertSqlSafe(took)).fetch_one(&self.owner).await.unwrap();
        Ok(took.parse().unwrap())
    }

    /// Changes the limit of the plan of the marked subscription.
    async fn change_marked(&self) {
        let change = format!(
            "UPDATE billing.plan_limits SET included = {} WHERE limit_key = 'seats';
            INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('marked')::uuid, clock_timestamp())",
            self.round
        );
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&self.owner).await.unwrap();
    }

    /// Measures the unrelated events of a round without a lock.
    async fn measure_without_lock(&mut self) -> Result<(), String> {
        self.slowest = self.arrive().await?.max(self.slowest);
        self.until("TRUE").await.map_or(Ok(()), Err)
    }

    /// Waits until all events are done and the limits are recalculated. Otherwise returns what is not done.
    async fn until_done_beside_lock(&self) -> Option<String> {
        let round = self.round;
        let renewed = format!("EXISTS (SELECT FROM billing.subscription_limits WHERE included = {round})");
        self.wait(&format!(
            "SELECT concat_ws(' ', ({}), CASE WHEN NOT ({renewed}) THEN 'renewals' END)",
            not_done("TRUE")
        ))
        .await
    }

    /// Waits until no event or job is pending and the condition holds. Otherwise returns what is not done.
    async fn until(&self, condition: &str) -> Option<String> {
        let open = format!(
            "SELECT concat_ws(' ', ({}), CASE WHEN NOT ({condition}) THEN 'rows' END,
                (SELECT string_agg(concat_ws(' ', object_type, object_id, last_error), ', ') FROM billing.jobs
                    WHERE kind = 'reproject'))",
            not_done("TRUE")
        );
        self.wait(&open).await
    }

    /// Waits until the query returns an empty text. Otherwise returns the last text.
    async fn wait(&self, query: &str) -> Option<String> {
        let mut left = String::new();
        for attempt in 0..1000 {
            left = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&self.owner).await.unwrap();
            if left.is_empty() {
                return None;
            }
            if attempt % 20 == 19 {
                // with the default settings, delayed jobs would be due too late for the test
                let make_all_due = "UPDATE billing.jobs SET run_at = clock_timestamp() WHERE last_error IS NOT NULL;
                    SELECT pg_notify('billing_sync_outbox', '')";
                sqlx::raw_sql(make_all_due).execute(&self.owner).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(left)
    }
}

/// The query for the events that are not done.
fn not_done(which: &str) -> String {
    format!(
        "SELECT coalesce(string_agg(type || ' ' || coalesce(last_error, ''), ', '), '')
            FROM billing.outbox WHERE state <> 'done' AND {which}"
    )
}

/// A transaction of the product that has run the statement; `None` if the product may not run it.
async fn hold(shop: &Shop, statement: &str) -> Option<Connection> {
    let mut product = Connection::from(shop.database.options.connect().await.unwrap());
    let begin = "SET ROLE billing_product; SET lock_timeout = '5s'; BEGIN";
    sqlx::raw_sql(begin).execute(&mut product).await.unwrap();
    match sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut product).await {
        Ok(_) => Some(product),
        Err(error) => {
            let code = error.as_database_error().and_then(|error| error.code().map(String::from)).unwrap();
            // no privilege, or a view whose rows cannot be locked
            assert!(["42501", "0A000"].contains(&code.as_str()), "{statement}: {error}");
            None
        }
    }
}

/// All statements with which the product's role can hold a lock.
async fn statements(shop: &Shop) -> Vec<String> {
    let relations: Vec<String> = sqlx::query_scalar(RELATIONS).fetch_all(&shop.owner).await.unwrap();
    assert!(relations.len() > 15, "{relations:?}");
    let mut statements: Vec<String> = WRITES.map(str::to_owned).into();
    for relation in relations {
        statements.extend(TABLE_MODES.map(|mode| format!("LOCK TABLE {relation} IN {mode} MODE")));
        statements.extend(ROW_MODES.map(|mode| format!("SELECT * FROM {relation} FOR {mode}")));
    }
    statements
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_applied_and_no_lock_delays_unrelated_ones() {
    let mut shop = Shop::open().await;
    let (mut held, mut wrong) = (0, Vec::new());
    for statement in statements(&shop).await {
        let Some(product) = hold(&shop, &statement).await else { continue };
        held += 1;
        if let Err(delayed) = shop.measure_beside(product, &statement).await {
            wrong.push(delayed);
        }
        // a failing lock takes long, and a broken mechanism fails with many locks
        if wrong.len() == MOST_WRONG {
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(held > 40, "only {held} locks could be taken");
    shop.server.kill().await;
}

impl Shop {
    /// Measures the unrelated events of a round beside a lock, and again if they were slow. Then the lock ends.
    async fn measure_beside(&mut self, mut product: Connection, statement: &str) -> Result<(), String> {
        for measurement in 1.. {
            let took = self.arrive().await.map_err(|left| format!("beside {statement}: {left}"))?;
            if let Some(left) = self.until_done_beside_lock().await {
                return Err(format!("beside {statement}: {left}"));
            }
            drop(product);
            self.until_written(statement).await?;
            if took <= self.slowest + EXTRA {
                return Ok(());
            }
            if measurement == MEASUREMENTS {
                return Err(format!("beside {statement}: {took} s, without it at most {} s", self.slowest));
            }
            self.measure_without_lock().await?;
            product = hold(self, statement).await.expect("it could be locked before");
        }
        Ok(())
    }

    /// Waits until the rows that were delayed by the lock are written.
    async fn until_written(&self, statement: &str) -> Result<(), String> {
        let round = self.round;
        let current = format!(
            "(SELECT count(*) FROM billing.pricing_plans WHERE unit_amount_decimal = {}) = 11
                AND EXISTS (SELECT FROM billing.pricing_plans WHERE product_name = 'of round {round}')
                AND EXISTS (SELECT FROM billing.coupons WHERE times_redeemed = {round})
                AND EXISTS (SELECT FROM billing.subscription_limits AS l JOIN billing.subscriptions AS s
                    ON s.id = l.subscription_id WHERE s.stripe_subscription_id = 'sub_new_{round}')",
            1900 + round
        );
        self.until(&current).await.map_or(Ok(()), |left| Err(format!("after {statement}: {left}")))
    }
}
