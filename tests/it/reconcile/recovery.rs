//! Recovery from an outage: the same rows as without it.

use billing_sync::base::clock;
use serde_json::json;
use sqlx::Row;

use super::{FOUND, at, compare, compared, leave, reconcile, text};
use crate::support::fetching::{Fetching, Sale};
use crate::support::stripe::Epoch;

/// Some changes of a customer and its subscription.
fn live(sync: &Fetching, sale: &Sale) {
    for status in ["past_due", "active"] {
        sync.stripe.tick(400);
        sync.stripe.set_status(&sale.subscription, status);
        sync.stripe.update(&sale.customer, json!({ "name": status }));
    }
    sync.stripe.bill(&sale.subscription, 1000);
    sync.stripe.coupon("half", 50.0);
    sync.stripe.tick(400);
}

#[tokio::test]
async fn undelivered_events_produce_the_same_rows_as_webhooks() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    live(&sync, &sale);
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    let rows = sync.app.rows().await;
    sync.app.forget_everything().await;
    // only the first two events are delivered
    sync.app.deliver_all(&sync.stripe.events()[..2], Epoch::Endive).await;
    sync.settle().await;
    assert_ne!(sync.app.rows().await, rows);
    let found = compare(&sync).await;
    let events = sync.stripe.events();
    assert_eq!(found.stats.compared, u64::try_from(events.len()).unwrap(), "{events:?}", events = events.len());
    assert_eq!(text(&sync, FOUND).await, format!("{} of {}", events.len() - 2, events.len()));
    sync.settle().await;
    assert_eq!(sync.app.rows().await, rows);
    sync.finish().await;
}

#[tokio::test]
async fn found_events_are_stored_once_with_their_exact_payload() {
    let sync = compared().await;
    let mark = sync.stripe.mark();
    sync.stripe.customer(json!({ "name": "Bo" }));
    sync.stripe.tick(60);
    for inserted in [1, 0, 0] {
        assert_eq!(compare(&sync).await.stats.inserted(), inserted);
    }
    let event = sync.stripe.events_since(mark).remove(0);
    let payload: Vec<u8> = sqlx::query("SELECT payload FROM billing.events WHERE event_id = $1")
        .bind(&event.id)
        .fetch_one(&sync.app.pool)
        .await
        .unwrap()
        .get(0);
    assert_eq!(String::from_utf8(payload).unwrap(), event.json(Epoch::Endive).to_string());
    // Stripe delivers the event later
    sync.app.deliver(&event.json(Epoch::Clover)).await;
    let row = "SELECT concat_ws(' ', source, type, format, object_type, object_id, customer_id, account = '', livemode,
        api_version) FROM billing.outbox WHERE source <> 'webhook'";
    let customer = &event.object;
    let expected = format!("reconcile customer.created snapshot customer {customer} {customer} t f 2026-10-28.endive");
    assert_eq!(text(&sync, row).await, expected);
    sync.settle().await;
    assert_eq!(sync.app.fate(&event.id).await, "done applied -");
    sync.finish().await;
}

#[tokio::test]
async fn a_new_installation_compares_one_hour_and_imports_no_history() {
    let sync = Fetching::start().await;
    let old = sync.sell();
    sync.stripe.tick(3600 + 60);
    sync.stripe.customer(json!({ "name": "Bo" }));
    sync.stripe.tick(60);
    let found = compare(&sync).await;
    assert_eq!((found.stats.compared, found.stats.inserted()), (1, 1), "{found:?} {}", old.customer);
    assert_eq!(found.watermark, Some(at(sync.stripe.now() - super::BEHIND)));
    leave(sync).await;
}

#[tokio::test]
async fn the_first_comparison_starts_at_the_oldest_event_of_30_days() {
    const DAY: i64 = 86_400;
    let sync = Fetching::start().await;
    sync.stripe.customer(json!({ "name": "a month and more ago" }));
    sync.stripe.tick(11 * DAY);
    let mark = sync.stripe.mark();
    sync.stripe.customer(json!({ "name": "the first that is delivered" }));
    let first = sync.stripe.now();
    sync.app.deliver_all(&sync.stripe.events_since(mark), Epoch::Endive).await;
    sync.stripe.tick(10 * DAY);
    sync.stripe.customer(json!({ "name": "missed" }));
    sync.stripe.tick(60);
    let found = compare(&sync).await;
    assert_eq!((found.from, found.stats.compared, found.stats.inserted()), (at(first), 2, 1), "{found:?}");
    assert_eq!(found.gap, None);
    // again with a stored event that is older than Stripe's list
    sync.app.execute("DELETE FROM billing.reconcile_state").await;
    sync.stripe.tick(25 * DAY);
    let mark = sync.stripe.mark();
    sync.stripe.customer(json!({ "name": "delivered" }));
    sync.app.deliver_all(&sync.stripe.events_since(mark), Epoch::Endive).await;
    sync.stripe.tick(60);
    let found = compare(&sync).await;
    let earliest = at(sync.stripe.now() - 1) - billing_sync::reconcile::REACH;
    assert_eq!((found.from, found.gap), (earliest, None), "{found:?}");
    leave(sync).await;
}

#[tokio::test]
async fn events_of_a_connected_account_are_stored_as_its_own() {
    let sync = Fetching::start().await;
    sync.stripe.belong_to("acct_known");
    sync.stripe.customer(json!({ "name": "Ada" }));
    sync.stripe.tick(60);
    let (mut reconcile, never) = (reconcile(&sync), tokio_util::sync::CancellationToken::new());
    reconcile.connected = ["acct_known".to_owned()].into();
    let mut found = Vec::new();
    for account in reconcile.accounts() {
        let mut run = billing_sync::reconcile::run::Run::new(&reconcile, None, &never);
        let compared = run.account(&account, None, &mut |_| ()).await.unwrap().unwrap();
        found.push((account, compared.stats.inserted()));
    }
    assert_eq!(found, [(String::new(), 0), ("acct_known".to_owned(), 1)]);
    sync.settle().await;
    let contact = "SELECT concat_ws(' ', account, name) FROM billing.billing_contacts";
    assert_eq!(text(&sync, contact).await, "acct_known Ada");
    let marks = "SELECT string_agg(concat_ws(' ', account, compared_until IS NOT NULL), ',' ORDER BY account)
        FROM billing.reconcile_state";
    assert_eq!(text(&sync, marks).await, " t,acct_known t");
    sync.finish().await;
}

#[tokio::test]
async fn found_events_wake_the_workers() {
    let sync = compared().await;
    let mut listener = sync.app.pool.listener().await.unwrap();
    listener.listen("billing_sync_outbox").await.unwrap();
    compare(&sync).await;
    sync.stripe.customer(json!({ "name": "Bo" }));
    let began = clock::now();
    compare(&sync).await;
    let notification = tokio::time::timeout(std::time::Duration::from_secs(5), listener.recv());
    notification.await.unwrap_or_else(|_| panic!("no notification since {began}")).unwrap();
    drop(listener);
    leave(sync).await;
}
