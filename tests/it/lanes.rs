//! Workers beside each other: they take the events of different customers, and do not wait for what all customers share.

use std::collections::BTreeSet;
use std::time::Duration;

use billing_sync::domain::object::ObjectKey;
use billing_sync::mirror::echo;
use billing_sync::mirror::merge::{Incoming, Nested};
use billing_sync::outbox::claim;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use time::OffsetDateTime;

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

/// The customers of a claimed batch, and how many events it has.
async fn claimed(conn: &mut PgConnection, limit: i64) -> (BTreeSet<String>, usize) {
    let events = claim::batch(conn, limit).await.unwrap();
    (events.iter().filter_map(|event| event.object_id.clone()).collect(), events.len())
}

#[tokio::test]
async fn workers_share_a_long_queue_by_customer_and_a_short_one_is_one_batch() {
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

/// What is locked as a batch locks it: the price, until the transaction ends.
async fn lock<'a>(pool: &PgPool, mode: &str) -> sqlx::PgTransaction<'a> {
    let mut tx = pool.begin().await.unwrap();
    let lock = format!("SELECT key FROM billing.locks WHERE key = '/price/price_basic' FOR {mode}");
    let held: Vec<String> = sqlx::query_scalar(AssertSqlSafe(lock)).fetch_all(&mut *tx).await.unwrap();
    assert_eq!(held, ["/price/price_basic"]);
    tx
}

/// A subscription that carries its price whole.
fn subscribed(event_id: &str, n: i64, amount: i64) -> Value {
    let mut subscription = subscription(&format!("sub_{n}"), &format!("cus_{n}"));
    subscription["items"]["data"][0]["price"] = price("price_basic", amount);
    event(event_id, "customer.subscription.created", n, &subscription, None)
}

#[tokio::test]
async fn customers_of_one_price_do_not_wait_for_each_other_unless_it_changes() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[subscribed("evt_1", 1, 1900)]).await;

    // another worker is at the subscription of another customer
    let other = lock(&app.pool, "SHARE").await;
    app.deliver_and_drain(&[subscribed("evt_2", 2, 1900)]).await;
    assert_eq!(app.fate("evt_2").await, "done applied unknown_customer");
    let version = "SELECT concat_ws(' ', extract(epoch FROM version)::bigint, origin, event_id)
        FROM billing.stripe_objects WHERE object_id = 'price_basic'";
    let expected = format!("{} embedded evt_2", START + 2);
    assert_eq!(app.text(version).await, Some(expected), "the newest copy is the newest word on the price");

    // it need not wait only because it says what is known: another content is another matter
    app.enqueue([subscribed("evt_3", 3, 9900)].iter()).await;
    let drained = tokio::time::timeout(Duration::from_secs(1), app.drain()).await;
    assert!(drained.is_err(), "the price changes only when no other worker relies on it");
    other.rollback().await.unwrap();
    app.execute("UPDATE billing.outbox SET run_at = clock_timestamp() WHERE state = 'pending'").await;
    app.drain().await;
    let amount = "SELECT unit_amount_decimal::text FROM billing.pricing_plans WHERE stripe_price_id = 'price_basic'";
    assert_eq!(app.text(amount).await.as_deref(), Some("9900"));
    app.finish().await;
}

#[tokio::test]
async fn a_copy_of_what_has_changed_meanwhile_is_not_confirmed() {
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
    assert!(echo::take_out(&mut conn, &mut other, |_| false).await.unwrap().is_empty(), "it says something else");
    assert_eq!(other.nested.len(), 1, "and is merged");

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
