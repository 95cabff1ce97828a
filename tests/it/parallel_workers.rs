//! Parallel workers claim events of different customers, and do not wait for objects that all customers share.

use std::collections::BTreeSet;
use std::time::Duration;

use billing_sync::database::{self, Connection, Pool, Session, Transaction};
use billing_sync::domain::object::ObjectKey;
use billing_sync::mirror::echo;
use billing_sync::mirror::incoming::{Incoming, Nested};
use billing_sync::outbox::claim;
use billing_sync::worker::{Context, Worker};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::support::app::TestApp;
use crate::support::events::{START, customer, event, price, subscription};

/// The events of forty customers, two for each.
fn of_many_customers() -> Vec<Value> {
    let of_one = |n: i64| {
        let (first, second) = (format!("evt_{n}_1"), format!("evt_{n}_2"));
        let customer = customer(&format!("cus_{n}"), "Ada");
        [
            event(&first, "customer.created", n, &customer, None),
            event(&second, "customer.updated", n + 1, &customer, None),
        ]
    };
    (0..40).flat_map(of_one).collect()
}

/// Claims a batch. Returns its customers and the number of its events.
async fn claimed(conn: &mut Connection, limit: i64) -> (BTreeSet<String>, usize) {
    let events = claim::batch(conn, limit, OffsetDateTime::UNIX_EPOCH).await.unwrap();
    (events.iter().filter_map(|event| event.object_id.clone()).collect(), events.len())
}

#[tokio::test]
async fn a_long_queue_is_shared_by_customer_a_short_one_is_one_batch() {
    let app = TestApp::start().await;
    app.enqueue(of_many_customers().iter()).await;
    let (mut one, mut other) = (app.pool.begin().await.unwrap(), app.pool.begin().await.unwrap());
    let (of_one, count) = claimed(&mut one, 20).await;
    let (of_other, other_count) = claimed(&mut other, 20).await;
    assert_eq!((count, other_count), (20, 20), "both have work");
    assert!(of_one.is_disjoint(&of_other), "{of_one:?} {of_other:?}");
    one.rollback().await.unwrap();
    other.rollback().await.unwrap();

    let (mut one, mut other) = (app.pool.begin().await.unwrap(), app.pool.begin().await.unwrap());
    assert_eq!(claimed(&mut one, 500).await.1, 80, "all of it");
    assert_eq!(claimed(&mut other, 500).await.1, 0);
    drop((one, other));
    app.drain().await;
    app.finish().await;
}

/// Locks the price as a batch does, until the transaction ends.
async fn lock<'a>(pool: &Pool, mode: &str) -> Transaction<'a> {
    let mut tx = pool.begin().await.unwrap();
    let lock = format!("SELECT key FROM billing.locks WHERE key = '/price/price_basic' FOR {mode}");
    let held: Vec<String> = sqlx::query_scalar(AssertSqlSafe(lock)).fetch_all(&mut *tx).await.unwrap();
    assert_eq!(held, ["/price/price_basic"]);
    tx
}

/// A subscription with its complete price nested.
fn subscribed(event_id: &str, n: i64, amount: i64) -> Value {
    let mut subscription = subscription(&format!("sub_{n}"), &format!("cus_{n}"));
    subscription["items"]["data"][0]["price"] = price("price_basic", amount);
    event(event_id, "customer.subscription.created", n, &subscription, None)
}

#[tokio::test]
async fn customers_of_one_price_wait_only_if_it_changes() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[subscribed("evt_1", 1, 1900)]).await;

    // another worker processes the subscription of another customer
    let other = lock(&app.pool, "SHARE").await;
    app.deliver_and_drain(&[subscribed("evt_2", 2, 1900)]).await;
    assert_eq!(app.fate("evt_2").await, "done applied unknown_customer");
    let version = "SELECT concat_ws(' ', extract(epoch FROM version)::bigint, origin, event_id)
        FROM billing.stripe_objects WHERE object_id = 'price_basic'";
    let expected = format!("{} embedded evt_2", START + 2);
    assert_eq!(app.text(version).await, Some(expected), "the newest copy sets the version of the price");

    // only an unchanged copy need not wait; a changed price must
    app.enqueue([subscribed("evt_3", 3, 9900)].iter()).await;
    let drained = tokio::time::timeout(Duration::from_secs(1), app.drain()).await;
    assert!(drained.is_err(), "a price that another worker uses cannot change");
    other.rollback().await.unwrap();
    app.execute("UPDATE billing.outbox SET run_at = clock_timestamp() WHERE state = 'pending'").await;
    app.drain().await;
    let amount = "SELECT unit_amount_decimal::text FROM billing.pricing_plans WHERE stripe_price_id = 'price_basic'";
    assert_eq!(app.text(amount).await.as_deref(), Some("9900"));
    app.finish().await;
}

#[tokio::test]
async fn a_copy_of_a_changed_object_is_not_confirmed() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[subscribed("evt_1", 1, 1900)]).await;
    let mut conn = app.pool.acquire().await.unwrap();
    let content = "SELECT convert_from(content, 'UTF8') FROM billing.stripe_objects WHERE object_id = 'price_basic'";
    let json = app.text(content).await.unwrap();
    let copy = |json: &str| Nested {
        key: ObjectKey::new("", "price", "price_basic"),
        event_id: "evt_2".to_owned(),
        version: OffsetDateTime::from_unix_timestamp(START + 9).unwrap(),
        is_current: true,
        json: json.to_owned(),
    };
    let incoming = |json: &str| Incoming { nested: vec![copy(json)], ..Incoming::default() };

    let mut other = incoming(&json.replace("1900", "9900"));
    assert!(echo::take_out(&mut conn, &mut other, |_| false).await.unwrap().is_empty(), "the content differs");
    assert_eq!(other.nested.len(), 1, "the copy is merged");

    let mut same = incoming(&json);
    let echoes = echo::take_out(&mut conn, &mut same, |_| false).await.unwrap();
    assert_eq!((echoes.len(), same.nested.len()), (1, 0));
    app.execute("UPDATE billing.stripe_objects SET content = content || ' ' WHERE object_id = 'price_basic'").await;
    assert!(!echo::confirm(&mut conn, &echoes).await.unwrap());
    app.execute("UPDATE billing.stripe_objects SET content = rtrim(content, ' ') WHERE object_id = 'price_basic'")
        .await;
    assert!(echo::confirm(&mut conn, &echoes).await.unwrap());
    let events = "SELECT event_id FROM billing.stripe_objects WHERE object_id = 'price_basic'";
    assert_eq!(app.text(events).await.as_deref(), Some("evt_2"));
    drop(conn);
    app.finish().await;
}

/// Index entries of pending events read so far. Includes only sessions that have ended.
async fn entries_read(app: &TestApp) -> i64 {
    let read = "SELECT sum(i.idx_tup_read)::text FROM pg_stat_user_indexes AS i
        JOIN pg_inherits AS h ON h.inhrelid = i.indexrelid WHERE h.inhparent = 'billing.outbox_pending'::regclass";
    app.text(read).await.unwrap().parse().unwrap()
}

/// The snapshot of a dump or a long report keeps index entries of events that were settled since.
#[tokio::test]
async fn settled_events_are_not_reread_by_each_batch_under_a_snapshot() {
    const SETTLED: i64 = 400;
    let app = TestApp::start().await;
    let names: Vec<String> = (0..SETTLED).map(|n| format!("cus_{n}")).collect();
    let events: Vec<Value> = (0..)
        .zip(&names)
        .map(|(n, name)| event(&format!("evt_{n}"), "customer.created", n, &customer(name, "Ada"), None))
        .collect();
    app.enqueue(events.iter()).await;
    app.execute("UPDATE billing.outbox SET run_at = run_at - interval '1 hour'").await;
    app.execute("VACUUM billing.outbox").await;
    let mut holder = app.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::raw_sql("SELECT 1").execute(&mut *holder).await.unwrap();
    let never = CancellationToken::new();
    // in sessions that end before the count begins: an open session reports its reads up to ten seconds later
    let first = database::pool(&app.database.options, Session::BACKGROUND, 4, Duration::from_secs(5));
    Worker::new(Context { pool: first.clone(), ..app.context.clone() }).drain(&never).await.unwrap();
    first.close().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = entries_read(&app).await;

    let own = database::pool(&app.database.options, Session::BACKGROUND, 4, Duration::from_secs(5));
    let mut worker = Worker::new(Context { pool: own.clone(), ..app.context.clone() });
    let batches = 20;
    for n in 0..batches {
        app.deliver(&event(&format!("evt_later_{n}"), "customer.updated", 1000 + n, &customer("cus_1", "Bea"), None))
            .await;
        worker.drain(&never).await.unwrap();
    }
    own.close().await;
    assert_eq!(
        app.text("SELECT count(*)::text FROM billing.outbox WHERE state = 'done'").await,
        Some("420".to_owned())
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    let read = entries_read(&app).await - before;
    // a search for the oldest event reads them once, and runs at most once a second
    assert!(read > SETTLED && read < SETTLED * batches / 2, "{read} entries for {batches} batches");
    holder.rollback().await.unwrap();
    app.finish().await;
}

async fn until_done(app: &TestApp, event_id: &str) {
    let query = "SELECT EXISTS (SELECT FROM billing.outbox WHERE event_id = $1 AND state = 'done')";
    for _ in 0..500 {
        if sqlx::query_scalar(query).bind(event_id).fetch_one(&app.pool).await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{event_id} is not done after 10 s");
}

/// The delivery took long, as with a lost standby: the event was due long before it became visible.
#[tokio::test]
async fn an_event_that_becomes_visible_late_is_applied() {
    let app = TestApp::start().await;
    app.deliver(&event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None)).await;
    let (_wake, woken) = tokio::sync::watch::channel(());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(Worker::new(app.context.clone()).run(woken, shutdown.clone()));
    until_done(&app, "evt_1").await;
    let mut late = app.pool.begin().await.unwrap();
    app.deliver(&event("evt_2", "customer.updated", 1, &customer("cus_1", "Bea"), None)).await;
    sqlx::raw_sql(
        "INSERT INTO billing.events SELECT 'evt_3', created, payload FROM billing.events WHERE event_id = 'evt_1';
        INSERT INTO billing.outbox (event_id, created, type, format, object_type, object_id, customer_id, run_at)
        SELECT 'evt_3', created, type, format, object_type, object_id, customer_id, run_at - interval '1 hour'
        FROM billing.outbox WHERE event_id = 'evt_1'",
    )
    .execute(&mut *late)
    .await
    .unwrap();
    until_done(&app, "evt_2").await;
    late.commit().await.unwrap();
    until_done(&app, "evt_3").await;
    shutdown.cancel();
    running.await.unwrap();
    app.finish().await;
}
